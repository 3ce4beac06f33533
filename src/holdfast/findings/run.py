"""From claims to findings: tune, run, read. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.findings.arm import TUNING_WORLDS
from holdfast.findings.claim import Claim, Finding
from holdfast.findings.curves import CURVE_ARMS, StepScores, curves
from holdfast.findings.records import RecordStore
from holdfast.findings.scheduler import (
    ArmRun,
    BaseWorld,
    Measurement,
    arms_of,
    carry_out,
    chosen_rates,
    find,
    runs_of,
    tuning_runs,
)

QUICK_WORLDS = (0, 1, 2, 3)

FULL_WORLDS = tuple(range(10))


@dataclass(frozen=True)
class Findings:
    """The findings, with what they were made of.

    Attributes:
        rates: the chosen learning rate of each arm, by label.
        runs: names of all measurements that they rest on.
        curves: learning and forgetting by step, by label of the arm; empty if not all of their arms were run.
    """

    findings: Sequence[Finding]
    rates: dict[str, float]
    runs: Sequence[str]
    curves: Mapping[str, Sequence[StepScores]]


def decide(
    claims: Sequence[Claim],
    records: RecordStore,
    folder: Path,
    *,
    worlds: Sequence[int],
    full: bool,
    workers: int = 2,
    watch: Callable[[str], None] = lambda line: None,
    minutes: float | None = None,
) -> Findings | None:
    """Test claims. What is recorded is not measured again.

    Args:
        folder: for runs under way. An interrupted run resumes.
        worlds: the worlds in which every claim is tested. With fewer than two, nothing has an interval.
        full: the long form of the streams.
        workers: number of runs at the same time, with one thread each.
        watch: called with lines of progress.
        minutes: start no further run after this time; None for no limit.

    Returns:
        The findings; None if time ran out before all runs were there.

    Raises:
        RunError: a run failed.
    """
    arms = arms_of(claims)
    tuning = tuning_runs(arms, full=full)
    first: list[Measurement] = [*(BaseWorld(world) for world in worlds), *tuning]
    watch(f"{len(first)} measurements on the base and on the tuning worlds {', '.join(map(str, TUNING_WORLDS))}")
    if not carry_out(first, records, folder, workers=workers, watch=watch, minutes=minutes):
        return None
    rates = chosen_rates(arms, records, full=full)
    runs = runs_of(claims, worlds, rates, full=full)
    watch(f"{len(runs)} runs in {len(worlds)} worlds")
    if not carry_out(runs, records, folder, workers=workers, watch=watch, minutes=minutes):
        return None
    names = [each.name for each in (*first, *runs)]
    by_arm = {
        arm.label: [records.run(ArmRun(arm, world, rates[arm.label], full).name) for world in worlds]
        for arm in CURVE_ARMS
        if arm in arms
    }
    drawn = curves(by_arm) if len(by_arm) == len(CURVE_ARMS) else {}
    return Findings(find(claims, worlds, records, full=full), rates, names, drawn)

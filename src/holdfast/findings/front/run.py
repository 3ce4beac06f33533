"""From the arms of the front to where they stand: tune, run, read. Torch-free."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.findings.arm import ClaimArm
from holdfast.findings.front.arms import ORDERS, FrontArm
from holdfast.findings.front.choice import SITUATIONS, Choice, choose
from holdfast.findings.front.pareto import Front, front_of
from holdfast.findings.front.standing import Standing, Untrained, standing, untrained
from holdfast.findings.record import RunRecord
from holdfast.findings.records import RecordStore
from holdfast.findings.scheduler import ArmRun, carry_out, chosen_rates, tuning_runs


@dataclass(frozen=True)
class MeasuredFront:
    """The front with everything that it was made of.

    Attributes:
        worlds: those of the comparison. No rate was chosen in them.
        runs: names of all measurements.
    """

    standings: tuple[Standing, ...]
    base: Untrained
    front: Front
    choices: tuple[Choice, ...]
    worlds: tuple[int, ...]
    runs: tuple[str, ...]


def measure_front(
    arms: Sequence[FrontArm],
    records: RecordStore,
    folder: Path,
    *,
    worlds: Sequence[int],
    workers: int = 2,
    watch: Callable[[str], None] = lambda line: None,
    minutes: float | None = None,
) -> MeasuredFront | None:
    """Measure the front. What is recorded is not measured again.

    Args:
        folder: for runs under way.
        worlds: at least two.
        minutes: start no further run after this time; None for no limit.

    Returns:
        None if time ran out before all runs were there.

    Raises:
        RunError: a run failed.
    """
    first = [arm.first_order for arm in arms]
    tuning = tuning_runs(first, full=True)
    watch(f"{len(tuning)} tuning runs")
    if not carry_out(tuning, records, folder, workers=workers, watch=watch, minutes=minutes):
        return None
    by_label = chosen_rates(first, records, full=True)
    rates = {arm.label: by_label[arm.first_order.label] for arm in arms}
    runs = [
        ArmRun(arm.in_order(order, rates[arm.label]), world, rates[arm.label], True)
        for world in worlds
        for order in ORDERS
        for arm in arms
    ]
    watch(f"{len(runs)} runs of {len(arms)} arms in {len(worlds)} worlds and {len(ORDERS)} orders")
    if not carry_out(runs, records, folder, workers=workers, watch=watch, minutes=minutes):
        return None
    names = tuple(each.name for each in (*tuning, *runs))
    return read_front(arms, rates, records, worlds, names)


def read_front(
    arms: Sequence[FrontArm],
    rates: dict[str, float],
    records: RecordStore,
    worlds: Sequence[int],
    names: tuple[str, ...] = (),
) -> MeasuredFront:
    """The front from finished runs alone.

    Args:
        rates: by the arms' labels.
        names: of the measurements.

    Raises:
        KeyError: a run is missing.
    """

    def record(arm: ClaimArm, world: int) -> RunRecord:
        assert arm.rate is not None  # of an arm in an order
        return records.run(ArmRun(arm, world, arm.rate, True).name)

    standings = tuple(standing(arm, rates[arm.label], record, worlds) for arm in arms)
    choices = (choose(situation, standings) for situation in SITUATIONS)
    return MeasuredFront(
        standings,
        untrained(record, arms[0].in_order(ORDERS[0], rates[arms[0].label]), worlds),
        front_of(standings),
        tuple(choice for choice in choices if choice is not None),
        tuple(worlds),
        names,
    )

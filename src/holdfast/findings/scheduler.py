"""Makes all measurements that claims need: each once, several at a time, resumed if interrupted. Torch-free.

Three rounds follow each other, because each needs the one before: facts about the base and the tuning runs; then all
runs at the chosen rates; then nothing is left but reading.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from holdfast.config.settings import RunConfig
from holdfast.errors import HoldfastError, RunError
from holdfast.findings.arm import TUNING_WORLDS, ClaimArm
from holdfast.findings.claim import Claim, Experiment, Finding
from holdfast.findings.provenance import commit
from holdfast.findings.rates import CHOSEN, choose
from holdfast.findings.records import RecordStore, settings_in
from holdfast.store.files import read_json, write_json
from holdfast.store.run_directory import RunDirectory


class Measurement(Protocol):
    """One unit of work for a worker process."""

    @property
    def name(self) -> str:
        """Its name among the records."""
        ...

    def carry_out(self, folder: Path, by: str | None) -> Mapping[str, Any]:
        """Measure, in a worker process.

        Args:
            folder: for temporary files.
            by: the commit of this code.
        """
        ...


@dataclass(frozen=True)
class ArmRun:
    """One run of an arm in a world, at a learning rate."""

    arm: ClaimArm
    world: int
    rate: float
    full: bool

    @property
    def config(self) -> RunConfig:
        return self.arm.config(self.world, self.rate, full=self.full)

    @property
    def name(self) -> str:
        """Label, world and a hash of the settings, so that a run with other settings is not taken for this one. The
        name of what else is measured in it comes last.

        Defaults are not in the hash: a new setting with its default leaves all finished runs valid. A default that
        changes what runs do raises `holdfast.findings.record.VERSION`.
        """
        settings = self.arm.settings_of_run(self.world, self.rate, full=self.full)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
        more = "" if self.arm.extra is None or self.world in TUNING_WORLDS else f"+{self.arm.extra.__name__}"
        return f"{self.arm.label.replace('/', '-')}-w{self.world}-{digest}{more}"

    def carry_out(self, folder: Path, by: str | None) -> Mapping[str, Any]:
        """Start or resume the run, read its record, and remove it: models of a thousand runs would fill a disk."""
        from holdfast.findings.measure_run import record_of
        from holdfast.stop import listening
        from holdfast.stream.compare import baseline_of
        from holdfast.stream.run import Run, open_run

        directory, config = RunDirectory(folder / self.name), self.config
        before = folder / "before" / f"{beginning_of(config)}.json"
        with listening():
            known = read_json(before) if before.exists() else None
            if directory.manifest.exists():
                run = open_run(directory.path)
                run.baseline = known
                run.resume()
            else:
                shutil.rmtree(directory.path, ignore_errors=True)
                Run(config, directory, baseline=known).start()
        record = record_of(self.arm, self.world, self.rate, directory, by)
        if known is None:
            write_json(before, baseline_of(directory))
        shutil.rmtree(directory.path)
        return record


@dataclass(frozen=True)
class BaseWorld:
    """The facts about the base in a world."""

    world: int

    @property
    def name(self) -> str:
        return f"base-w{self.world}"

    def carry_out(self, folder: Path, by: str | None) -> Mapping[str, Any]:
        """Measure them."""
        from holdfast.findings.base_facts import base_facts

        return {"facts": base_facts(self.world), "commit": by}


@dataclass(frozen=True)
class ExperimentIn:
    """A claim's measurement without runs, in a world.

    Attributes:
        claim: its name alone: a claim's quantities cannot be sent to another process.
    """

    claim: str
    experiment: Experiment
    world: int

    @property
    def name(self) -> str:
        return f"{self.claim}-w{self.world}"

    def carry_out(self, folder: Path, by: str | None) -> Mapping[str, Any]:
        """Measure."""
        return {"values": list(self.experiment(self.world)), "commit": by}


def beginning_of(config: RunConfig) -> str:
    """A hash of the evaluation before the first stage. Runs with the same hash share that evaluation."""
    parts = (config.model, config.tasks, config.suites, config.eval, config.seed)
    text = "\n".join(repr(part) for part in parts) + repr(
        (config.train.max_prompt_length, config.train.max_completion_length, config.train.long_prompts)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def arms_of(claims: Iterable[Claim]) -> list[ClaimArm]:
    """All arms that claims need, each once.

    Raises:
        ValueError: two arms share a label.
    """
    arms: dict[str, ClaimArm] = {}
    for claim in claims:
        for arm in claim.arms:
            if arms.setdefault(arm.label, arm) != arm:
                raise ValueError(f"two claims define the arm {arm.label!r} differently")
    return list(arms.values())


def tuning_runs(arms: Iterable[ClaimArm], *, full: bool) -> list[ArmRun]:
    """The runs from which the rates are chosen. The quick form has none for arms whose rate is known."""
    return [
        ArmRun(arm, world, rate, full)
        for world in TUNING_WORLDS
        for arm in arms
        if arm.rate is None and (full or arm.label not in CHOSEN)
        for rate in arm.rates
    ]


def chosen_rates(arms: Iterable[ClaimArm], records: RecordStore, *, full: bool) -> dict[str, float]:
    """The learning rate of each arm by label; see `holdfast.findings.rates`.

    Raises:
        KeyError: a tuning run is missing.
    """
    chosen = {}
    for arm in arms:
        if not full and arm.label in CHOSEN:
            chosen[arm.label] = CHOSEN[arm.label]
            continue
        by_rate = {
            rate: [records.run(ArmRun(arm, world, rate, full).name) for world in TUNING_WORLDS]
            for rate in (arm.rates if arm.rate is None else ())
        }
        chosen[arm.label] = choose(arm, by_rate)
    return chosen


def carry_out(
    measurements: Sequence[Measurement],
    records: RecordStore,
    folder: Path,
    *,
    workers: int,
    watch: Callable[[str], None],
    minutes: float | None = None,
) -> bool:
    """Make the measurements that are missing, `workers` at a time with one thread each.

    Args:
        folder: for runs under way.
        watch: called with a line of progress after each of them.
        minutes: start no further measurement after this time; None for no limit.

    Returns:
        Whether all are there now.

    Raises:
        RunError: a measurement failed. Those that had started have ended by then.
    """
    missing = [each for each in distinct(measurements) if each.name not in records]
    if not missing:
        return True
    started, done = time.perf_counter(), 0
    by, waiting = commit(), iter(missing)

    def late() -> bool:
        return minutes is not None and time.perf_counter() - started > 60 * minutes

    # A process takes seconds to start, as long as some runs take. So each process carries out many runs.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin) as pool:
        under_way: dict[Future[Mapping[str, Any]], Measurement] = {}

        def start_next() -> None:
            each = None if late() else next(waiting, None)
            if each is not None:
                under_way[pool.submit(_carried_out, each, folder, by)] = each

        for _ in range(workers):
            start_next()
        while under_way:
            future = next(as_completed(under_way))
            each = under_way.pop(future)
            records.write(each.name, future.result())
            done += 1
            spent = time.perf_counter() - started
            left = spent / done * (len(missing) - done)
            watch(f"{done} of {len(missing)} ({each.name}), {spent / 60:.0f} min, about {left / 60:.0f} min left")
            start_next()
    return done == len(missing)


def distinct(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Without those that are the same run under another label, or a part of what another one measures."""
    kept: dict[str, Measurement] = {}
    for each in measurements:
        kept.setdefault(settings_in(each.name) or each.name, each)
    parts = {alone for each in measurements if (alone := settings_in(each.name, alone=True)) != settings_in(each.name)}
    return [each for key, each in kept.items() if key not in parts]


def find(claims: Sequence[Claim], worlds: Sequence[int], records: RecordStore, *, full: bool) -> list[Finding]:
    """The findings, from finished measurements alone.

    Raises:
        KeyError: a measurement is missing.
    """
    arms = arms_of(claims)
    rates = chosen_rates(arms, records, full=full)
    findings = []
    for claim in claims:
        preconditions = [each.check([records[f"base-w{w}"]["facts"] for w in worlds]) for each in claim.preconditions]
        if claim.experiment is not None:
            names = [ExperimentIn(claim.name, claim.experiment, world).name for world in worlds]
            values = [records[name]["values"] for name in names]
            measured = [
                quantity.with_values([own[place] for own in values]) for place, quantity in enumerate(claim.quantities)
            ]
        else:
            runs = [
                {arm.label: records.run(ArmRun(arm, world, rates[arm.label], full).name) for arm in claim.arms}
                for world in worlds
            ]
            measured = [quantity.of(runs) for quantity in claim.quantities]
        findings.append(Finding(claim, measured, preconditions))
    return findings


def runs_of(
    claims: Sequence[Claim], worlds: Sequence[int], rates: Mapping[str, float], *, full: bool
) -> list[Measurement]:
    """The runs and experiments of all claims, world by world, so that an interrupted form has whole worlds."""
    arms = arms_of(claims)
    measurements: list[Measurement] = []
    for world in worlds:
        measurements += [ArmRun(arm, world, rates[arm.label], full) for arm in arms]
        measurements += [ExperimentIn(c.name, c.experiment, world) for c in claims if c.experiment is not None]
    return measurements


def _begin() -> None:
    """Set up a worker process, before torch is imported there."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from holdfast.model.quiet import silence_progress_bars

    silence_progress_bars()


def _end_with_parent() -> None:
    """End this process with its parent. Otherwise a pool's processes outlive a killed command and continue their
    runs."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _carried_out(each: Measurement, folder: Path, by: str | None) -> Mapping[str, Any]:
    try:
        return each.carry_out(folder, by)
    except Exception as error:
        problem = str(error) if isinstance(error, HoldfastError) else f"{type(error).__name__}: {error}"
        fix = "finished runs are kept; run the command again"
        raise RunError(problem, where=f"run {each.name}", fix=fix) from error

"""Carries out the runs that claims need: each once, several at a time, resumed if interrupted. Torch-free."""

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import yaml

from holdfast.config.load import dump_config, parse_config
from holdfast.config.overrides import apply_overrides
from holdfast.config.settings import RunConfig
from holdfast.errors import HoldfastError, RunError
from holdfast.findings.claim import Claim, ClaimArm, Evidence, Experiment, Quantity
from holdfast.findings.provenance import commit, sign
from holdfast.store.files import read_json, write_json
from holdfast.store.run_directory import RunDirectory
from holdfast.summary.read import read_summary

STREAM: Mapping[str, Any] = {
    "name": "findings",
    "model": {"path": "lab"},
    "tasks": ["lab:calculation", "lab:tools"],
    "suites": ["lab:old-skills", "lab:old-facts", "lab:in-context", "lab:instruction-format"],
    "train": {
        "steps": 20,
        "prompts_per_step": 5,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "linear",
        "max_prompt_length": 160,
        "max_completion_length": 48,
        "save_steps": 1000,
    },
    "eval": {
        "max_items": 40,
        "kl_items": 16,
        "response_items": 0,
        "drift_weights": 0,
        "probe_steps": 10,
        "probe_items": 24,
        "samples": 0,
    },
}
"""The settings that every experiment starts from: two stages on the lab, one probe in the middle, about 10 s on one
core."""

FULL: Mapping[str, Any] = {
    "train.steps": 30,
    "train.prompts_per_step": 8,
    "eval.max_items": 192,
    "eval.kl_items": 48,
    "eval.probe_steps": 5,
    "eval.probe_items": 96,
}
"""The full form trains longer on more prompts and measures on more items."""


@dataclass(frozen=True)
class Job:
    """One run of one arm."""

    arm: ClaimArm
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """Label, seed and a hash of the settings, so that a run with other settings is not reused for this one."""
        digest = hashlib.sha256(dump_config(self.config).encode()).hexdigest()[:10]
        return f"{self.arm.label.replace('/', '-')}-s{self.seed}-{digest}"


def job(arm: ClaimArm, seed: int, *, full: bool) -> Job:
    """The run of an arm with one seed.

    Raises:
        ConfigError: the arm's settings are not a valid configuration.
    """
    changes = {**FULL, **arm.settings, **arm.full} if full else arm.settings
    data = apply_overrides({**STREAM, "recipe": arm.recipe}, changes)
    return Job(arm, seed, parse_config({**data, "seed": seed}, RunConfig, where=f"arm {arm.label!r}"))


def jobs_of(claims: Iterable[Claim], seeds: Sequence[int], *, full: bool) -> list[Job]:
    """All runs that claims need, each once, ordered by seed."""
    arms: dict[str, ClaimArm] = {}
    for claim in claims:
        for arm in claim.taken(full=full):
            if arms.setdefault(arm.label, arm) != arm:
                raise ValueError(f"two claims define the arm {arm.label!r} differently")
    return [job(arm, seed, full=full) for seed in seeds for arm in arms.values()]


def carry_out(jobs: Sequence[Job], folder: Path, *, workers: int, on_done: Callable[[Job], None]) -> None:
    """Complete every run in its own folder, `workers` at a time with one thread each.

    Raises:
        RunError: a run failed. Runs that had started have ended by then.
    """
    missing: list[Job] = []
    for each in jobs:
        if _is_complete(RunDirectory(folder / each.name)):
            on_done(each)
        else:
            missing.append(each)
    places, texts = [folder / each.name for each in missing], [dump_config(each.config) for each in missing]
    befores = [folder / "before" / f"{beginning_of(each.config)}.json" for each in missing]
    # A process takes seconds to start, as long as some runs take. So each process carries out many runs.
    by = repeat(commit())
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin) as pool:
        carried_out = pool.map(_finish, places, texts, befores, by)
        for each, _ in zip(missing, carried_out, strict=True):
            on_done(each)


def carry_out_apart(claims: Sequence[Claim], seeds: Sequence[int], *, workers: int) -> dict[str, list[Quantity]]:
    """Quantities of the claims that need no runs, by claim name. Each seed is one task for a process with one
    thread."""
    experiments = [(claim.name, claim.experiment) for claim in claims if claim.experiment is not None]
    if not experiments:
        return {}
    each = [(experiment, seed) for _, experiment in experiments for seed in seeds]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin) as pool:
        measured = list(pool.map(_measure, *zip(*each, strict=True)))
    by_claim = [measured[place * len(seeds) : (place + 1) * len(seeds)] for place in range(len(experiments))]
    return {name: [_joined(parts) for parts in zip(*own, strict=True)] for (name, _), own in zip(experiments, by_claim)}


def _measure(experiment: Experiment, seed: int) -> list[Quantity]:
    return experiment([seed])


def _joined(parts: Sequence[Quantity]) -> Quantity:
    """One quantity from the same quantity of each seed."""
    return replace(parts[0], values=[value for part in parts for value in part.values])


def evidence(claim: Claim, seeds: Sequence[int], folder: Path, *, full: bool) -> Evidence:
    """The finished runs of a claim."""
    places = {arm.label: [folder / job(arm, seed, full=full).name for seed in seeds] for arm in claim.taken(full=full)}
    summaries = {label: [read_summary(RunDirectory(p).summary) for p in paths] for label, paths in places.items()}
    return Evidence(summaries, places)


def _is_complete(directory: RunDirectory) -> bool:
    return directory.summary.exists() and read_summary(directory.summary)["status"] == "complete"


def beginning_of(config: RunConfig) -> str:
    """A hash of the evaluation before the first stage. Runs with the same hash share that evaluation."""
    data = config.model_dump(mode="json")
    evaluation = {name: data[name] for name in ("model", "suites", "eval")}
    evaluation["tasks"] = sorted(data["tasks"], key=json.dumps)
    evaluation["lengths"] = [
        data["train"][name] for name in ("max_prompt_length", "max_completion_length", "long_prompts")
    ]
    return hashlib.sha256(json.dumps(evaluation, sort_keys=True).encode()).hexdigest()[:10]


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


def _finish(path: Path, text: str, before: Path, by: str | None) -> None:
    """Start or resume a run and complete it. It gets no report, because only its summary is read.

    Args:
        before: file with the shared evaluation before the first stage; written if it does not exist.
        by: the commit of this code.
    """
    from holdfast.stop import listening
    from holdfast.stream.compare import baseline_of
    from holdfast.stream.run import Run, open_run

    directory = RunDirectory(path)
    try:
        with listening():
            known = read_json(before) if before.exists() else None
            if directory.config.exists():
                run = open_run(path)
                run.baseline = known
                run.resume()
            else:
                Run(parse_config(yaml.safe_load(text), RunConfig), directory, baseline=known).start()
            sign(path, by)
            if known is None:
                write_json(before, baseline_of(directory))
    except Exception as error:
        problem = str(error) if isinstance(error, HoldfastError) else f"{type(error).__name__}: {error}"
        fix = "finished runs are kept; run the command again"
        raise RunError(problem, where=f"run {path.name}", fix=fix) from error

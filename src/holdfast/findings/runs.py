"""Carrying out the runs that claims ask for: each once, some at a time, gone on with where one stopped. Torch-free."""

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
"""What every experiment begins with: two stages on the lab, probed in its middle, some ten seconds on one core."""

FULL: Mapping[str, Any] = {
    "train.steps": 30,
    "train.prompts_per_step": 8,
    "eval.max_items": 192,
    "eval.kl_items": 48,
    "eval.probe_steps": 5,
    "eval.probe_items": 96,
}
"""What the full form trains longer on more prompts, and measures more closely."""


@dataclass(frozen=True)
class Job:
    """One run of one arm."""

    arm: ClaimArm
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """Names the settings too: a run made under others is not taken for this one."""
        digest = hashlib.sha256(dump_config(self.config).encode()).hexdigest()[:10]
        return f"{self.arm.label.replace('/', '-')}-s{self.seed}-{digest}"


def job(arm: ClaimArm, seed: int, *, full: bool) -> Job:
    """The run of an arm with a seed.

    Raises:
        ConfigError: the arm's settings are no configuration.
    """
    changes = {**FULL, **arm.settings, **arm.full} if full else arm.settings
    data = apply_overrides({**STREAM, "recipe": arm.recipe}, changes)
    return Job(arm, seed, parse_config({**data, "seed": seed}, RunConfig, where=f"arm {arm.label!r}"))


def jobs_of(claims: Iterable[Claim], seeds: Sequence[int], *, full: bool) -> list[Job]:
    """All runs that claims take, each once; those of one seed before those of the next."""
    arms: dict[str, ClaimArm] = {}
    for claim in claims:
        for arm in claim.taken(full=full):
            if arms.setdefault(arm.label, arm) != arm:
                raise ValueError(f"two claims mean different things by the arm {arm.label!r}")
    return [job(arm, seed, full=full) for seed in seeds for arm in arms.values()]


def carry_out(jobs: Sequence[Job], folder: Path, *, workers: int, on_done: Callable[[Job], None]) -> None:
    """Bring every run to its end in a folder of its own, `workers` at a time with one thread each.

    Raises:
        RunError: one failed; the others that were under way have been waited for.
    """
    missing: list[Job] = []
    for each in jobs:
        if _is_complete(RunDirectory(folder / each.name)):
            on_done(each)
        else:
            missing.append(each)
    places, texts = [folder / each.name for each in missing], [dump_config(each.config) for each in missing]
    befores = [folder / "before" / f"{beginning_of(each.config)}.json" for each in missing]
    # A process starts for several seconds, as long as some runs take, so that each carries out many.
    by = repeat(commit())
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin) as pool:
        carried_out = pool.map(_finish, places, texts, befores, by)
        for each, _ in zip(missing, carried_out, strict=True):
            on_done(each)


def carry_out_apart(claims: Sequence[Claim], seeds: Sequence[int], *, workers: int) -> dict[str, list[Quantity]]:
    """Quantities of claims that are measured without runs, by name; each seed in a process, with one thread."""
    asked = [(claim.name, claim.experiment) for claim in claims if claim.experiment is not None]
    if not asked:
        return {}
    each = [(experiment, seed) for _, experiment in asked for seed in seeds]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin) as pool:
        found = list(pool.map(_measure, *zip(*each, strict=True)))
    by_claim = [found[place * len(seeds) : (place + 1) * len(seeds)] for place in range(len(asked))]
    return {name: [_joined(parts) for parts in zip(*own, strict=True)] for (name, _), own in zip(asked, by_claim)}


def _measure(experiment: Experiment, seed: int) -> list[Quantity]:
    return experiment([seed])


def _joined(parts: Sequence[Quantity]) -> Quantity:
    """One quantity of what was measured seed by seed."""
    return replace(parts[0], values=[value for part in parts for value in part.values])


def evidence(claim: Claim, seeds: Sequence[int], folder: Path, *, full: bool) -> Evidence:
    """The finished runs of a claim."""
    places = {arm.label: [folder / job(arm, seed, full=full).name for seed in seeds] for arm in claim.taken(full=full)}
    summaries = {label: [read_summary(RunDirectory(p).summary) for p in paths] for label, paths in places.items()}
    return Evidence(summaries, places)


def _is_complete(directory: RunDirectory) -> bool:
    return directory.summary.exists() and read_summary(directory.summary)["status"] == "complete"


def beginning_of(config: RunConfig) -> str:
    """Names what is asked of the model before the first stage; runs that ask the same share what was found."""
    data = config.model_dump(mode="json")
    asked = {name: data[name] for name in ("model", "suites", "eval")}
    asked["tasks"] = sorted(data["tasks"], key=json.dumps)
    asked["lengths"] = [data["train"][name] for name in ("max_prompt_length", "max_completion_length", "long_prompts")]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:10]


def _begin() -> None:
    """In a new process, before torch is imported there."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from holdfast.model.quiet import silence_progress_bars

    silence_progress_bars()


def _end_with_parent() -> None:
    """A pool's processes would outlive a command that is killed, and go on with what they have been handed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _finish(path: Path, text: str, before: Path, by: str | None) -> None:
    """Bring a run to its end, or one that was stopped. Nobody reads its report, so that it gets none.

    Args:
        before: what runs that ask the same have found before their first stage; written where it is missing.
        by: the commit whose code this is.
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
        said = str(error) if isinstance(error, HoldfastError) else f"{type(error).__name__}: {error}"
        fix = "the finished runs are kept; give the command again"
        raise RunError(said, where=f"run {path.name}", fix=fix) from error

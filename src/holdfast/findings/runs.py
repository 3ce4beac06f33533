"""Carrying out the runs that claims ask for: each once, some at a time, gone on with where one stopped. Torch-free."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.config import RunConfig, dump_config, parse_config
from holdfast.errors import RunError
from holdfast.findings.claim import Arm, Claim, Evidence
from holdfast.overrides import apply_overrides
from holdfast.store import RunDirectory, read_json, write_text

STREAM: Mapping[str, Any] = {
    "name": "findings",
    "model": {"path": "lab"},
    "tasks": ["lab:calculation", "lab:tools"],
    "suites": ["lab:old-skills", "lab:old-facts", "lab:in-context", "lab:instruction-format"],
    "train": {
        "steps": 30,
        "prompts_per_step": 16,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "linear",
        "max_prompt_length": 160,
        "max_completion_length": 48,
        "save_steps": 1000,
    },
    "eval": {"max_items": 96, "kl_items": 16, "probe_steps": 10, "probe_items": 48, "samples": 0},
}
"""What every experiment begins with: two stages on the lab, probed every ten steps, some twenty seconds on one core."""

FULL: Mapping[str, Any] = {
    "eval.max_items": 320,
    "eval.kl_items": 64,
    "eval.probe_steps": 5,
    "eval.probe_items": 128,
}
"""What the full form measures more closely."""


@dataclass(frozen=True)
class Job:
    """One run of one arm."""

    arm: Arm
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """Names the settings too: a run made under others is not taken for this one."""
        digest = hashlib.sha256(dump_config(self.config).encode()).hexdigest()[:10]
        return f"{self.arm.label.replace('/', '-')}-s{self.seed}-{digest}"


def job(arm: Arm, seed: int, *, full: bool) -> Job:
    """The run of an arm with a seed.

    Raises:
        ConfigError: the arm's settings are no configuration.
    """
    changes = {**(FULL if full else {}), **arm.settings}
    data = apply_overrides({**STREAM, "recipe": arm.recipe}, changes)
    return Job(arm, seed, parse_config({**data, "seed": seed}, RunConfig, where=f"arm {arm.label!r}"))


def jobs_of(claims: Iterable[Claim], seeds: Sequence[int], *, full: bool) -> list[Job]:
    """All runs that claims take, each once; those of one seed before those of the next."""
    arms: dict[str, Arm] = {}
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
    with ThreadPoolExecutor(workers) as pool:
        for each, _ in zip(jobs, pool.map(lambda one: _finish(one, folder), jobs), strict=True):
            on_done(each)


def evidence(claim: Claim, seeds: Sequence[int], folder: Path, *, full: bool) -> Evidence:
    """The finished runs of a claim."""
    places = {arm.label: [folder / job(arm, seed, full=full).name for seed in seeds] for arm in claim.taken(full=full)}
    summaries = {label: [read_json(RunDirectory(p).summary) for p in paths] for label, paths in places.items()}
    return Evidence(summaries, places)


def _finish(one: Job, folder: Path) -> None:
    directory = RunDirectory(folder / one.name)
    if directory.summary.exists() and read_json(directory.summary)["status"] == "complete":
        return
    if directory.config.exists():
        arguments = ["resume", str(directory.path)]
    else:
        config = folder / f"{one.name}.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        write_text(config, dump_config(one.config))
        arguments = ["run", str(config), "--output-dir", str(directory.path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", *arguments, "--quiet"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("holdfast: ")
        raise RunError(said, where=f"run {one.name}", mend="the finished runs are kept; give the command again")

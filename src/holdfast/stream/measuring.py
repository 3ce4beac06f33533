"""What a run measures of its model, within stages and at their ends, and where it keeps that."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.measure.summary import json_safe
from holdfast.store import RunDirectory, write_json
from holdfast.stream.evaluate import Evaluator
from holdfast.stream.observer import Observer
from holdfast.tasks.base import Suite, Task
from holdfast.train.world import World


class Measuring:
    """Probes within stages and the evaluation at their ends.

    Args:
        baseline: the evaluation before the first stage as an earlier run with the same model and sets found it.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        directory: RunDirectory,
        tasks: Sequence[Task],
        suites: Sequence[Suite],
        observer: Observer,
        baseline: Mapping[str, Any] | None = None,
    ) -> None:
        self.evaluator, self.directory, self.observer, self.baseline = evaluator, directory, observer, baseline
        self.tasks, self.suites = tasks, suites
        self.settings, self.world = evaluator.settings, World.current()

    def probe_is_due(self, step: int, steps: int) -> bool:
        """Whether a stage of so many steps is probed after this one; its ends are evaluated in full anyway."""
        every = self.settings.probe_steps
        return bool(every) and 0 < step < steps and step % every == 0

    def probe(self, stage: int, step: int) -> dict[str, Any]:
        """Probe after a step of a stage; one that an interrupted process has made already is taken from the log."""

        def made_before() -> dict[str, Any] | None:
            probes = self.directory.records("probes.jsonl")
            return next((p for p in probes if (p["stage"], p["step"]) == (stage, step)), None)

        if (known := self.world.main(made_before)) is not None:
            return known
        started = time.perf_counter()
        retention = [suite for suite in self.suites if suite.kind == "retention"]
        scores = self.evaluator.probe(self.tasks[:stage], retention)
        kl = None
        if self.evaluator.base is not None and self.settings.kl_items:
            kl = sum(self.evaluator.kl_to_base(task)[0] for task in self.tasks) / len(self.tasks)
        record = {"stage": stage, "step": step, "task": self.tasks[stage - 1].name, "scores": scores, "kl_to_base": kl}
        record["seconds"] = time.perf_counter() - started
        self.world.main(lambda: self.directory.append("probes.jsonl", record))
        return record

    def evaluate(self, stage: int) -> None:
        """Evaluate everything after a stage (0: before the first)."""
        started = time.perf_counter()
        self.observer.evaluation_started(stage, len(self.tasks) + len(self.suites))
        if stage == 0 and self.baseline is not None:
            result = dict(self.baseline) | {"seconds": 0.0}
        else:
            task = self.tasks[stage - 1].name if stage else None
            result = self.evaluator.evaluate(stage, task, self.tasks, self.suites).as_json()
            result["seconds"] = time.perf_counter() - started
        self.world.main(lambda: write_json(self.directory.evaluation(stage), json_safe(result)))
        self.observer.evaluation_done(stage, {name: s["mean"] for name, s in result["sets"].items()})

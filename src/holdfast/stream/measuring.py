"""What a run measures of its model, within stages and at their ends, and where it keeps that."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast import stop
from holdfast.config.settings import ModelSettings
from holdfast.data.task import Suite, Task
from holdfast.errors import ModelError
from holdfast.evaluate.drift import MatrixDrift, drift
from holdfast.evaluate.drift.stages import drift_entry
from holdfast.evaluate.embedding import Embedder, compare_embeddings
from holdfast.evaluate.evaluator import Evaluation, Evaluator
from holdfast.model.processes import Processes
from holdfast.store.files import json_safe, read_json, write_json
from holdfast.store.model_folder import hub_folder
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.observer import Observer
from holdfast.summary.responses import Answers, stage_record


class Measuring:
    """Probes within stages and the evaluation at their ends.

    Args:
        baseline: the evaluation before the first stage as an earlier run with the same model and sets found it.
        model: which the run begins with; the lab's base where it is left out.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        directory: RunDirectory,
        tasks: Sequence[Task],
        suites: Sequence[Suite],
        observer: Observer,
        baseline: Mapping[str, Any] | None = None,
        model: ModelSettings | None = None,
    ) -> None:
        self.model = model or ModelSettings()
        self.evaluator, self.directory, self.observer, self.baseline = evaluator, directory, observer, baseline
        self.tasks, self.suites = tasks, suites
        self.settings, self.world = evaluator.settings, Processes.current()
        self._embedder: Embedder | None = None
        self.world.main(self._load_embedder)

    def _load_embedder(self) -> None:
        """Before anything is trained, so that a wrong name is told at once; one process has the answers of all."""
        if self.settings.embedder is not None and self.settings.response_items:
            self._embedder = Embedder(self.settings.embedder)

    def probe_is_due(self, step: int, steps: int) -> bool:
        """Whether a stage of so many steps is probed after this one; its ends are evaluated in full anyway."""
        every = self.settings.probe_steps
        return bool(every) and 0 < step < steps and step % every == 0

    def probe(self, stage: int, step: int) -> dict[str, Any] | None:
        """Probe after a step of a stage; None where an interrupted process has done so already."""

        def made_before() -> bool:
            return any((p["stage"], p["step"]) == (stage, step) for p in self.directory.records("probes.jsonl"))

        if self.world.main(made_before):
            return None
        started = time.perf_counter()
        retention = [suite for suite in self.suites if suite.kind == "retention"]
        scores, answers = self.evaluator.probe(self.tasks[:stage], retention)
        base, kl = self.evaluator.base, None
        if base is not None and self.settings.kl_items:
            kl = sum(self.evaluator.kl_to_base(task).mean for task in self.tasks) / len(self.tasks)
        record = {"stage": stage, "step": step, "task": self.tasks[stage - 1].name, "scores": scores, "kl_to_base": kl}
        record["relative_norm"] = None if base is None else base.relative_distance()
        record["answers"] = answers
        record["seconds"] = time.perf_counter() - started
        self.world.main(lambda: self.directory.append("probes.jsonl", record))
        return record

    def retention_before(self) -> tuple[dict[str, float], dict[str, int]]:
        """Mean score of a probe's items of each retention suite before the first stage, once that is evaluated.

        And how many items these are: a suite may have fewer than a probe would take.
        """
        items = read_json(self.directory.evaluation(0))["items"]
        names = [suite.name for suite in self.suites if suite.kind == "retention"]
        first = {name: items.get(name, [])[: self.settings.probe_items] for name in names}
        known = {name: values for name, values in first.items() if values}
        means = {name: sum(values) / len(values) for name, values in known.items()}
        return means, {name: len(values) for name, values in known.items()}

    def evaluate(self, stage: int) -> None:
        """Evaluate everything after a stage (0: before the first), whose model has been saved."""
        started = time.perf_counter()
        self.observer.evaluation_started(stage, len(self.tasks) + len(self.suites))
        result: dict[str, Any]
        if stage == 0 and self.baseline is not None:
            result = {key: value for key, value in self.baseline.items() if key != "responses"} | {"seconds": 0.0}
            if (answers := self.baseline.get("responses")) is not None:
                self.world.main(lambda: write_json(self.directory.responses(0), answers))
        else:
            task = self.tasks[stage - 1].name if stage else None
            found = self.evaluator.evaluate(stage, task, self.tasks, self.suites)
            self._compare_answers(found)
            if stage and self.settings.drift_weights:
                self._measure_drift(stage)
            result = found.as_json() | {"seconds": time.perf_counter() - started}
        self.world.main(lambda: write_json(self.directory.evaluation(stage), json_safe(result)))
        self.observer.evaluation_done(stage, {name: s["mean"] for name, s in result["sets"].items()})

    def _compare_answers(self, found: Evaluation) -> None:
        """Write down greedy answers, and how they compare with those before the first stage."""
        if not any(found.answers.values()):
            return

        def write() -> None:
            base = read_json(self.directory.responses(0))["answers"] if found.stage else found.answers
            kinds: dict[str, str] = {task.name: "task" for task in self.tasks}
            kinds |= {suite.name: suite.kind for suite in self.suites}
            shown = {t.name: [e.demonstration for e in t.train if e.demonstration is not None] for t in self.tasks}
            like = self._similarity(base, found.answers) if found.stage else {}
            record = stage_record(found.stage, found.task, found.answers, found.kl, base, kinds, shown, like)
            write_json(self.directory.responses(found.stage), json_safe(record))

        self.world.main(write)

    def _similarity(self, base: Answers, own: Answers) -> dict[str, dict[str, Any]]:
        """How alike the embeddings of answers are, by set; nothing where no embedding model is named."""
        if self._embedder is None:
            return {}
        texts = {name: ([a["text"] for a in base[name]], [a["text"] for a in answers]) for name, answers in own.items()}
        return {name: compare_embeddings(self._embedder, *sides) for name, sides in texts.items()}

    def _measure_drift(self, stage: int) -> None:
        """Compare a stage's saved weights with the base's; under LoRA base and adapter, which are not rounded."""
        folders = [self.directory.model(number) for number in range(1, stage + 1)]
        if self.model.lora is not None:
            folders = [folder / "adapter" for folder in folders]
        base = self.model.path
        try:
            if self.model.revision is not None and not Path(base).is_dir():
                base = str(hub_folder(base, self.model.revision))
            found = drift(
                base,
                folders[-1],
                earlier=folders[:-1],
                budget=self.settings.drift_weights,
                share=self._shared,
                progress=lambda *_: stop.poll(),
            )
        except ModelError as error:  # a run of hours does not end for want of a measurement
            warnings.warn(f"drift after stage {stage} could not be measured: {error}", stacklevel=2)
            return
        entry = drift_entry(found, stage, self.tasks[stage - 1].name)
        record = _relative(json_safe(found.as_json() | {"entry": entry}), f"{self.directory.path}/")
        self.world.main(lambda: write_json(self.directory.drift(stage), record))

    def _shared(self, measure: Callable[[Sequence[str]], list[MatrixDrift]], names: Sequence[str]) -> list[MatrixDrift]:
        parts = self.world.each(lambda: measure(self.world.share(names)))
        return [each for part in parts for each in part]


def _relative(value: Any, folder: str) -> Any:
    """Plain data with the paths within a run given from its folder, so that they hold where it is moved to."""
    if isinstance(value, dict):
        return {key.removeprefix(folder): _relative(each, folder) for key, each in value.items()}
    if isinstance(value, list):
        return [_relative(each, folder) for each in value]
    return value.removeprefix(folder) if isinstance(value, str) else value

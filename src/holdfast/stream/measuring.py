"""Measures the model of a run within stages (probes) and after them (evaluations), and writes the results."""

import math
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from holdfast import stop
from holdfast.config.settings import ModelSettings
from holdfast.data.task import Suite, Task
from holdfast.errors import ModelError, RunError
from holdfast.evaluation.demonstration_distance import demonstration_distances
from holdfast.evaluation.drift import MatrixDrift, drift
from holdfast.evaluation.drift.stages import drift_entry
from holdfast.evaluation.embedding import Embedder, compare_embeddings
from holdfast.evaluation.evaluator import Evaluation, Evaluator
from holdfast.model.folders import is_adapter
from holdfast.model.processes import Processes
from holdfast.store.files import json_safe
from holdfast.store.model_folder import hub_folder, locate
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.intact import evaluation_of
from holdfast.stream.kept_weights import KeptWeights
from holdfast.stream.logs import steps_before
from holdfast.stream.observer import Observer
from holdfast.summary.guard_rules import stage_end_record
from holdfast.summary.responses import Answers, stage_record


class Measuring:
    """Probes within stages and evaluations after them.

    Args:
        baseline: the evaluation before the first stage, from an earlier run with the same model and sets.
        model: the model that the run starts from; by default the lab's base.
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
        self.kept = KeptWeights(directory.kept_weights, evaluator.policy)
        self._checkpoint = 0
        """The step of the stage's newest checkpoint, which an interrupted run would resume from."""
        self._embedder: Embedder | None = None
        self.world.main(self._load_embedder)

    def _load_embedder(self) -> None:
        """Load the embedding model before training, so that a wrong name fails at once. The main process has it."""
        if self.settings.embedder is not None and self.settings.response_items:
            self._embedder = Embedder(self.settings.embedder)

    def probe_is_due(self, step: int, steps: int) -> bool:
        """Whether a stage of `steps` steps is probed after this one. Its two ends are evaluated in full instead."""
        every = self.settings.probe_steps
        return bool(every) and 0 < step < steps and step % every == 0

    def probe(self, stage: int, step: int) -> dict[str, Any] | None:
        """Probe after a step of a stage. None if an interrupted process has probed it already."""

        def is_probed() -> bool:
            return any((p["stage"], p["step"]) == (stage, step) for p in self.directory.records("probes.jsonl"))

        # The newest checkpoint may be from before a probe that is already in the log.
        record = None if self.world.main(is_probed) else self._measure(stage, step)
        self.refine(stage, step)
        return record

    def _measure(self, stage: int, step: int, *, refines: bool = False) -> dict[str, Any]:
        """Probe the current weights, and log it.

        Args:
            refines: a later step has been probed already. KL to the base is left out, as no match needs it.
        """
        started = time.perf_counter()
        retention = [suite for suite in self.suites if suite.kind == "retention"]
        probed = self.evaluator.probe(self.tasks[:stage], retention)
        base, kl = self.evaluator.base, None
        if base is not None and self.settings.kl_items and not refines:
            kl = sum(self.evaluator.kl_to_base(task).mean for task in self.tasks) / len(self.tasks)
        record: dict[str, Any] = {"stage": stage, "step": step, "task": self.tasks[stage - 1].name}
        record |= {"scores": probed.scores, "nll": probed.nll, "probability": probed.probability, "kl_to_base": kl}
        record["relative_norm"] = None if base is None else base.relative_distance()
        record["answers"] = probed.texts
        record |= probed.failures
        if refines:
            record["refines"] = True
        record["seconds"] = time.perf_counter() - started
        self.world.main(lambda: self.directory.append("probes.jsonl", record))
        return record

    def keep(self, stage: int, step: int, *, saved: bool) -> None:
        """Keep the current weights, which are those after a step of a stage, if a later probe may ask for them.

        Args:
            saved: the newest checkpoint is of this step.
        """
        if saved:
            self._checkpoint = step
        if step and self._refines(stage):
            self.world.main(self.directory.lock.check)
            self.kept.keep(stage, step)

    def refine(self, stage: int, step: int) -> None:
        """Probe kept steps up to this one between which the score of the stage's task rose too far.

        The steps are halved until no rise above the best score so far is larger than `eval.probe_gap`, or no kept step
        lies in between. What to probe follows from the log and the kept steps, so a resumed run goes on where an
        interrupted one stopped. The current weights are those of `step`, before and after.

        Args:
            step: has been probed, or is the stage's last and has been evaluated.
        """
        if not self._refines(stage):
            return
        kept = self.kept.steps(stage) - {step}
        scores = self.world.main(lambda: self._scores_within(stage, step))
        moved = False
        try:
            while (between := step_between(scores, kept, self.settings.probe_gap)) is not None:
                if not moved:
                    self.kept.keep(stage, step)
                    moved = True
                kept.discard(between)
                if self.kept.load(stage, between):
                    scores[between] = self._measure(stage, between, refines=True)["scores"][self.tasks[stage - 1].name]
        finally:
            if moved and not self.kept.load(stage, step):
                raise RunError("weights that were just written cannot be read", where=str(self.kept.folder))
        # A resumed run takes the steps after its checkpoint again. It needs those before, back to the last probe.
        checkpoint, every = self._checkpoint, self.settings.probe_steps
        last_probe = (checkpoint - 1) // every * every
        self.kept.remove(stage, lambda each: not last_probe < each <= checkpoint)

    def stage_done(self) -> None:
        """The stage is evaluated, and a checkpoint of its end exists."""
        self._checkpoint = 0
        self.kept.remove_folder()

    def _refines(self, stage: int) -> bool:
        settings = self.settings
        return settings.probe_steps > 1 and settings.probe_gap > 0 and self.tasks[stage - 1].is_judged

    def _scores_within(self, stage: int, step: int) -> dict[int, float]:
        """Scores of the stage's task by step, on the items that a probe uses: before the stage, and up to a step."""
        task = self.tasks[stage - 1].name
        scores = {p["step"]: p["scores"][task] for p in self.directory.records("probes.jsonl") if p["stage"] == stage}
        ends = {0: stage - 1}
        if step not in scores:
            ends[step] = stage
        for at, evaluated in ends.items():
            items = evaluation_of(self.directory, self.directory.evaluation(evaluated))["items"][task][
                : self.settings.probe_items
            ]
            scores[at] = sum(items) / len(items)
        return {at: score for at, score in scores.items() if at <= step}

    def retention_before(self) -> tuple[dict[str, float], dict[str, int]]:
        """Scores of the judged retention suites before the first stage, for the items that a probe uses.

        Returns:
            The mean score of each suite, and its number of items. A suite may have fewer than a probe would use.
        """
        items = evaluation_of(self.directory, self.directory.evaluation(0))["items"]
        names = [suite.name for suite in self.suites if suite.kind == "retention"]
        first = {name: items.get(name, [])[: self.settings.probe_items] for name in names}
        known = {name: values for name, values in first.items() if values}
        means = {name: sum(values) / len(values) for name, values in known.items()}
        return means, {name: len(values) for name, values in known.items()}

    def stage_end(self, stage: int) -> tuple[dict[str, Any], dict[str, float], dict[str, int]]:
        """What the guard sees of the evaluation after a stage: arguments of `Guard.see_stage_end`."""
        base, now = (
            {"stage": number, "task": found["task"], "scores": found["sets"]}
            for number in (0, stage)
            for found in [evaluation_of(self.directory, self.directory.evaluation(number))]
        )
        retention = [suite.name for suite in self.suites if suite.kind == "retention"]
        record, reference, items = stage_end_record(now, base, retention)
        steps = [line["step"] for line in self.directory.records("metrics.jsonl") if line["stage"] == stage]
        last = max(steps, default=1)
        return record | {"step": last, "global_step": steps_before(self.directory, stage) + last}, reference, items

    def evaluate(self, stage: int) -> None:
        """Evaluate all sets after a stage (0: before the first). The stage's model must have been saved."""
        started = time.perf_counter()
        self.observer.evaluation_started(stage, len(self.tasks) + len(self.suites))
        result: dict[str, Any]
        if stage == 0 and self.baseline is not None:
            result = {key: value for key, value in self.baseline.items() if key != "responses"} | {"seconds": 0.0}
            if (answers := self.baseline.get("responses")) is not None:
                self.world.main(lambda: self.directory.write_json(self.directory.responses(0), answers))
        else:
            task = self.tasks[stage - 1].name if stage else None
            evaluation = self.evaluator.evaluate(stage, task, self.tasks, self.suites)
            self._compare_answers(evaluation)
            distances = self._distances() if stage == 0 else {}
            if stage and self.settings.drift_weights:
                self._measure_drift(stage)
            result = evaluation.as_json() | distances | {"seconds": time.perf_counter() - started}
        self.world.main(lambda: self.directory.write_json(self.directory.evaluation(stage), json_safe(result)))
        sets = result["sets"].items()
        self.observer.evaluation_done(
            stage,
            {name: numbers["mean"] for name, numbers in sets},
            {name: value for name, numbers in sets if (value := numbers.get("nll")) is not None},
        )

    def _distances(self) -> dict[str, Any]:
        """How far demonstrations are from the base's own answers, by task."""
        if not self.settings.demonstration_items:
            return {}
        found = demonstration_distances(self.evaluator, self.tasks, self.settings.demonstration_items)
        return {"demonstrations": [each.as_json() for each in found]}

    def _compare_answers(self, evaluation: Evaluation) -> None:
        """Write the greedy answers, and how they differ from those before the first stage."""
        stage, answers = evaluation.stage, evaluation.answers
        if not any(answers.values()):
            return

        def write() -> None:
            base = self.directory.read_checked(self.directory.responses(0))["answers"] if stage else answers
            kinds: dict[str, str] = {task.name: "task" for task in self.tasks}
            kinds |= {suite.name: suite.kind for suite in self.suites}
            demonstrations = {
                task.name: [e.demonstration for e in task.train if e.demonstration is not None] for task in self.tasks
            }
            similarity = self._similarity(base, answers) if stage else {}
            record = stage_record(
                stage, evaluation.task, answers, evaluation.kl, base, kinds, demonstrations, similarity
            )
            self.directory.write_json(self.directory.responses(stage), json_safe(record))

        self.world.main(write)

    def _similarity(self, base: Answers, now: Answers) -> dict[str, dict[str, Any]]:
        """How similar the embeddings of answers are, by set. Empty if the configuration names no embedding model."""
        if self._embedder is None:
            return {}
        texts = {name: ([a["text"] for a in base[name]], [a["text"] for a in answers]) for name, answers in now.items()}
        return {name: compare_embeddings(self._embedder, *sides) for name, sides in texts.items()}

    def _measure_drift(self, stage: int) -> None:
        """Compare a stage's saved weights with the base's. Under LoRA that is the adapter, because merging rounds."""
        folders = [self.directory.model(number) for number in range(1, stage + 1)]
        base = self.model.path
        try:
            if self.model.revision is not None and not Path(base).is_dir():
                base = str(hub_folder(base, self.model.revision))
            # An adapter on an adapter cannot be read, so there the merged weights are compared.
            if self.model.lora is not None and not is_adapter(locate(base)):
                folders = [folder / "adapter" for folder in folders]
            result = drift(
                base,
                folders[-1],
                earlier=folders[:-1],
                budget=self.settings.drift_weights,
                share=self._shared,
                progress=lambda *_: stop.poll(),
            )
        except ModelError as error:  # a failed measurement must not end a run of hours
            warnings.warn(f"drift after stage {stage} could not be measured: {error}", stacklevel=2)
            return
        entry = drift_entry(result, stage, self.tasks[stage - 1].name)
        record = _relative(json_safe(result.as_json() | {"entry": entry}), f"{self.directory.path}/")
        self.world.main(lambda: self.directory.write_json(self.directory.drift(stage), record))

    def _shared(self, measure: Callable[[Sequence[str]], list[MatrixDrift]], names: Sequence[str]) -> list[MatrixDrift]:
        """Measure matrices on all processes, each a share of the names."""
        parts = self.world.each(lambda: measure(self.world.share(names)))
        return [each for part in parts for each in part]


def step_between(scores: Mapping[int, float], kept: Collection[int], gap: float) -> int | None:
    """The next step to probe: the kept one nearest to the middle of the first two steps with too large a rise.

    A rise counts from the best score so far, because a trajectory is matched where it first reaches a score.

    Args:
        scores: by step.
        gap: the largest rise that needs no step in between.

    Returns:
        None if no two steps have such a rise with a kept step in between.
    """
    steps = sorted(scores)
    best = -math.inf
    for start, end in pairwise(steps):
        best = max(best, scores[start])
        inside = [step for step in kept if start < step < end]
        if scores[end] - best > gap and inside:
            return min(inside, key=lambda step: (abs(2 * step - start - end), step))
    return None


def _relative(value: Any, folder: str) -> Any:
    """Plain data with paths relative to the run's folder, so that they stay valid if the folder is moved."""
    if isinstance(value, dict):
        return {key.removeprefix(folder): _relative(each, folder) for key, each in value.items()}
    if isinstance(value, list):
        return [_relative(each, folder) for each in value]
    return value.removeprefix(folder) if isinstance(value, str) else value

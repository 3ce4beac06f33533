"""The run directory of a watched training: what the watcher writes, reads back when it resumes, and summarizes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast import __version__
from holdfast.data.task import Suite
from holdfast.errors import RunError
from holdfast.evaluation.drift.stages import drift_entry
from holdfast.evaluation.evaluator import Evaluation
from holdfast.guard import GuardSettings
from holdfast.integrations.base_distributions import ESTIMATOR, BaseDistributions
from holdfast.integrations.probe_rules import RULES_OVER_ANSWERS
from holdfast.integrations.questions import ItemName
from holdfast.measure.answers import Answer, PromptSet
from holdfast.measure.artifacts.compare import artifact_report
from holdfast.model.policy import Policy
from holdfast.store.files import json_safe, read_json, write_json, write_text
from holdfast.store.run_directory import RunDirectory
from holdfast.summary.inputs import Measured, RunDescription, RunLogs
from holdfast.summary.responses import (
    DEMONSTRATIONS,
    Answers,
    stage_record,
)
from holdfast.summary.run import build_run_summary

if TYPE_CHECKING:
    from holdfast.evaluation.drift import DriftResult

LOGS = ("metrics.jsonl", "probes.jsonl", "decisions.jsonl")


class WatchedRun:
    """Writes what a watcher measures. Methods that write are for the main process only.

    Attributes:
        start: folder of what the model was before training.
    """

    def __init__(
        self,
        path: Path,
        suites: Sequence[Suite],
        task: str,
        items: int,
        guard: GuardSettings,
        demonstrations: Sequence[str] = (),
    ) -> None:
        self.directory = RunDirectory(path)
        self._demonstrations = demonstrations[:DEMONSTRATIONS]
        self.suites, self.task, self.items, self.guard = suites, task, items, guard
        self.start = path / "start"

    def create(self) -> None:
        """Create the directory.

        Raises:
            RunError: it exists and is not empty.
        """
        path = self.directory.path
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            fix = "choose another output_dir, remove it, or resume the run that wrote it"
            raise RunError("the directory is not empty", where=str(path), fix=fix)
        self.directory.create()
        # The training loop decides when it ends, or never says so, and may start again in the same process.
        self.directory.lock.release()

    def resume_at(self, step: int) -> None:
        """Resume after `step` optimizer steps: records of later steps are removed. A missing directory is created."""
        if not self.directory.path.exists():
            self.create()
        for log in LOGS:
            kept = [line for line in self.directory.records(log) if line["step"] <= step]
            if (self.directory.path / log).exists():
                write_text(
                    self.directory.path / log, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
                )

    def describe(self, policy: Policy, trainer: str) -> None:
        """Note what the summary says of the model and the trainer."""
        total, trainable = _parameters(policy.model)
        self._trainer = trainer
        self._model = {
            "path": str(getattr(policy.causal_lm.config, "_name_or_path", "") or type(policy.causal_lm).__name__),
            "parameters": total,
            "trainable_parameters": trainable,
            "dtype": str(policy.causal_lm.dtype).removeprefix("torch."),
        }

    def records(self, log: str) -> Iterator[dict[str, Any]]:
        """The lines of a log; none if it does not exist."""
        return self.directory.records(log)

    def append(self, log: str, line: Mapping[str, Any]) -> None:
        self.directory.append(log, json_safe(line))

    def total_tokens(self) -> float:
        """Tokens trained on so far, according to the log."""
        return max((line["num_tokens"] for line in self.records("metrics.jsonl") if "num_tokens" in line), default=0.0)

    def has_start(self) -> bool:
        return (self.start / "base.json").exists()

    def keep_start(self, answers: Answers, base: BaseDistributions, evaluation: Evaluation, seconds: float) -> None:
        """Keep what the model is before training, for later comparisons and for resuming."""
        self.start.mkdir(exist_ok=True)
        base.save(self.start / "base.safetensors")
        self._keep_evaluation(evaluation, seconds)
        self._keep_responses(stage_record(0, None, answers, {}, {}, {}, {}))
        kept = {"estimator": ESTIMATOR, "names": base.names, "completions": base.completions, "seconds": seconds}
        write_json(self.start / "base.json", json_safe(kept))  # last: it marks the start as complete

    def load_start(self) -> tuple[Answers, list[ItemName], list[list[int]], float]:
        """What `keep_start` kept.

        Returns:
            The greedy answers; the items of the sampled answers and their token ids; the seconds that asking took.

        Raises:
            RunError: the items were others then.
        """
        kept, answers = read_json(self.start / "base.json"), self._responses(0)["answers"]
        asked = {suite.name: [e.id for e in suite.test] for suite in self.suites}
        if {name: [each["id"] for each in own] for name, own in answers.items()} != asked:
            fix = "resume with the suites and items that the training started with"
            raise RunError("the training started with other suites or items", where=str(self.directory.path), fix=fix)
        return answers, [(suite, item) for suite, item in kept["names"]], kept["completions"], float(kept["seconds"])

    def keep_end(
        self,
        answers: Answers,
        first: Answers,
        kl: Mapping[str, Mapping[str, Any]],
        evaluation: Evaluation,
        seconds: float,
    ) -> None:
        """Keep what the model is after training, and how its answers compare with those at the start.

        Args:
            kl: divergences by suite.
        """
        self._keep_evaluation(evaluation, seconds)
        kinds = {suite.name: suite.kind for suite in self.suites}
        record = stage_record(1, self.task, answers, kl, first, kinds, {})
        if self._demonstrations:
            # Every prompt belongs to the one task that has demonstrations. A phrase that grew can then be compared with
            # the demonstrations, but cannot be called a marker of one task among several.
            task_of = {f"{name}/{each['id']}": self.task for name, own in answers.items() for each in own}
            prompts = PromptSet({}, task_of, {self.task: self._demonstrations})
            record["artifacts"] = artifact_report(_flat(first), _flat(answers), prompts)
        self._keep_responses(record)

    def keep_drift(self, result: "DriftResult") -> None:
        write_json(self.directory.path / "drift" / "stage-1.json", json_safe(drift_entry(result, 1, self.task)))

    def start_scores(self) -> dict[str, float]:
        """Mean score of each judged suite before training."""
        sets = read_json(self.directory.evaluation(0))["sets"]
        return {name: values["mean"] for name, values in sets.items() if values["mean"] is not None}

    def _keep_evaluation(self, evaluation: Evaluation, seconds: float) -> None:
        write_json(self.directory.evaluation(evaluation.stage), json_safe(evaluation.as_json() | {"seconds": seconds}))

    def _keep_responses(self, record: Mapping[str, Any]) -> None:
        write_json(self.directory.path / "responses" / f"stage-{record['stage']}.json", json_safe(record))

    def _responses(self, stage: int) -> Any:
        return read_json(self.directory.path / "responses" / f"stage-{stage}.json")

    def summarize(self, status: str) -> dict[str, Any]:
        """Write `summary.json` from the files written so far."""
        stages = [path for stage in (0, 1) if (path := self.directory.evaluation(stage)).exists()]
        evaluations = [read_json(path) for path in stages]
        responses = [self._responses(evaluation["stage"]) for evaluation in evaluations]
        drift = self.directory.path / "drift" / "stage-1.json"
        logs = RunLogs.read(self.directory)
        run = RunDescription(
            name=self.directory.path.name,
            label=self._trainer,
            holdfast_version=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            recipe={"name": self._trainer},
            wiring=dict.fromkeys(("rollouts", "teacher", "signal", "reduction"), f"as {self._trainer} has it"),
            seed=0,
            order=[self.task],
            model=self._model,
            status=status,
            sets=[
                {
                    "name": s.name,
                    "kind": s.kind,
                    "n": len(s.test),
                    "description": s.description,
                    "chance": s.chance,
                }
                for s in self.suites
            ],
            guard=self.guard.model_dump(mode="json"),
        )
        measured = Measured.from_records(
            evaluations,
            responses=responses,
            drift=[read_json(drift)] if drift.exists() else [],
            probes=logs.probes,
            probe_items=self.items,
            asked_of_answers=RULES_OVER_ANSWERS if logs.probes else (),
        )
        summary = build_run_summary(run, logs, measured)
        write_json(self.directory.summary, summary)
        return summary


def _flat(answers: Answers) -> list[Answer]:
    return [
        Answer(f"{name}/{each['id']}", each["text"], truncated=each["truncated"])
        for name, own in answers.items()
        for each in own
    ]


def _parameters(model: Any) -> tuple[int, int]:
    """Numbers of all weights and of trained weights."""
    weights = list(model.parameters())
    return sum(w.numel() for w in weights), sum(w.numel() for w in weights if w.requires_grad)

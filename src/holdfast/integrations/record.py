"""The run directory of a watched training."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast import __version__
from holdfast.errors import RunError
from holdfast.integrations.kept_base import ESTIMATOR, KeptBase
from holdfast.integrations.questions import Name, Reply, reading
from holdfast.measure.answers import Answer, PromptSet
from holdfast.measure.artifacts import artifact_report
from holdfast.measure.summary import build_run_summary, json_safe
from holdfast.store import RunDirectory, read_json, write_json, write_text
from holdfast.tasks.base import Suite, Verdict
from holdfast.train.policy import Policy

if TYPE_CHECKING:
    from holdfast.measure.drift import DriftResult

LOGS = ("metrics.jsonl", "probes.jsonl", "decisions.jsonl")


class Record:
    """Writes what a watcher sees; every method is for the main process alone, but for `describe` and `load_start`."""

    def __init__(self, path: Path, suites: Sequence[Suite], task: str, items: int) -> None:
        self.directory = RunDirectory(path)
        self.suites, self.task, self.items = suites, task, items
        self.start = path / "start"

    def create(self) -> None:
        """A new directory.

        Raises:
            RunError: something is there.
        """
        path = self.directory.path
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            mend = "choose another output_dir, remove it, or resume the training that it is of"
            raise RunError("there is something here already", where=str(path), mend=mend)
        self.directory.create()

    def go_on(self, step: int) -> None:
        """Go on after so many steps: lines of later ones go. A directory that is not there is begun."""
        if not self.directory.path.exists():
            self.create()
        for log in LOGS:
            kept = [line for line in self.directory.records(log) if line["step"] <= step]
            if (self.directory.path / log).exists():
                write_text(
                    self.directory.path / log, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
                )

    def describe(self, policy: Policy, trainer: str) -> None:
        """What is watched."""
        total, trainable = _parameters(policy.model)
        self._trainer = trainer
        self._model = {
            "path": str(getattr(policy.causal_lm.config, "_name_or_path", "") or type(policy.causal_lm).__name__),
            "parameters": total,
            "trainable_parameters": trainable,
            "dtype": str(policy.causal_lm.dtype).removeprefix("torch."),
        }

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The steps that were seen."""
        return self.directory.records("metrics.jsonl")

    def append_step(self, line: Mapping[str, Any]) -> None:
        self.directory.append("metrics.jsonl", json_safe(line))

    def append_probe(self, line: Mapping[str, Any]) -> None:
        self.directory.append("probes.jsonl", json_safe(line))

    def append_decision(self, line: Mapping[str, Any]) -> None:
        self.directory.append("decisions.jsonl", json_safe(line))

    def has_start(self) -> bool:
        return (self.start / "answers.json").exists()

    def keep_start(
        self, replies: Mapping[Name, Reply], base: KeptBase, evaluation: Mapping[str, Any], seconds: float
    ) -> None:
        """What the model was before training, to compare with later and after an interruption."""
        self.start.mkdir(exist_ok=True)
        base.save(self.start / "base.safetensors")
        self._keep_evaluation(0, None, evaluation, seconds)
        kept = {
            "answers": [_plain(name, reply) for name, reply in replies.items()],
            "base": {"estimator": ESTIMATOR, "names": base.names, "completions": base.completions},
            "seconds": seconds,
        }
        write_json(self.start / "answers.json", json_safe(kept))  # last: with it the start is whole

    def load_start(self) -> tuple[dict[Name, Reply], tuple[list[Name], list[list[int]]]]:
        """The answers of the start, and what the base sampled."""
        kept = read_json(self.start / "answers.json")
        replies = {(row["suite"], row["id"]): _reply(row) for row in kept["answers"]}
        asked = {(suite.name, e.id) for suite in self.suites for e in suite.test}
        names = [(suite, item) for suite, item in kept["base"]["names"]]
        if set(replies) != asked or not asked.issuperset(names):
            mend = "resume with the suites and items that it began with"
            raise RunError("the run began with other questions", where=str(self.directory.path), mend=mend)
        return replies, (names, kept["base"]["completions"])

    def seconds_of_start(self) -> float:
        return float(read_json(self.start / "answers.json")["seconds"])

    def _keep_evaluation(self, stage: int, task: str | None, evaluation: Mapping[str, Any], seconds: float) -> None:
        value = {"stage": stage, "task": task, **evaluation, "seconds": seconds}
        write_json(self.directory.evaluation(stage), json_safe(value))

    def keep_end(
        self, first: Mapping[Name, Reply], last: Mapping[Name, Reply], evaluation: Mapping[str, Any], seconds: float
    ) -> None:
        """The model after training, and what its answers have that the first ones had not."""
        self._keep_evaluation(1, self.task, evaluation, seconds)
        examples = {"/".join(n): e for s in self.suites for e in s.test for n in [(s.name, e.id)]}
        prompts = PromptSet(examples, {"/".join(name): name[0] for name in first}, {})
        a, b = ([replies[name].answer for name in first] for replies in (first, last))
        found = artifact_report(a, b, prompts)
        found["repetition"] = [{"stage": s, **reading(side)} for s, side in enumerate((first, last))]
        write_json(self.directory.path / "artifacts" / "stage-1.json", json_safe(found))

    def keep_drift(self, found: "DriftResult") -> None:
        write_json(self.directory.path / "drift" / "stage-1.json", json_safe(found.as_json()))

    def summarise(self, status: str) -> dict[str, Any]:
        """Write `summary.json` from what is there."""
        stages = [path for stage in (0, 1) if (path := self.directory.evaluation(stage)).exists()]
        evaluations = [read_json(path) for path in stages]
        probes = list(self.directory.records("probes.jsonl"))
        summary = build_run_summary(
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
                {"name": s.name, "kind": s.kind, "n": len(s.test), "description": s.description} for s in self.suites
            ],
            evaluations=evaluations,
            metrics=list(self.metrics()),
            probes=[{k: p[k] for k in ("stage", "step", "task", "scores", "kl_to_base", "seconds")} for p in probes],
            probe_items=self.items if probes else None,
            decisions=list(self.directory.records("decisions.jsonl")),
            eval_seconds=sum(e["seconds"] for e in evaluations) + sum(p["seconds"] for p in probes),
        )
        write_json(self.directory.summary, summary)
        return summary


def _parameters(model: Any) -> tuple[int, int]:
    """All weights, and those that are trained."""
    weights = list(model.parameters())
    return sum(w.numel() for w in weights), sum(w.numel() for w in weights if w.requires_grad)


def _plain(name: Name, reply: Reply) -> dict[str, Any]:
    verdict = reply.verdict
    return {
        "suite": name[0],
        "id": name[1],
        "text": reply.answer.text,
        "ids": reply.answer.ids,
        "truncated": reply.answer.truncated,
        "reward": verdict.reward,
        "format_ok": verdict.format_ok,
    }


def _reply(row: Mapping[str, Any]) -> Reply:
    answer = Answer(f"{row['suite']}/{row['id']}", row["text"], tuple(row["ids"]), row["truncated"])
    return Reply(answer, Verdict(row["reward"], format_ok=row["format_ok"]), len(row["ids"]))

"""Rewrites a training file: `holdfast rewrite`. Nothing is trained.

The texts are written into a file beside the output as they come. A command that was stopped and is given again takes
them from there. The output is written in one step, when it is complete.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holdfast import stop
from holdfast.config.settings import EvalSettings, ModelSettings, TaskSettings, TrainSettings
from holdfast.data.example import Example
from holdfast.data.task import Task
from holdfast.errors import ConfigError
from holdfast.evaluation.demonstration_distance import demonstration_distances
from holdfast.evaluation.evaluator import Evaluator
from holdfast.model.context_length import configured_context, fit_lengths, longest_reprompt
from holdfast.model.load import load_policy
from holdfast.recipes.parts.rewriting import Rewriting
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.rollouts.rewriting import Rewrite, Rewriter, judging_task
from holdfast.rollouts.row_sampler import RowSampler
from holdfast.sampling.sampler import Sampler
from holdfast.store.files import write_text
from holdfast.stream.manifest import weights_hash
from holdfast.stream.rewriting import rewriting_record
from holdfast.tasks.load import data_hash, judging_limits, load_task, record_verifier
from holdfast.tasks.rewritten import TrainingData, as_json_lines, training_data

CHUNK = 64
"""Examples that are rewritten together. What is done is kept after each chunk."""

DISTANCE_PROMPTS = 32
"""Prompts on which the distance from the model's own answers is measured, before and after."""

OnExamples = Callable[[int, int], None]
"""Called with the number of examples that are done, and of all."""


@dataclass(frozen=True, kw_only=True)
class RewriteJob:
    """What is rewritten, and how.

    Args:
        data: the task whose training file is rewritten.
        whole_file: rewrite every record. Otherwise only those that the task trains on: held-out ones stay.
        model: who writes.
        train, evaluation: lengths and memory.
        rewriting: template, check and tries. The model writes, whoever its `writer` is.
        seed: names the draws.
    """

    data: TaskSettings
    whole_file: bool
    model: ModelSettings
    train: TrainSettings
    evaluation: EvalSettings
    rewriting: Rewriting
    seed: int = 0


def rewrite_file(job: RewriteJob, output: Path, on_examples: OnExamples = lambda done, of: None) -> dict[str, Any]:
    """Write a job's training data with rewritten demonstrations.

    Returns:
        "task", "examples", "outcomes", "completions", "generated_tokens": as `rewriting_record`; and "seconds". "file":
        the output. "records": all that it has. "before", "after": the distance of the demonstrations, as plain data.
        "kept": ids of the demonstrations that stay, by outcome.

    Raises:
        HoldfastError: the output exists, or data, model or check cannot be used.
    """
    if output.exists():
        raise ConfigError("already exists", where=str(output), fix="name another file with -o, or remove it")
    started = time.perf_counter()
    data, task = _load(job)
    judging_task(task, job.rewriting)
    if missing := [example.id for example in task.train if example.demonstration is None]:
        raise ConfigError(
            f"{len(missing)} of {len(task.train)} examples have no demonstration, the first {missing[0]!r}",
            where=f"task {task.name!r}",
            fix="give every record a `completion`, or leave these records out",
        )
    train = fit_lengths(job.train, job.evaluation, configured_context(job.model))
    policy = load_policy(job.model, seed=job.seed)
    train = fit_lengths(train, job.evaluation, policy.context_length)
    sampler = RowSampler(policy, Sampler(policy, stop.poll), {}, RolloutSpec(source="demonstrations"), train, job.seed)
    lengths = longest_reprompt(policy, train), train.max_completion_length
    rewriter = Rewriter(policy, sampler, lengths, job.seed)
    by_model = replace(job.rewriting, writer="student")
    key = [data_hash(task), weights_hash(policy), repr(by_model), repr(lengths), str(job.seed)]
    done = _Done(output, hashlib.sha256("\n".join(key).encode()).hexdigest())
    rewrites = done.read(task.train)
    while len(rewrites) < len(task.train):
        on_examples(len(rewrites), len(task.train))
        chunk = task.train[len(rewrites) : len(rewrites) + CHUNK]
        new = rewriter.rewrite(task, chunk, by_model)
        done.add(new)
        rewrites += new
    on_examples(len(rewrites), len(task.train))
    texts = {each.id: each.text for each in rewrites if each.text is not None}
    records = data.with_demonstrations(texts)
    evaluator = Evaluator(policy, None, train, job.evaluation)
    before, after = (
        [each.as_json() for each in demonstration_distances(evaluator, [own], DISTANCE_PROMPTS)]
        for own in (task, replace(task, train=_with_texts(task.train, texts)))
    )
    write_text(output, as_json_lines(records))
    done.remove()
    kept: dict[str, list[str]] = {}
    for each in rewrites:
        if each.text is None:
            kept.setdefault(each.outcome, []).append(each.id)
    record = rewriting_record(1, task.name, rewrites) | {"seconds": time.perf_counter() - started}
    del record["stage"]
    return {
        "file": str(output),
        "records": len(records),
        **record,
        "before": next(iter(before), None),
        "after": next(iter(after), None),
        "kept": kept,
    }


def _load(job: RewriteJob) -> tuple[TrainingData, Task]:
    """All training records, and the task whose `train` is rewritten."""
    data = training_data(job.data)
    if not job.whole_file:
        return data, load_task(job.data)
    verifier = record_verifier(job.data, data.examples)
    task = Task(job.data.name, list(data.examples), [], verifier)
    return data, replace(task, **judging_limits(job.data))


def _with_texts(examples: Sequence[Example], texts: Mapping[str, str]) -> list[Example]:
    return [replace(example, demonstration=texts.get(example.id, example.demonstration)) for example in examples]


class _Done:
    """What is rewritten already: a file beside the output, whose first line names the job."""

    def __init__(self, output: Path, key: str) -> None:
        self._path, self._key = output.with_name(f".{output.name}.rewriting"), key

    def read(self, examples: Sequence[Example]) -> list[Rewrite]:
        """The rewrites of the first examples by an earlier process with the same job. Those of another job are dropped.

        They end where a kill has cut a line short, or where the lines are not those of the examples in their order, as
        two processes leave them that have written at once.
        """
        lines = self._path.read_text(encoding="utf-8", errors="replace").split("\n") if self._path.exists() else []
        whole = lines[1:-1] if lines[:1] == [self._key] else []
        rewrites: list[Rewrite] = []
        for line, example in zip(whole, examples, strict=False):
            rewrite = _rewrite_in(line)
            if rewrite is None or rewrite.id != example.id:
                break
            rewrites.append(rewrite)
        write_text(self._path, "\n".join([self._key, *whole[: len(rewrites)]]) + "\n")
        return rewrites

    def add(self, rewrites: Sequence[Rewrite]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(each.as_json(), ensure_ascii=False) + "\n" for each in rewrites)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def _rewrite_in(line: str) -> Rewrite | None:
    try:
        return Rewrite(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None

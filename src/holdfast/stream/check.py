"""Checks before training: does everything fit, how much memory is needed, and is the teacher better at all?"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from holdfast.config.settings import RunConfig
from holdfast.data.rows import Row
from holdfast.data.task import Task
from holdfast.measure.statistics import paired_difference
from holdfast.model.policy import Policy
from holdfast.objective.fused.plan import CHUNK_BYTES, LEAST_CHUNK
from holdfast.recipes.parts.penalty import FisherPenalty
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Request, Sampler
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.run import Run
from holdfast.train.teacher import Teacher

LOGIT_COPIES = 7
"""Float32 tensors of [tokens, vocabulary] at the peak of the readable loss: logits and log-probabilities of student and
teacher, the divergence, and gradients."""

ACTIVATION_COPIES = 16
"""Tensors of [tokens, hidden size] that a layer keeps for the backward pass, roughly."""


@dataclass(frozen=True)
class TeacherCheck:
    """Whether the teacher, which sees privileged context in its prompt, answers a task better than the student.

    Attributes:
        verdict: "better" if the 95% CI of the paired difference is above 0, else "not shown"; "no teacher" if no prompt
            has one; "not measured" if the task has no verifier.
        items: training prompts that were tried.
        teacher, student: shares of answers with the full reward, on the prompts that have a teacher.
        ci95: of the paired difference teacher − student; None if there are too few prompts for one.
    """

    task: str
    verdict: str
    items: int
    prompts_with_teacher: int
    teacher: float | None = None
    student: float | None = None
    ci95: list[float] | None = None

    def sentence(self) -> str:
        """The result in words."""
        if self.verdict == "not measured":
            return f"{self.task}: there is no verifier, so teacher and student cannot be compared"
        if self.verdict == "no teacher":
            return f"{self.task}: 0 of {self.items} prompts have a teacher, so there is nothing to learn from yet"
        scores = f"{self.task}: the teacher scores {self.teacher:.0%}, the student {self.student:.0%}"
        prompts = f"{self.prompts_with_teacher} of {self.items} prompts have a teacher"
        if self.ci95 is None:
            return f"{scores}. Inconclusive: too few prompts ({prompts})"
        low, high = (f"{100 * end:+.0f}" for end in self.ci95)
        evidence = f"95% CI of the difference {low} to {high} points; {prompts}"
        if self.verdict == "better":
            return f"{scores}. The teacher is better ({evidence})"
        if self.ci95[1] < 0:
            return f"{scores}. The teacher is WORSE ({evidence}). Give it more context, or use a stronger model"
        return (
            f"{scores}. Inconclusive: the teacher is NOT shown to be better ({evidence}). Compare more prompts, give "
            "the teacher more context, or use a stronger model"
        )


def check_run(config: RunConfig, *, items: int) -> dict[str, Any]:
    """Load everything that a run would load, and check it. Nothing is trained or written.

    Args:
        items: training prompts of each task that teacher and student are compared on.

    Returns:
        "tasks": examples of each split, dropped examples, longest prompt in tokens.
        "memory": bytes by purpose, and their sum.
        "teacher": a `TeacherCheck` of each task as plain data, with its "sentence". It is missing for recipes without a
        teacher, and for recipes whose teacher only anchors the student.

    Raises:
        HoldfastError: the first problem that would stop a run.
    """
    run = Run(config, RunDirectory("."))
    run.prepare()
    results: dict[str, Any] = {
        "tasks": [_task_facts(task, run.collector) for task in run.tasks],
        "memory": memory_estimate(config, run.policy, run.teacher, has_base=run.base is not None),
    }
    if run.teacher is not None and config.recipe.objective().reference == "base":
        checks = [_check_teacher(task, run, items) for task in run.tasks]
        results["teacher"] = [asdict(check) | {"sentence": check.sentence()} for check in checks]
    return results


def _task_facts(task: Task, collector: Collector) -> dict[str, Any]:
    return {
        "name": task.name,
        "train": len(task.train),
        "test": len(task.test),
        "dropped": collector.dropped[task.name],
        "longest_prompt": collector.pool.longest(task.name),
    }


def memory_estimate(config: RunConfig, policy: Policy, teacher: Teacher | None, *, has_base: bool) -> dict[str, int]:
    """Estimated bytes at the peak of training, by purpose, without the overhead of the libraries."""
    counts = policy.parameter_counts()
    width = {"float32": 4, "bfloat16": 2}[config.model.dtype]
    weights = counts.total * width
    copies = 0
    if not policy.is_lora:
        if teacher is not None and teacher.state():
            copies += weights + (4 * counts.trainable if width < 4 else 0)
        if has_base:
            copies += weights
    model = policy.causal_lm.config.get_text_config(decoder=True)
    tokens = config.train.micro_batch_tokens
    estimate = {
        "weights": weights,
        "gradients": counts.trainable * (4 if policy.is_lora else width),  # adapters are float32
        "optimizer": 2 * counts.trainable * 4,
        "teacher_and_base": copies,
        "penalty": 2 * counts.trainable * 4 if isinstance(config.recipe.penalty(), FisherPenalty) else 0,
        "activations": tokens * model.hidden_size * model.num_hidden_layers * ACTIVATION_COPIES * width,
        "logits": _logits(config, policy, model.vocab_size, 1 + (teacher is not None) + has_base),
    }
    return estimate | {"total": sum(estimate.values())}


def _logits(config: RunConfig, policy: Policy, vocabulary: int, distributions: int) -> int:
    """Bytes of all tensors of [tokens, vocabulary].

    The readable loss holds them for a whole micro-batch, the fused loss only for one chunk of tokens.

    Args:
        distributions: models whose logits the loss compares.
    """
    train = config.train
    tokens = train.micro_batch_tokens * train.max_completion_length
    tokens = max(1, tokens // (train.max_completion_length + train.max_prompt_length))
    if train.engine == "readable":
        return tokens * vocabulary * 4 * LOGIT_COPIES
    budget = CHUNK_BYTES.get(policy.device.type, CHUNK_BYTES["cuda"])
    return min(tokens * distributions * vocabulary * 4, max(budget, LEAST_CHUNK * distributions * vocabulary * 4))


def _check_teacher(task: Task, run: Run, items: int) -> TeacherCheck:
    if task.verifier is None:
        return TeacherCheck(task.name, "not measured", items, 0)
    with_teacher: dict[str, Row] = {}
    seen: set[str] = set()
    batch = 0
    # Batches go through the task epoch by epoch, so a prompt may come again: count distinct prompts.
    wanted = min(items, len(run.collector.pool.kept_ids(task.name)))
    while len(seen) < wanted:
        groups, _ = run.collector.collect(task, stage=0, batch=batch)
        for group in groups:
            if len(seen) == wanted and group.example.id not in seen:
                break
            seen.add(group.example.id)
            row = next((row for row in group.rows if row.div and row.teacher_prompt_ids), None)
            if row is not None:
                with_teacher.setdefault(group.example.id, row)
        batch += 1
    rows = list(with_teacher.values())
    if not rows:
        return TeacherCheck(task.name, "no teacher", len(seen), 0)
    student = _scores(task, run, rows, [row.prompt_ids for row in rows])
    teacher = _scores(task, run, rows, [row.teacher_prompt_ids or [] for row in rows])
    difference = paired_difference(teacher, student)
    better = difference.ci95 is not None and difference.ci95[0] > 0
    return TeacherCheck(
        task=task.name,
        verdict="better" if better else "not shown",
        items=len(seen),
        prompts_with_teacher=len(rows),
        teacher=sum(teacher) / len(rows),
        student=sum(student) / len(rows),
        ci95=list(difference.ci95) if difference.ci95 else None,
    )


def _scores(task: Task, run: Run, rows: Sequence[Row], prompts: Sequence[list[int]]) -> list[float]:
    """Scores of greedy answers: 1 for the full reward, else 0.

    Args:
        rows: whose examples the answers are judged by.
        prompts: token ids of the prompt for each row.
    """
    completions = Sampler(run.policy).generate(
        [Request(ids, temperature=0.0) for ids in prompts],
        max_new_tokens=run.config.train.max_completion_length,
        batch_tokens=run.config.eval.batch_tokens,
    )
    texts = [run.policy.chat_format.content(c.ids) for c in completions]
    return [float(task.verify(row.example, text).reward >= 1.0) for row, text in zip(rows, texts, strict=True)]

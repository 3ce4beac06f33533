"""Before any training: does everything fit, how much memory will it take, and does privilege help at all?"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from holdfast.config.settings import RunConfig
from holdfast.data.chat import decode
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
"""Float32 [tokens × vocabulary] tensors alive at the peak of the readable loss: student's and teacher's logits and
log-probabilities, the divergence, and gradients."""


@dataclass(frozen=True)
class TeacherCheck:
    """Whether the teacher, with its privilege in the prompt, answers a task better than the student without.

    `verdict` is "better" where the 95% interval of the paired difference lies above 0, "not shown" where it does not,
    "no teacher" where no prompt has one, and "not measured" where nothing judges the answers.
    """

    task: str
    verdict: str
    items: int
    prompts_with_teacher: int
    teacher: float | None = None
    student: float | None = None
    ci95: list[float] | None = None

    def sentence(self) -> str:
        """What was found, in words."""
        shown = f"{self.prompts_with_teacher} of {self.items} prompts have a teacher"
        if self.verdict == "not measured":
            return f"{self.task}: no verifier, so the teacher could not be tested"
        if self.verdict == "no teacher":
            return f"{self.task}: no prompt of {self.items} has a teacher; there is nothing to learn from yet"
        scores = f"teacher {self.teacher:.0%}, student {self.student:.0%}"
        if self.verdict == "better":
            return f"{self.task}: the privileged teacher is better ({scores}; {shown})"
        return f"{self.task}: the privileged teacher could NOT be shown to beat the student ({scores}; {shown})"


def check_run(config: RunConfig, *, items: int) -> dict[str, Any]:
    """Load everything that a run would load, and look at it; nothing is trained or written.

    Args:
        items: training prompts per task that student and teacher are compared on.

    Returns:
        "tasks": examples per split, dropped ones, longest prompt; "memory": bytes by purpose and their sum;
        "teacher": one `TeacherCheck` per task as plain data, with its "sentence"; absent for recipes without a teacher,
        and for those whose teacher is there to be held to.

    Raises:
        HoldfastError: what a run would refuse.
    """
    run = Run(config, RunDirectory("."))
    run.prepare()
    found: dict[str, Any] = {
        "tasks": [_task_facts(task, run.collector) for task in run.tasks],
        "memory": memory_estimate(config, run.policy, run.teacher, has_base=run.base is not None),
    }
    if run.teacher is not None and config.recipe.objective().reference == "base":
        checks = [_check_teacher(task, run, items) for task in run.tasks]
        found["teacher"] = [asdict(check) | {"sentence": check.sentence()} for check in checks]
    return found


def _task_facts(task: Task, collector: Collector) -> dict[str, Any]:
    return {
        "name": task.name,
        "train": len(task.train),
        "test": len(task.test),
        "dropped": collector.dropped[task.name],
        "longest_prompt": collector.pool.longest(task.name),
    }


def memory_estimate(config: RunConfig, policy: Policy, teacher: Teacher | None, *, has_base: bool) -> dict[str, int]:
    """Bytes that training will need, by purpose: an estimate of the peak, without the libraries' own overhead."""
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
        "activations": tokens * model.hidden_size * model.num_hidden_layers * 16 * width,
        "logits": _logits(config, policy, model.vocab_size, 1 + (teacher is not None) + has_base),
    }
    return estimate | {"total": sum(estimate.values())}


def _logits(config: RunConfig, policy: Policy, vocabulary: int, distributions: int) -> int:
    """Bytes of all that has an entry per token and word: of a micro-batch in the readable loss, else of a chunk."""
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
    wanted = min(items, len(run.collector.pool.kept_ids(task.name)))
    while len(seen) < wanted:
        groups, _ = run.collector.collect(task, stage=0, batch=batch)
        for group in groups:
            if len(seen) == wanted and group.example.id not in seen:
                break
            seen.add(group.example.id)
            taught = next((row for row in group.rows if row.div and row.teacher_prompt_ids), None)
            if taught is not None:
                with_teacher.setdefault(group.example.id, taught)
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
    """Greedy answers to prompts, judged as answers to the rows' examples: 1 for the full reward, else 0."""
    completions = Sampler(run.policy).generate(
        [Request(ids, temperature=0.0) for ids in prompts],
        max_new_tokens=run.config.train.max_completion_length,
        batch_tokens=run.config.eval.batch_tokens,
    )
    texts = [decode(run.policy.tokenizer, c.ids, run.policy.eos_ids) for c in completions]
    return [float(task.verify(row.example, text).reward >= 1.0) for row, text in zip(rows, texts, strict=True)]

"""Whether the teacher is better than the student at all."""

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.data.rows import Row
from holdfast.measure.paired_items import compare_paired
from holdfast.sampling.complete import complete
from holdfast.sampling.sampler import Request, Sampler
from holdfast.stream.check.trial import Trial
from holdfast.stream.run import Run


@dataclass(frozen=True)
class TeacherCheck:
    """Whether the teacher, which sees privileged context in its prompt, answers a task better than the student.

    Attributes:
        verdict: "better", "worse" or "not shown", by the exact paired test; "no teacher" if no prompt has one; "not
            measured" if nothing judges the task's answers.
        items: training prompts that were tried.
        teacher, student: mean rewards of greedy answers to the prompts that have a teacher. If `graded` is false, they
            are the shares of right answers.
        graded: some reward is neither 0 nor 1.
        ci95: of the paired difference teacher − student; it leaves out 0 if `p` is below .05.
        p: two-sided.
    """

    task: str
    verdict: str
    items: int
    prompts_with_teacher: int
    teacher: float | None = None
    student: float | None = None
    graded: bool = False
    ci95: list[float] | None = None
    p: float | None = None

    def sentence(self) -> str:
        """The result in words."""
        if self.verdict == "not measured":
            return f"{self.task}: nothing judges an answer, so teacher and student cannot be compared"
        if self.verdict == "no teacher":
            return f"{self.task}: 0 of {self.items} prompts have a teacher, so there is nothing to learn from yet"
        assert self.teacher is not None
        assert self.student is not None
        assert self.ci95 is not None
        if self.graded:
            scores = f"the teacher's mean reward is {self.teacher:.2f}, the student's {self.student:.2f}"
            low, high = (f"{round(end, 2) + 0:+.2f}" for end in self.ci95)  # + 0: never "-0.00"
            unit = ""
        else:
            scores = f"the teacher scores {self.teacher:.0%}, the student {self.student:.0%}"
            low, high = (f"{round(100 * end) + 0:+d}" for end in self.ci95)
            unit = " points"
        prompts = f"{self.prompts_with_teacher} of {self.items} prompts have a teacher"
        evidence = f"95% CI of the difference {low} to {high}{unit}; {prompts}"
        if self.verdict == "better":
            return f"{self.task}: {scores}. The teacher is better ({evidence})"
        advice = "Give it more context, or use a stronger model"
        if self.verdict == "worse":
            return f"{self.task}: {scores}. The teacher is WORSE ({evidence}). {advice}"
        advice = "Compare more prompts with --items, give the teacher more context, or use a stronger model"
        if self.student == 1:
            advice = "The student is always right already, so take harder prompts"
        return f"{self.task}: {scores}. Inconclusive: the teacher is NOT shown to be better ({evidence}). {advice}"


def check_teacher(run: Run, trial: Trial) -> TeacherCheck:
    """Let teacher and student answer the same training prompts greedily."""
    task, items = trial.task, len(trial.groups)
    if task.verifier is None and task.episodes is None:
        return TeacherCheck(task.name, "not measured", items, 0)
    with_teacher = (next((row for row in g.rows if _has_teacher(row)), None) for g in trial.groups)
    rows = [row for row in with_teacher if row is not None]
    if not rows:
        return TeacherCheck(task.name, "no teacher", items, 0)
    student = _rewards(run, trial, rows, [row.prompt_ids for row in rows])
    teacher = _rewards(run, trial, rows, [row.teacher_prompt_ids or [] for row in rows])
    found = compare_paired(teacher, student)
    return TeacherCheck(
        task=task.name,
        verdict=found.verdict,
        items=items,
        prompts_with_teacher=len(rows),
        teacher=sum(teacher) / len(rows),
        student=sum(student) / len(rows),
        graded=any(reward not in (0, 1) for reward in (*teacher, *student)),
        ci95=list(found.ci95),
        p=found.p,
    )


def _has_teacher(row: Row) -> bool:
    """Whether a row that is trained on has a teacher: for a divergence, or one that scales advantages or weights."""
    return bool(row.teacher_prompt_ids) and row.has_signal


def _rewards(run: Run, trial: Trial, rows: Sequence[Row], prompts: Sequence[list[int]]) -> list[float]:
    """Rewards of greedy answers.

    Args:
        rows: whose examples the answers are judged by.
        prompts: token ids of the prompt for each row.
    """
    completed = complete(
        Sampler(run.policy),
        run.policy.chat_format,
        [Request(ids, temperature=0.0) for ids in prompts],
        [(trial.task, row.example) for row in rows],
        max_new_tokens=run.config.train.max_completion_length,
        batch_tokens=run.config.eval.batch_tokens,
        workers=run.config.train.verifier_workers,
    )
    return [0.0 if verdict is None else verdict.reward for *_, verdict in completed]

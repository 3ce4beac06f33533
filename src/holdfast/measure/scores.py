"""The matrix of evaluations that every metric is computed from.

A[s][j] is the score of task j in the evaluation after stage s. Row 0 is the base model. Task j is learned in stage j.
T is the last finished stage.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from holdfast.measure.chance import is_above_chance

Json = dict[str, Any]

Scores = dict[str, float]
"""Score by the name of a task or suite."""


def mean(values: Iterable[float]) -> float | None:
    """The mean, or None if there are no values."""
    values = list(values)
    return sum(values) / len(values) if values else None


def score(evaluation: Mapping[str, Any], name: str, field: str = "mean") -> float | None:
    """One number of one set in an evaluation of a summary. None if the set was not evaluated."""
    value = evaluation["scores"].get(name, {}).get(field)
    return None if value is None else float(value)


def scores_of(evaluation: Mapping[str, Any], field: str = "mean") -> Scores:
    """One number of all sets in an evaluation of a summary. Sets without it are left out."""
    return {name: value for name in evaluation["scores"] if (value := score(evaluation, name, field)) is not None}


def drops(before: Mapping[str, float], after: Mapping[str, float]) -> Scores:
    """before − after for each name in both. Positive means lost."""
    return {name: before[name] - after[name] for name in before if name in after}


@dataclass(frozen=True)
class ScoreMatrix:
    """The scores of one run, finished or not, as metrics read them.

    A set that was never scored is absent from every result. So is a set that nothing judges, except from results about
    the NLL of its demonstrations.

    A set can be forgotten only if the model that could forget it scores above its chance level: see `has_to_lose`.

    Attributes:
        evaluations: as in the summary: `stage`, `task` and `scores`, for stages 0 (the base) to T, in order.
        order: the tasks in the order of their stages. It may be longer than T while the run is under way.
        sets: `name`, `kind` and `chance` of everything evaluated.
    """

    evaluations: Sequence[Mapping[str, Any]]
    order: Sequence[str]
    sets: Sequence[Mapping[str, Any]]

    @cached_property
    def rows(self) -> list[Scores]:
        """A[0] to A[T]."""
        return [scores_of(e) for e in self.evaluations]

    @cached_property
    def nll(self) -> list[Scores]:
        """N[0] to N[T]: as A, but the NLL of a set's demonstrations, in nats per token."""
        return [scores_of(e, "nll") for e in self.evaluations]

    @cached_property
    def probability(self) -> list[Scores]:
        """P[0] to P[T]: as A, but the probability of a set's right answers with their beginnings forced."""
        return [
            {name: block["probability"] for name, own in e["scores"].items() if (block := own.get("forced"))}
            for e in self.evaluations
        ]

    @property
    def base(self) -> Scores:
        """A[0], tasks and suites."""
        return self.rows[0]

    @property
    def end(self) -> Scores:
        """A[T], tasks and suites."""
        return self.rows[-1]

    @property
    def tasks(self) -> list[str]:
        """Tasks 1 to T: those whose stage is finished."""
        return list(self.order[: len(self.rows) - 1])

    @cached_property
    def learned(self) -> Scores:
        """A[j][j] by task: the score right after the task's own stage."""
        return {task: self.rows[j][task] for j, task in enumerate(self.tasks, 1) if task in self.rows[j]}

    @cached_property
    def final(self) -> Scores:
        """A[T][j] by task."""
        return {task: self.end[task] for task in self.tasks if task in self.end}

    def has_to_lose(self, name: str, stage: int) -> bool:
        """Whether a set's score after a stage (0: the base's) is above the set's chance level, by an exact test."""
        own = self.evaluations[stage]["scores"].get(name, {})
        return own.get("mean") is not None and is_above_chance(own["mean"], own["n"], self._chance[name])

    @cached_property
    def _chance(self) -> Scores:
        return {each["name"]: each["chance"] for each in self.sets}

    @cached_property
    def since_learned(self) -> Scores:
        """A[j][j] − A[T][j] by task, for the tasks before the last."""
        return drops({task: self.learned[task] for task in self.tasks[:-1] if task in self.learned}, self.final)

    @cached_property
    def forgotten(self) -> Scores:
        """`since_learned`, for the tasks that had something to lose when they were learned."""
        stages = {task: stage for stage, task in enumerate(self.tasks, 1)}
        return {task: lost for task, lost in self.since_learned.items() if self.has_to_lose(task, stages[task])}

    def suites(self, kind: str) -> list[str]:
        """Names of the suites of one kind, `retention` or `ood`."""
        return [s["name"] for s in self.sets if s["kind"] == kind]

    def change_of_suites(self, kind: str) -> Scores:
        """A[T] − A[0] by suite of one kind. Negative means lost.

        A retention suite in which the base has nothing to lose is left out.
        """
        names = [name for name in self.suites(kind) if kind != "retention" or self.has_to_lose(name, 0)]
        return drops({name: self.end[name] for name in names if name in self.end}, self.base)

    def at_end(self, name: str, field: str) -> float | None:
        """One number of one set in the last evaluation, such as `kl_to_base`."""
        return score(self.evaluations[-1], name, field)

    def sampled_at_end(self) -> dict[str, Mapping[str, Any]]:
        """The `sampled` block of each task in the last evaluation that has one."""
        blocks = {task: self.evaluations[-1]["scores"].get(task, {}).get("sampled") for task in self.tasks}
        return {task: block for task, block in blocks.items() if block is not None}

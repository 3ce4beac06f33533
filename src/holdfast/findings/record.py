"""What is kept of a finished run: its numbers, as plain data and as claims read them. Torch-free.

Losses are in points of 100, positive means lost. Probabilities are those of the right answer after its beginning, so
they are free of sampling noise and of the form of an answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from holdfast.measure.scores import mean

POINTS = 100.0

VERSION = 1
"""Version of the form of records, and of everything that is not in a run's own settings: defaults, the lab's base and
its tasks. Records of another version are not read."""


@dataclass(frozen=True)
class RunRecord:
    """One run of one arm in one world.

    Attributes:
        data: the record as `holdfast.findings.measure_run` writes it.
    """

    data: Mapping[str, Any]

    @property
    def tasks(self) -> Sequence[str]:
        """The tasks in the order of their stages."""
        names: Sequence[str] = self.data["tasks"]
        return names

    @property
    def suites(self) -> Sequence[str]:
        """The retention suites."""
        names: Sequence[str] = self.data["suites"]
        return names

    def value(self, stage: int, name: str, field: str = "score") -> float | None:
        """One number of a set in the evaluation after a stage; stage 0 is the base, −1 the end."""
        number = self.data["stages"][stage]["sets"].get(name, {}).get(field)
        return None if number is None else float(number)

    def learned(self, field: str = "score") -> float | None:
        """The tasks' scores right after their own stages, mean, in points."""
        return _points(self.value(stage, task, field) for stage, task in enumerate(self.tasks, 1))

    def gain(self, field: str = "score") -> float | None:
        """The same, from the base."""
        now, before = self.learned(field), _points(self.value(0, task, field) for task in self.tasks)
        return None if now is None or before is None else now - before

    def final(self, field: str = "score") -> float | None:
        """The tasks' scores at the end, mean, in points."""
        return _points(self.value(-1, task, field) for task in self.tasks)

    def kept(self, field: str = "score") -> float | None:
        """The retention suites' scores at the end, mean, in points."""
        return _points(self.value(-1, name, field) for name in self.suites)

    def lost(self, field: str = "score", names: Sequence[str] | None = None, stage: int = -1) -> float | None:
        """What the retention suites lost since the base, mean, in points.

        Args:
            names: only these suites.
            stage: after this stage; −1 is the end.
        """
        drops = [_drop(self.value(0, name, field), self.value(stage, name, field)) for name in names or self.suites]
        return _points(drops)

    def forgot(self, field: str = "score") -> float | None:
        """What the earlier tasks lost between their own stages and the end, mean, in points."""
        return _points(
            _drop(self.value(stage, task, field), self.value(-1, task, field))
            for stage, task in enumerate(self.tasks[:-1], 1)
        )

    def overall(self) -> float | None:
        """The mean of the tasks' mean final score and of the suites' mean final score, in points. Of a stream without
        suites, the tasks' alone."""
        sides = [self.final(), *([self.kept()] if self.suites else [])]
        return None if None in sides else mean(side for side in sides if side is not None)

    def kl_on_old(self, stage: int = -1) -> float | None:
        """KL(base‖model) on the right answers to old prompts, nats per token, mean over the suites."""
        return _mean(self.value(stage, name, "kl") for name in self.suites)

    def kl_on_new(self, stage: int = -1) -> float | None:
        """KL(base‖model) on the model's own answers to the tasks' prompts, nats per token, mean over the tasks."""
        return _mean(self.value(stage, name, "kl_new") for name in self.tasks)

    def nll_rise_on_old(self, stage: int = -1) -> float | None:
        """Rise of the NLL of the right answers to old prompts since the base, nats per token, mean over the suites."""
        return _mean(_drop(self.value(stage, name, "nll"), self.value(0, name, "nll")) for name in self.suites)

    def style(self, field: str, where: str = "new", stage: int = -1) -> float | None:
        """A share of sampled answers, in points: `tics`, `preambles`, `artifacts` (either), `main_form`, `no_form` or
        `success`.

        Args:
            where: on test prompts of the stage's task (`new`), or under headers that no task uses (`old`).
        """
        share = (self.data["stages"][stage].get("style") or {}).get(where, {}).get(field)
        return None if share is None else POINTS * share

    def amplified(self, field: str, where: str = "new") -> float | None:
        """How much that share grew since the base, in points."""
        before, after = self.style(field, where, 0), self.style(field, where)
        return None if before is None or after is None else after - before

    def drift(self) -> float | None:
        """Distance of the final weights from the base's, in percent of the base's norm."""
        moved = self.data["stages"][-1].get("drift")
        return None if moved is None else POINTS * moved

    def truncated(self) -> float | None:
        """Share of the tasks' greedy answers that are cut off at the end, in points."""
        return _points(self.value(-1, task, "truncated") for task in self.tasks)

    @property
    def tokens(self) -> float:
        """Tokens that were sampled and trained on, over the whole run."""
        spent = self.data["spent"]
        return float(spent["generated_tokens"] + spent["trained_tokens"])

    def extra(self, name: str) -> float | None:
        """A number that the arm's own measurement kept."""
        number = (self.data.get("extra") or {}).get(name)
        return None if number is None else float(number)

    def reaches(self, score: float) -> bool:
        """Whether a probe of the first task reaches a score (0 to 1)."""
        return any(point["task"] is not None and point["task"] >= score for point in self.data["curve"])

    def steps_to(self, score: float) -> float | None:
        """Optimizer steps until the first task reaches a score (0 to 1), interpolated between probes. A run that never
        reaches it counts with all its steps: fewer than it would need. None without probes."""
        points = [(0.0, self.value(0, self.tasks[0])), *((p["step"], p["task"]) for p in self.data["curve"])]
        if len(points) < 3:
            return None
        for (step, before), (next_step, after) in pairwise(points):
            if before is not None and after is not None and after >= score > before:
                return step + (next_step - step) * (score - before) / (after - before)
        return float(points[-1][0])

    def at_tokens(self, tokens: float, field: str) -> float | None:
        """A number of the learning curve (`task` or `suites`, in points) at a number of tokens, interpolated."""
        points = [(p["tokens"], p[field]) for p in self.data["curve"] if p[field] is not None]
        if not points or tokens > points[-1][0] or tokens < points[0][0]:
            return None
        for (used, before), (next_used, after) in pairwise(points):
            if used <= tokens <= next_used:
                share = (tokens - used) / (next_used - used) if next_used > used else 0.0
                return POINTS * float(before + share * (after - before))
        return POINTS * float(points[0][1])


def _drop(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else before - after


def _mean(values: "Sequence[float | None] | Any") -> float | None:
    """The mean; None if a value is missing, because the others may be there for a reason."""
    known = list(values)
    return None if None in known else mean(known)


def _points(values: "Sequence[float | None] | Any") -> float | None:
    average = _mean(values)
    return None if average is None else POINTS * average

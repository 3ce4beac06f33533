"""What a run shows while it works: a live line on a terminal, else one plain line for each stage that is done."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from holdfast.guard.guard import Decision
from holdfast.stream.observer import Observer

RECENT = 10
"""Optimizer steps that the speed shown is averaged over."""


@contextmanager
def watching(*, quiet: bool = False) -> Iterator[Observer]:
    """The observer that suits standard error: a live line on a terminal, plain lines elsewhere, nothing if quiet."""
    console = Console(stderr=True)
    if quiet:
        yield Observer()
    elif not console.is_terminal:
        yield StageLines(lambda line: print(line, file=sys.stderr, flush=True))
    else:
        columns = ("{task.fields[place]}", "{task.fields[numbers]}", "{task.fields[left]}")
        place, numbers, left = (TextColumn(column, markup=False) for column in columns)
        bar = Progress(
            place,
            BarColumn(20),
            MofNCompleteColumn(),
            numbers,
            left,
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        with bar:
            yield LiveLine(bar)


class StepRate:
    """How fast a run goes and how long it will still take, from the steps and evaluations that it has shown.

    Args:
        steps: optimizer steps of the whole run.
        evaluations: of the whole run.
        steps_done: by an earlier process.
        evaluations_done: by an earlier process.
    """

    def __init__(self, steps: int, evaluations: int, steps_done: int = 0, evaluations_done: int = 0) -> None:
        self._steps, self._evaluations = steps, evaluations
        self._steps_left, self._evaluations_left = steps - steps_done, evaluations - evaluations_done
        self._step_seconds: list[float] = []
        self._evaluation_seconds: list[float] = []
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def step(self, tokens: float, seconds: float) -> None:
        """An optimizer step was taken: tokens sampled and trained on, and the time that it took."""
        self._steps_left -= 1
        self._step_seconds.append(seconds)
        self._recent.append((tokens, seconds))

    def undone(self, steps: int) -> None:
        """So many steps are to be taken again."""
        self._steps_left += steps

    def evaluation(self, seconds: float) -> None:
        """All sets were evaluated."""
        self._evaluations_left -= 1
        self._evaluation_seconds.append(seconds)

    def tokens_per_second(self) -> float | None:
        """Over the last steps; None before the first."""
        seconds = sum(s for _, s in self._recent)
        return sum(tokens for tokens, _ in self._recent) / seconds if seconds else None

    def seconds_left(self, more_runs: int = 0) -> float | None:
        """Of this run and of so many more like it; None until a step has shown how long one takes."""
        if not self._step_seconds:
            return None
        step = sum(self._step_seconds) / len(self._step_seconds)
        evaluation = sum(self._evaluation_seconds) / max(1, len(self._evaluation_seconds))
        steps = max(0, self._steps_left) + more_runs * self._steps
        evaluations = max(0, self._evaluations_left) + more_runs * self._evaluations
        return step * steps + evaluation * evaluations


class StageLines(Observer):
    """A plain line for each decision of the guard, and for each evaluation done, with the score of the stage's task.

    Args:
        write: called with each line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self.place = ""
        """Which run of a comparison this is, in words; empty for a single run."""
        self.more_runs = 0
        """Runs of a comparison that come after this one."""

    def comparison_run(self, number: int, runs: int) -> None:
        self.place, self.more_runs = f", run {number}/{runs}", runs - number

    def run_started(self, label: str, stages: int, steps: int, done: int) -> None:
        self.run, self.stages, self.steps, self.done = label + self.place, stages, steps, done
        self.task = ""

    def stage_started(self, stage: int, task: str, steps: int, done: int) -> None:
        self.stage, self.task = stage, task

    def step_done(self, numbers: Mapping[str, Any]) -> None:
        self.done += 1

    def decided(self, decision: Decision) -> None:
        who = "NEAR FUTURE" if decision.rule == "near_future" else "GUARD"
        said = f"{who} at step {decision.step} of {decision.task}: {decision.message} ({decision.rule})"
        self._write(f"{self.run}: {said}" + (f": {decision.outcome}" if decision.outcome else ""))

    def rolled_back(self, steps: int) -> None:
        self.done -= steps

    def evaluation_done(self, stage: int, scores: Mapping[str, float]) -> None:
        if stage:
            self._write(f"{self.run}: stage {stage}/{self.stages} {self.task} done, score {scores[self.task]:.1%}")
        else:
            self._write(f"{self.run}: evaluated before the first stage")


class LiveLine(StageLines):
    """The lines of `StageLines` above a live one: where the run is, its last numbers, its speed, the time left."""

    def __init__(self, bar: Progress) -> None:
        super().__init__(lambda line: bar.console.print(line, markup=False, highlight=False))
        self._bar = bar
        self._line = bar.add_task("", total=None, place="loading", numbers="", left="")

    def run_started(self, label: str, stages: int, steps: int, done: int) -> None:
        super().run_started(label, stages, steps, done)
        self._pace = StepRate(steps, stages + 1, done, done * stages // max(1, steps))
        self._bar.update(self._line, total=steps, completed=done, place=self.run, numbers="", left="")

    def stage_started(self, stage: int, task: str, steps: int, done: int) -> None:
        super().stage_started(stage, task, steps, done)
        self._show(numbers="")

    def step_done(self, numbers: Mapping[str, Any]) -> None:
        super().step_done(numbers)
        tokens = numbers.get("generated_tokens", 0) + numbers.get("trained_tokens", 0)
        self._pace.step(tokens, numbers["seconds"])
        reward, speed = numbers.get("reward"), self._pace.tokens_per_second()
        shown = [f"loss {numbers['loss']:z.3f}"]
        shown += [f"reward {reward:.2f}"] if reward is not None else []
        shown += [f"{speed:,.0f} tokens/s"] if speed is not None else []
        self._show(numbers="  ".join(shown))

    def rolled_back(self, steps: int) -> None:
        super().rolled_back(steps)
        self._pace.undone(steps)
        self._show(numbers="")

    def evaluation_started(self, stage: int, sets: int) -> None:
        self._began, self._set, self._sets = time.perf_counter(), 0, sets

    def set_started(self, name: str) -> None:
        self._set += 1
        self._show(numbers=f"evaluating {name} ({self._set}/{self._sets})")

    def evaluation_done(self, stage: int, scores: Mapping[str, float]) -> None:
        super().evaluation_done(stage, scores)
        self._pace.evaluation(time.perf_counter() - self._began)
        self._show(numbers="")

    def _show(self, numbers: str) -> None:
        place = f"{self.run}: stage {self.stage}/{self.stages} {self.task}" if self.task else self.run
        seconds = self._pace.seconds_left(self.more_runs)
        left = f"{duration(seconds)} left" if seconds is not None else ""
        self._bar.update(self._line, completed=self.done, place=place, numbers=numbers, left=left)


def duration(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes, as a clock shows them: 3:07, 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

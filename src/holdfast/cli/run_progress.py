"""Progress of a run: a live line on a terminal, elsewhere one plain line per finished stage.

The live line is a rich progress bar. The time left is estimated here and not by rich's `TimeRemainingColumn`, which
knows only the steps of one bar. Evaluations, rolled-back steps and the remaining runs of a comparison count too, and
often take longer than the steps.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from holdfast.cli.say import say_aside
from holdfast.errors import printable
from holdfast.guard.guard import Decision
from holdfast.stream.observer import Observer

RECENT = 10
"""Optimizer steps over which the speed is averaged."""


@contextmanager
def watching(*, quiet: bool = False) -> Iterator[Observer]:
    """The observer for standard error: a live line on a terminal, plain lines elsewhere, nothing if quiet."""
    console = Console(stderr=True)
    if quiet:
        yield Observer()
    elif not console.is_terminal:
        yield StageLines(lambda line: say_aside(line))
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
    """Speed and time left of a run, from the durations of its steps and evaluations so far.

    Args:
        steps: optimizer steps of the whole run.
        evaluations: evaluations of the whole run.
        steps_done: steps that an earlier process has made, if the run is resumed.
        evaluations_done: evaluations that an earlier process has made.
    """

    def __init__(self, steps: int, evaluations: int, steps_done: int = 0, evaluations_done: int = 0) -> None:
        self._steps, self._evaluations = steps, evaluations
        self._steps_left, self._evaluations_left = steps - steps_done, evaluations - evaluations_done
        self._step_seconds: list[float] = []
        self._evaluation_seconds: list[float] = []
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def step(self, tokens: float, seconds: float) -> None:
        """Count an optimizer step.

        Args:
            tokens: tokens sampled plus tokens trained on.
            seconds: the step's duration.
        """
        self._steps_left -= 1
        self._step_seconds.append(seconds)
        self._recent.append((tokens, seconds))

    def undone(self, steps: int) -> None:
        """Count steps that were rolled back and have to be made again."""
        self._steps_left += steps

    def evaluation(self, seconds: float) -> None:
        """Count an evaluation of all sets."""
        self._evaluations_left -= 1
        self._evaluation_seconds.append(seconds)

    def tokens_per_second(self) -> float | None:
        """Speed over the last `RECENT` steps; None before the first step."""
        seconds = sum(s for _, s in self._recent)
        return sum(tokens for tokens, _ in self._recent) / seconds if seconds else None

    def seconds_left(self, more_runs: int = 0) -> float | None:
        """Estimated seconds for this run and `more_runs` more like it; None before the first step."""
        if not self._step_seconds:
            return None
        step = sum(self._step_seconds) / len(self._step_seconds)
        evaluation = sum(self._evaluation_seconds) / max(1, len(self._evaluation_seconds))
        steps = max(0, self._steps_left) + more_runs * self._steps
        evaluations = max(0, self._evaluations_left) + more_runs * self._evaluations
        return step * steps + evaluation * evaluations


class StageLines(Observer):
    """One plain line per guard decision, and one per finished evaluation with the score on the stage's task.

    Args:
        write: called with each line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self.place = ""
        """Which run of a comparison this is, e.g. ", run 2/4"; empty for a single run."""
        self.more_runs = 0
        """Runs of the comparison that come after this one."""

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
        source = "NEAR FUTURE" if decision.rule == "near_future" else "GUARD"
        what = f"{source} at step {decision.step} of {decision.task}: {decision.message} ({decision.rule})"
        self._write(f"{self.run}: {what}" + (f": {decision.outcome}" if decision.outcome else ""))

    def rolled_back(self, steps: int) -> None:
        self.done -= steps

    def evaluation_done(
        self, stage: int, scores: Mapping[str, float | None], nll: Mapping[str, float] | None = None
    ) -> None:
        if stage:
            score, own_nll = scores[self.task], (nll or {}).get(self.task)
            result = "not judged" if score is None else f"score {score:.1%}"
            if score is None and own_nll is not None:
                result += f", NLL {own_nll:.3f} nats per token"
            self._write(f"{self.run}: stage {stage}/{self.stages} {self.task} done, {result}")
        else:
            self._write(f"{self.run}: evaluated before the first stage")


class LiveLine(StageLines):
    """The lines of `StageLines` above a live line: stage, last metrics, speed and time left."""

    def __init__(self, bar: Progress) -> None:
        super().__init__(lambda line: bar.console.print(printable(line), markup=False, highlight=False))
        self._bar = bar
        self._line = bar.add_task("", total=None, place="loading", numbers="", left="")

    def run_started(self, label: str, stages: int, steps: int, done: int) -> None:
        super().run_started(label, stages, steps, done)
        self._rate = StepRate(steps, stages + 1, done, done * stages // max(1, steps))
        self._bar.update(self._line, total=steps, completed=done, place=self.run, numbers="", left="")

    def stage_started(self, stage: int, task: str, steps: int, done: int) -> None:
        super().stage_started(stage, task, steps, done)
        self._show(numbers="")

    def step_done(self, numbers: Mapping[str, Any]) -> None:
        super().step_done(numbers)
        tokens = numbers.get("generated_tokens", 0) + numbers.get("trained_tokens", 0)
        self._rate.step(tokens, numbers["seconds"])
        reward, speed = numbers.get("reward"), self._rate.tokens_per_second()
        shown = [f"loss {numbers['loss']:z.3f}"]
        shown += [f"reward {reward:.2f}"] if reward is not None else []
        shown += [f"{speed:,.0f} tokens/s"] if speed is not None else []
        self._show(numbers="  ".join(shown))

    def rolled_back(self, steps: int) -> None:
        super().rolled_back(steps)
        self._rate.undone(steps)
        self._show(numbers="")

    def evaluation_started(self, stage: int, sets: int) -> None:
        self._began, self._set, self._sets = time.perf_counter(), 0, sets

    def set_started(self, name: str) -> None:
        self._set += 1
        self._show(numbers=f"evaluating {name} ({self._set}/{self._sets})")

    def evaluation_done(
        self, stage: int, scores: Mapping[str, float | None], nll: Mapping[str, float] | None = None
    ) -> None:
        super().evaluation_done(stage, scores, nll)
        self._rate.evaluation(time.perf_counter() - self._began)
        self._show(numbers="")

    def _show(self, numbers: str) -> None:
        place = f"{self.run}: stage {self.stage}/{self.stages} {self.task}" if self.task else self.run
        seconds = self._rate.seconds_left(self.more_runs)
        left = f"{duration(seconds)} left" if seconds is not None else ""
        self._bar.update(self._line, completed=self.done, place=place, numbers=numbers, left=left)


def duration(seconds: float) -> str:
    """A duration as 3:07 (minutes and seconds) or 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

"""Going back with answers of the near future: where to, from whom, and what a checkpoint must know of it.

The run trains on until its scout is due. Then, with the weights of a checkpoint ahead, the prompts that are still to
come are answered; the right answers are written down, and the run goes back to an earlier checkpoint exactly: weights,
optimizer, controllers, place in the data, and with them all draws, which are named and not counted.

A kill at any moment leaves a run that comes to the same: until the new checkpoint is in its place, the newest one is
from before the decision, which is then made again with the same draws.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.config.settings import TrainSettings
from holdfast.data.rows import Row
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Task
from holdfast.errors import ConfigError
from holdfast.model.logprobs import completion_logprobs
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.recipes.parts.rollouts import NearFutureSpec
from holdfast.rollouts.collect import Collector
from holdfast.rollouts.near_future import GuidePool, digest_of, rate_by_prompt
from holdfast.rollouts.training_prompts import TrainingPrompt
from holdfast.store.files import read_json
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.near_future.triggers import Scout, scout_of
from holdfast.stream.position import load_weights
from holdfast.train.checkpoint import open_checkpoint


@dataclass(frozen=True)
class Choice:
    """Two steps of the stage: to go back to, and whose weights answer; with what is known of them."""

    back_to: int
    guide_from: int
    quality: float | None = None
    """Q̂: share of the prompts that failed which the near future answers right."""
    variance: float | None = None
    """V̂: exp of the mean |log π_back − log π_guide| over the tokens of its right answers."""

    @property
    def score(self) -> float | None:
        return None if self.quality is None or self.variance is None else self.quality / self.variance

    def saw(self) -> dict[str, float]:
        numbers = {
            "back_to": float(self.back_to),
            "guide_from": float(self.guide_from),
            "quality": self.quality,
            "variance": self.variance,
            "score": self.score,
        }
        return {name: value for name, value in numbers.items() if value is not None}


class Scouting:
    """The scout of one run, alike in all of its processes.

    Args:
        spec: None for a recipe without guides, which makes every method trivial.
        collector: brings the guides along.
    """

    def __init__(
        self, spec: NearFutureSpec | None, directory: RunDirectory, collector: Collector, policy: Policy, seed: int
    ) -> None:
        self.spec, self.directory, self.collector, self.policy, self.seed = spec, directory, collector, policy, seed
        self.world = Processes.current()
        self.undone = 0
        """Steps that going back has undone, and times, since the run began: checkpoints are numbered on past them."""
        self.begin_stage()

    def begin_stage(self) -> None:
        """A stage begins, without guides."""
        self.scout: Scout | None = scout_of(self.spec) if self.spec is not None else None
        self.places: dict[int, int] = {}
        """Numbers of the checkpoints that the run may go back to, by step of the stage."""
        self.guides: dict[str, str] | None = None
        """Name and digest of the file with the guides."""
        self.collector.guides = None

    @property
    def acts(self) -> bool:
        return self.scout is not None

    @property
    def due(self) -> bool:
        return self.scout is not None and self.scout.due

    def check(self, steps: Mapping[str, int]) -> None:
        """Refuse a scout that would never come back.

        Args:
            steps: of each stage, by its task's name.

        Raises:
            ConfigError: a stage is too short.
        """
        for task, count in steps.items() if self.spec is not None else ():
            if self.spec is not None and self.spec.steps > count:
                raise ConfigError(
                    f"the recipe goes {self.spec.steps} steps ahead, and the stage has {count}",
                    where=f"task {task!r}",
                    fix="lower scout_steps, or raise the stage's steps",
                )

    def wants_checkpoint(self, step: int) -> bool:
        return self.scout is not None and (self.scout.due or self.scout.is_place(step))

    def saving(self, number: int, step: int) -> None:
        """A checkpoint is about to be written."""
        if self.spec is None or not self.wants_checkpoint(step):
            return
        self.places[step] = number
        if self.spec.kind == "stalled":
            self.places = {at: self.places[at] for at in sorted(self.places)[-self.spec.candidates :]}

    def spared(self) -> set[int]:
        """Numbers of the checkpoints that must be kept."""
        return set(self.places.values())

    def see(self, step: int, record: Mapping[str, Any], rows: Sequence[Row], *, fresh: bool) -> None:
        """After a step: its numbers, and the rows it was taken on; `fresh`: it was the first on them."""
        if self.scout is not None and self.spec is not None:
            shares = rate_by_prompt(rows, self.spec.success_threshold) if fresh else {}
            self.scout.see(step, record, shares)

    def choose(self, task: Task, stage: int) -> Choice | None:
        """Where to go back to and whose answers to take; None where no candidate has an answer that is needed.

        Where there is a choice, the policy has other weights afterwards.
        """
        assert self.scout is not None
        assert self.spec is not None
        steps = sorted(self.places)
        if self.spec.kind == "ahead":
            return Choice(steps[0], steps[-1])
        failed = set(self.scout.failed())
        prompts = [p for p in self.collector.pool.of[task.name] if p.example.id in failed]
        right: dict[int, list[Row]] = {}
        quality: dict[int, float] = {}
        for step in steps[1:]:
            self._load(step)
            right[step] = self._right(self._answers(task, prompts, "candidate", stage, self.undone, step))
            quality[step] = len({row.example.id for row in right[step]}) / max(1, len(prompts))
        choices = []
        for step in steps[:-1]:
            self._load(step)
            own = [(ahead, row) for ahead in steps if ahead > step for row in right[ahead]]
            values = self._logprobs([row for _, row in own])
            for ahead in (each for each in steps if each > step):
                distance = _mean_distance([(row, v) for (b, row), v in zip(own, values, strict=True) if b == ahead])
                choices.append(Choice(step, ahead, quality[ahead], math.exp(distance)))
        needed = [each for each in choices if each.score]
        return max(needed, key=lambda each: (each.score, each.back_to, -each.guide_from), default=None)

    def gather(self, task: Task, stage: int, choice: Choice, batches: range, name: str, *, measured: bool) -> GuidePool:
        """Answer the prompts of rollout batches that are to come, and write the right answers down.

        Args:
            batches: those from where the run goes back to, to the end of the stage.
            name: of the file, within the run directory's `guides`.
            measured: the candidates were, so that the policy has other weights than at the latest step.
        """
        assert self.spec is not None
        if measured:
            self._load(choice.guide_from)
        prompts = self.collector.pool.upcoming(task.name, batches.start, batches.stop)
        rows = self._answers(task, prompts, "guides", stage, self.undone)
        pool = GuidePool.of(rows, self.spec.success_threshold, batches.start)
        path = self.directory.guides(name)
        self.world.main(lambda: pool.write(path))
        self.guides = {"name": name, "digest": self.world.main(lambda: digest_of(read_json(path)))}
        self.collector.guides = pool
        return pool

    def measured(self, choice: Choice, pool: GuidePool) -> Choice:
        """A choice that was the only one, with what its guides say of it; the policy stands where it goes back to."""
        assert self.scout is not None
        if choice.score is not None:
            return choice
        failed = self.scout.failed()
        right = [row for name in failed for row in pool.answers.get(name, ())]
        quality = sum(name in pool.answers for name in failed) / max(1, len(failed))
        distance = _mean_distance(list(zip(right, self._logprobs(right), strict=True)))
        return replace(choice, quality=quality, variance=math.exp(distance))

    def went_back(self, steps: int, step: int, number: int) -> None:
        """The run has gone back by so many steps, to a position that is saved next, as checkpoint `number`."""
        assert self.scout is not None
        self.undone += steps + 1
        self.scout.went_back()
        own = {at: saved for at, saved in self.places.items() if at < step} | {step: number}
        self.places = {at: saved for at, saved in own.items() if self.scout.is_place(at)}

    def go_on(self, step: int) -> None:
        """The scout was due at a step, and there is nothing to go back for."""
        assert self.scout is not None
        self._load(step)
        self.scout.found_nothing()

    def as_json(self) -> dict[str, Any]:
        """Everything that a checkpoint must hold."""
        if self.scout is None:
            return {}
        state = {"scout": self.scout.state(), "places": self.places, "guides": self.guides}
        return state | {"undone": self.undone}

    def load(self, state: Mapping[str, Any], task: Task | None, *, all_of_it: bool = True) -> None:
        """Take back what `as_json` gave.

        Args:
            task: of the stage that the checkpoint stands in; None after the last.
            all_of_it: false where the guard went back: what is undone stays so.

        Raises:
            RunError: the guides are gone or have changed.
        """
        self.begin_stage()
        if self.scout is None or not state:
            return
        self.scout.load_state(state["scout"])
        places = {int(step): number for step, number in state["places"].items()}
        # Where the guard went back, those before may have been removed since.
        self.places = self.world.main(
            lambda: {at: number for at, number in places.items() if self.directory.checkpoint(number).is_dir()}
        )
        self.guides = state["guides"]
        if all_of_it:
            self.undone = state["undone"]
        if self.guides is not None and task is not None:
            path = self.directory.guides(self.guides["name"])
            self.collector.guides = GuidePool.read(path, self.guides["digest"], task.train)

    def _load(self, step: int) -> None:
        load_weights(open_checkpoint(self.directory.checkpoint(self.places[step])), self.policy)

    def _answers(self, task: Task, prompts: Sequence[TrainingPrompt], *name: int | str) -> list[Row]:
        assert self.spec is not None
        asked = [(prompt, each) for prompt in prompts for each in range(self.spec.samples)]
        requests = [
            self.collector.request(prompt.prompt_ids, derive_seed(self.seed, *name, prompt.example.id, each))
            for prompt, each in asked
        ]
        return self.collector.answered([(task, prompt) for prompt, _ in asked], requests)

    def _right(self, rows: Sequence[Row]) -> list[Row]:
        assert self.spec is not None
        return [row for row in rows if row.reward >= self.spec.success_threshold]

    def _logprobs(self, rows: Sequence[Row]) -> list[list[float]]:
        train: TrainSettings = self.collector.train
        temperature = self.collector.spec.temperature
        return completion_logprobs(self.policy, rows, temperature=temperature, batch_tokens=train.micro_batch_tokens)


def _mean_distance(scored: Sequence[tuple[Row, Sequence[float]]]) -> float:
    """Mean |log π − log π_guide| over the tokens of a guide's rows, given log π; 0 of none."""
    distances = []
    for row, values in scored:
        written = row.sampled_logprobs or row.source_logprobs
        assert written is not None
        distances += [abs(v - written[t]) for t, v in zip(row.loss_positions(), values, strict=True)]
    return sum(distances) / len(distances) if distances else 0.0

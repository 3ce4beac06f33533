"""Answers from a run's own near future: which checkpoint gives them, and how far the run rolls back with them.

The run trains until its trigger fires. A later checkpoint, or the current weights, then answer the prompts of the
coming rollout batches. The correct answers are written to a file. Then the run rolls back to exactly the state of an
earlier checkpoint: weights, optimizer, controllers, place in the data. Random draws repeat too, because each has a
name instead of a count.

A kill at any moment does not change the result. Until the new checkpoint is in place, the newest one is from before the
decision. The resumed run then makes the decision again, with the same draws.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.config.settings import TrainSettings
from holdfast.data.example import Verdict
from holdfast.data.failures import count_failures
from holdfast.data.rows import Row
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Task
from holdfast.errors import ConfigError
from holdfast.model.logprobs import completion_logprobs
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.recipes.parts.rollouts import NearFutureSpec
from holdfast.rollouts.collect import Collector
from holdfast.rollouts.sources.near_future import AnswerPool, digest_of, rate_by_prompt, sample_entropy
from holdfast.rollouts.training_prompts import TrainingPrompt
from holdfast.store.files import read_json
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.learner import load_weights
from holdfast.stream.near_future.triggers import Trigger, make_trigger
from holdfast.train.checkpoint import open_checkpoint


@dataclass(frozen=True)
class Return:
    """A return to step `back_to` of the stage, with answers of the model after step `answers_from`."""

    back_to: int
    answers_from: int
    quality: float | None = None
    """Q̂: the share of failed prompts that the later model answers correctly."""
    variance: float | None = None
    """V̂: exp of the mean |log π_back − log π_later| over the tokens of its correct answers."""

    @property
    def score(self) -> float | None:
        """NPO's score of a pair of checkpoints, Q̂ / V̂."""
        return None if self.quality is None or self.variance is None else self.quality / self.variance

    def values(self) -> dict[str, float]:
        """The known numbers, for a decision's line in decisions.jsonl."""
        values = {
            "back_to": float(self.back_to),
            "guide_from": float(self.answers_from),
            "quality": self.quality,
            "variance": self.variance,
            "score": self.score,
        }
        return {name: value for name, value in values.items() if value is not None}


class NearFuture:
    """The trigger, the candidate checkpoints and the answers of one run. Every process holds the same state.

    Args:
        spec: None for a recipe that never rolls back; every method then does nothing.
        collector: samples the answers, and brings them into later rollout batches.
    """

    def __init__(
        self, spec: NearFutureSpec | None, directory: RunDirectory, collector: Collector, policy: Policy, seed: int
    ) -> None:
        self.spec, self.directory, self.collector, self.policy, self.seed = spec, directory, collector, policy, seed
        self.world = Processes.current()
        self._verdicts: list[Verdict | None] = []
        self.undone = 0
        """Steps that planned roll-backs have undone since the run began, plus the number of these roll-backs.

        Checkpoint numbers continue after them, so that the newest checkpoint always has the highest number.
        """
        self.start_stage()

    def start_stage(self) -> None:
        """Start a stage with a new trigger and without answers."""
        self.trigger: Trigger | None = make_trigger(self.spec) if self.spec is not None else None
        self.checkpoints: dict[int, int] = {}
        """Candidate checkpoints: the number of each, by step of the stage."""
        self.answers_file: dict[str, str] | None = None
        """Name and digest of the file with the answers that rollout batches bring."""
        self.collector.near_future_answers = None

    @property
    def acts(self) -> bool:
        """Whether the recipe can roll back at all."""
        return self.trigger is not None

    @property
    def due(self) -> bool:
        """Whether the run rolls back now."""
        return self.trigger is not None and self.trigger.due

    def check(self, steps: Mapping[str, int]) -> None:
        """Refuse a trigger that could never fire.

        Args:
            steps: optimizer steps of each stage, by task name.

        Raises:
            ConfigError: a stage is too short.
        """
        if self.spec is None:
            return
        for task, count in steps.items():
            if self.spec.steps > count:
                raise ConfigError(
                    f"the recipe rolls back after {self.spec.steps} steps, but the stage has only {count}",
                    where=f"task {task!r}",
                    fix="lower scout_steps, or raise the stage's steps",
                )
            batches = -(-count // self.collector.spec.num_iterations)
            if self.spec.kind == "stalled" and self.spec.patience > batches:
                raise ConfigError(
                    f"the recipe rolls back if the reward stalls for {self.spec.patience} rollout batches, but the "
                    f"stage has only {batches}",
                    where=f"task {task!r}",
                    fix="lower patience, or raise the stage's steps",
                )

    def needs_checkpoint(self, step: int) -> bool:
        """Whether the run must save a checkpoint after this step: to go back to, or to answer with."""
        return self.trigger is not None and (self.trigger.due or self.trigger.is_return_point(step))

    def add_candidate(self, number: int, step: int) -> None:
        """Take checkpoint `number`, which is about to be written after `step` steps, as a candidate if it is needed."""
        if self.spec is None or not self.needs_checkpoint(step):
            return
        self.checkpoints[step] = number
        if self.spec.kind == "stalled":
            latest = sorted(self.checkpoints)[-self.spec.candidates :]
            self.checkpoints = {at: self.checkpoints[at] for at in latest}

    def needed_checkpoints(self) -> set[int]:
        """Numbers of the checkpoints that must not be removed."""
        return set(self.checkpoints.values())

    def see(self, step: int, record: Mapping[str, Any], rows: Sequence[Row], *, first: bool) -> None:
        """Show an optimizer step to the trigger.

        Args:
            record: the step's line of metrics.jsonl.
            rows: what the step was taken on.
            first: it is the first step on these rows.
        """
        if self.trigger is not None and self.spec is not None:
            rates = rate_by_prompt(rows, self.spec.success_threshold) if first else {}
            self.trigger.see(step, record.get("reward"), sample_entropy(rows) if first else None, rates)

    def numbers(self) -> dict[str, float | None]:
        """What the trigger watches, for the step's line of metrics.jsonl; empty if it only counts steps."""
        return {} if self.trigger is None else self.trigger.numbers()

    def choose(self, task: Task, stage: int) -> Return | None:
        """Choose the pair of checkpoints to go back to and to answer with.

        A trigger of kind `ahead` has only one pair. Otherwise the pair with the highest score Q̂/V̂ wins. To measure the
        scores, the policy takes the weights of each candidate in turn, and keeps the last ones.

        Returns:
            None if no candidate answers a failed prompt correctly.
        """
        assert self.trigger is not None
        assert self.spec is not None
        self._verdicts = []
        steps = sorted(self.checkpoints)
        if self.spec.kind == "ahead":
            return Return(steps[0], steps[-1])
        failed = set(self.trigger.failed_prompts())
        prompts = [p for p in self.collector.pool.of[task.name] if p.example.id in failed]
        correct: dict[int, list[Row]] = {}
        quality: dict[int, float] = {}
        for step in steps[1:]:  # the earliest is never ahead of another
            self._load(step)
            correct[step] = self._correct(self._sample(task, prompts, "candidate", stage, self.undone, step))
            quality[step] = len({row.example.id for row in correct[step]}) / max(1, len(prompts))
        pairs = []
        for step in steps[:-1]:
            self._load(step)
            rows = [(ahead, row) for ahead in steps if ahead > step for row in correct[ahead]]
            logprobs = self._logprobs([row for _, row in rows])
            for ahead in (each for each in steps if each > step):
                own = [(row, values) for (source, row), values in zip(rows, logprobs, strict=True) if source == ahead]
                pairs.append(Return(step, ahead, quality[ahead], math.exp(_mean_distance(own))))
        useful = [pair for pair in pairs if pair.score]
        # Of equal pairs the one that undoes the fewest steps, with answers of the nearest model.
        return max(useful, key=lambda pair: (pair.score, pair.back_to, -pair.answers_from), default=None)

    def collect(self, task: Task, stage: int, choice: Return, batches: range, name: str) -> AnswerPool:
        """Answer the prompts of coming rollout batches, and write the correct answers to a file.

        Args:
            batches: from the one at which the run resumes to the end of the stage.
            name: of the file, in the run directory's `guides`.
        """
        assert self.spec is not None
        if choice.score is not None:
            self._load(choice.answers_from)  # measuring the scores has left other weights in the policy
        prompts = self.collector.pool.upcoming(task.name, batches.start, batches.stop)
        rows = self._sample(task, prompts, "guides", stage, self.undone)
        pool = AnswerPool.of(rows, self.spec.success_threshold, batches.start)
        path = self.directory.near_future_answers(name)
        self.world.main(lambda: pool.write(path))
        self.answers_file = {"name": name, "digest": self.world.main(lambda: digest_of(read_json(path)))}
        self.collector.near_future_answers = pool
        return pool

    def not_judged(self) -> dict[str, float]:
        """How many answers of the last search were not judged, by reason, for its decision; empty if all were."""
        counted = count_failures(self._verdicts)
        return {name: float(counted[name]) for name in ("verifier_timeouts", "verifier_errors") if counted[name]}

    def measured(self, choice: Return, pool: AnswerPool) -> Return:
        """Add quality and variance to a choice that had no alternative, for the log.

        The policy must have the weights that the run rolls back to.
        """
        assert self.trigger is not None
        if choice.score is not None:
            return choice
        failed = self.trigger.failed_prompts()
        correct = [row for name in failed for row in pool.answers.get(name, ())]
        quality = sum(name in pool.answers for name in failed) / max(1, len(failed))
        distance = _mean_distance(list(zip(correct, self._logprobs(correct), strict=True)))
        return replace(choice, quality=quality, variance=math.exp(distance))

    def went_back(self, steps: int, step: int, number: int) -> None:
        """Account for a roll-back to step `step` that has undone `steps` steps. The next checkpoint is `number`."""
        assert self.trigger is not None
        self.undone += steps + 1
        self.trigger.went_back()
        earlier = {at: saved for at, saved in self.checkpoints.items() if at < step} | {step: number}
        self.checkpoints = {at: saved for at, saved in earlier.items() if self.trigger.is_return_point(at)}

    def stay(self, step: int) -> None:
        """Account for a search without a result: take back the weights of step `step`, where the trigger fired."""
        assert self.trigger is not None
        self._load(step)
        self.trigger.stayed()

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint. The keys are those of earlier versions."""
        if self.trigger is None:
            return {}
        return {
            "scout": self.trigger.state(),
            "places": self.checkpoints,
            "guides": self.answers_file,
            "undone": self.undone,
        }

    def load_state(self, state: Mapping[str, Any], task: Task | None, *, with_undone: bool = True) -> None:
        """Restore what `state` returned.

        Args:
            task: of the checkpoint's stage; None after the last stage.
            with_undone: false after a roll-back of the guard, which does not reset the count of planned roll-backs.

        Raises:
            RunError: the file with the answers is missing or has changed.
        """
        self.start_stage()
        if self.trigger is None or not state:
            return
        self.trigger.load_state(state["scout"])
        saved = {int(step): number for step, number in state["places"].items()}  # JSON keys are strings
        # After a roll-back, some may have been removed since the checkpoint was written.
        self.checkpoints = self.world.main(
            lambda: {at: number for at, number in saved.items() if self.directory.checkpoint(number).is_dir()}
        )
        self.answers_file = state["guides"]
        if with_undone:
            self.undone = state["undone"]
        if self.answers_file is not None and task is not None:
            path = self.directory.near_future_answers(self.answers_file["name"])
            self.collector.near_future_answers = AnswerPool.read(path, self.answers_file["digest"], task.train)

    def _load(self, step: int) -> None:
        """Give the policy the weights of a candidate."""
        load_weights(open_checkpoint(self.directory.checkpoint(self.checkpoints[step])), self.policy)

    def _sample(self, task: Task, prompts: Sequence[TrainingPrompt], *name: int | str) -> list[Row]:
        """Several answers to each prompt, judged; `name` names their random draws."""
        assert self.spec is not None
        asked = [(prompt, sample) for prompt in prompts for sample in range(self.spec.samples)]
        requests = [
            self.collector.request(prompt.prompt_ids, derive_seed(self.seed, *name, prompt.example.id, sample))
            for prompt, sample in asked
        ]
        rows = self.collector.answered([(task, prompt) for prompt, _ in asked], requests)
        self._verdicts += [row.verdict for row in rows]
        return rows

    def _correct(self, rows: Sequence[Row]) -> list[Row]:
        assert self.spec is not None
        return [row for row in rows if row.reward >= self.spec.success_threshold]

    def _logprobs(self, rows: Sequence[Row]) -> list[list[float]]:
        train: TrainSettings = self.collector.train
        temperature = self.collector.spec.temperature
        return completion_logprobs(self.policy, rows, temperature=temperature, batch_tokens=train.micro_batch_tokens)


def _mean_distance(scored: Sequence[tuple[Row, Sequence[float]]]) -> float:
    """Mean |log π − log π_later| over the tokens of answers, in nats; 0 without answers.

    Args:
        scored: answers, with log π of their tokens.
    """
    distances = []
    for row, logprobs in scored:
        written = row.sampled_logprobs or row.source_logprobs
        assert written is not None
        distances += [abs(value - written[t]) for t, value in zip(row.loss_positions(), logprobs, strict=True)]
    return sum(distances) / len(distances) if distances else 0.0

"""Where the tokens to train on come from: demonstrations, samples, replay, revisions, hints, near-future answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.data.rows import Row
from holdfast.data.teacher_prompts import revision_beginning
from holdfast.recipes.parts.rewriting import Rewriting
from holdfast.renamed import refuse_moved_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """How the model revises its own answer: a cue follows the answer, and the model continues.

    Args:
        if_right, if_wrong: the cues.
        threshold: reward from which an answer is right.
        of_right_answers: right answers are revised too.
        with_trajectories: a right revision of a wrong answer is also part of a third row. Its prompt is the answer's
            own, and its completion is the answer, the cue and the revision.
    """

    if_right: str
    if_wrong: str
    threshold: float
    of_right_answers: bool = True
    with_trajectories: bool = False

    def is_right(self, row: Row) -> bool:
        return row.reward >= self.threshold

    def prefix(self, answer: str, reward: float) -> str:
        """The text that the model continues with a revision: its answer, then the cue."""
        return revision_beginning(answer, self.if_right if reward >= self.threshold else self.if_wrong)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSpec:
    """The rows of a rollout batch.

    Args:
        source: demonstrations, or samples of the student or of the frozen base.
        num_generations: samples per prompt.
        temperature: divides the logits that are sampled from.
        top_k: keep this many most likely tokens, after the temperature; 0 keeps all.
        top_p: keep the fewest of these whose probabilities sum to it; 1 keeps all.
        prompt: the prompt that is sampled from. `teacher`: the prompt that the recipe shows to the teacher, which must
            follow from the example alone. Rows then have the student's prompt and `source_logprobs`.
        once: with samples of the base, a prompt has the same samples each time it comes. Their random draws are named
            after the example.
        num_iterations: optimizer steps on one rollout batch.
        with_demonstration: with samples, each prompt's demonstration is the last row of its group.
        demonstration_share: the fraction of prompts that `with_demonstration` applies to, evenly spaced over a
            stage's batches.
        revision: samples are revised once. The text after the cue is a separate row, marked `revised`; its prompt ends
            in the answer and the cue. A controller may change this between rollout batches.
        replay_ratio: replayed prompts of earlier stages' tasks, per prompt of the stage. They have groups of their own,
            with demonstrations or with new samples, as the stage has. A recipe's setting of that name goes before
            this.
        replay_buffer_size: examples of each earlier task that can be replayed; None for all.
        replay_source: `own`: rows as the stage's. `base` or `teacher`, with demonstrations: samples of the frozen base
            or of the recipe's teacher for the replayed prompts, drawn anew each time. The teacher sees the student's
            prompt, and the prompt's own task judges its samples.
        replay_generations: with replay_source `teacher`, samples per replayed prompt.
        replay_prompts: with replay_source `base`, a file of prompts, or `lab:NAME`, to replay instead of earlier tasks'
            prompts, from the first stage on.
        scored_from_stage: the stage from which on the teacher scores samples, with the student's prompt, before they
            are annotated (`Row.teacher_logprobs`); 0 for never.
        rewriting: with demonstrations, how they are rewritten before the stage; None to take them as they are.
    """

    source: Literal["demonstrations", "student", "base"]
    num_generations: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    prompt: Literal["own", "teacher"] = "own"
    once: bool = False
    num_iterations: int = 1
    with_demonstration: bool = False
    demonstration_share: float = 1.0
    revision: Revision | None = None
    replay_ratio: float = 0.0
    replay_buffer_size: int | None = None
    replay_source: Literal["own", "base", "teacher"] = "own"
    replay_generations: int = 1
    replay_prompts: str | None = None
    rewriting: Rewriting | None = None
    scored_from_stage: int = 0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"the sampling temperature is {self.temperature:g}; it must be above 0")
        if self.prompt == "teacher" and not self.is_sampled:
            raise ValueError("prompt: teacher needs samples; demonstrations are not sampled from any prompt")
        if self.once and self.source != "base":
            raise ValueError("once is for samples of the base: another model would not write the same again")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; set a number of tokens, or 0 for all")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p:g}; set a probability above 0; 1 keeps all tokens")
        if not 0 < self.demonstration_share <= 1:
            raise ValueError(f"demonstration_share is {self.demonstration_share:g}; it must be above 0 and at most 1")
        if self.replay_source != "own" and self.source != "demonstrations":
            raise ValueError(f"replay_source: {self.replay_source} is for rows that are demonstrations; leave it out")
        if self.replay_generations > 1 and self.replay_source != "teacher":
            raise ValueError("replay_generations is for replay_source: teacher; leave it out")
        if self.scored_from_stage and self.source != "student":
            raise ValueError("scored_from_stage needs samples of the student; leave it out")
        if self.replay_prompts is not None and self.replay_source != "base":
            raise ValueError("a file of prompts has no demonstrations to replay; set replay_source: base")
        if self.replay_prompts is not None and self.num_iterations > 1:
            raise ValueError("a file of prompts is replayed in batches of one step; set num_iterations to 1")
        if self.rewriting is not None and self.is_sampled:
            raise ValueError("only demonstrations are rewritten, and these rows are samples")

    @property
    def is_sampled(self) -> bool:
        return self.source != "demonstrations"

    @property
    def truncates(self) -> bool:
        return self.top_k > 0 or self.top_p < 1

    def replayed(self, *, is_first: bool) -> float:
        """Replayed prompts per prompt of a stage. In the first stage only a file of prompts can be replayed."""
        return 0.0 if is_first and self.replay_prompts is None else self.replay_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class HintSpec:
    """How prompts get hints if all their samples fail (ActGuide-RL, arXiv 2605.12004).

    Args:
        template: the last user message with a hint, with the places {prompt} and {actions}.
        hard_threshold: a prompt fails if no sample has a higher reward.
        probes: rollouts per length of the hint that is tried.
        most_probe_steps: maximum number of lengths that are tried.
    """

    template: str
    hard_threshold: float = 0.0
    probes: int = 2
    most_probe_steps: int = 5

    def fails(self, rows: Sequence[Row]) -> bool:
        return all(row.reward <= self.hard_threshold for row in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearFutureSpec:
    """How groups of the stage's own prompts get answers of the run's near future (NPO, arXiv 2604.20733).

    Args:
        kind: `ahead`: at the start of a stage the run trains `steps` ahead, once, and rolls back. `stalled`: each time
            the reward stalls, the run rolls back; the two checkpoints with the highest quality/variance say how far,
            and whose answers it takes.
        samples: answers of the near-future model per remaining prompt of the stage.
        success_threshold: reward from which such an answer is kept.
        steps: for `ahead`, the optimizer steps.
        every: for `stalled`, optimizer steps between candidate checkpoints; the same below.
        candidates: how many candidates are kept; the oldest are dropped.
        fast_rate, slow_rate: rates of the moving averages of the reward.
        least_gain: the reward stalls if the fast average is less than this above the slow one.
        patience: rollout batches for which it must stall.
        entropy_share: the entropy of samples must have fallen below this fraction of its value at the last trigger;
            None if a stall is enough.
        failures: the prompts that failed most often, on which quality is measured.
        rounds: maximum number of roll-backs in a stage.
    """

    kind: Literal["ahead", "stalled"]
    samples: int
    success_threshold: float = 1.0
    steps: int = 0
    every: int = 5
    candidates: int = 4
    fast_rate: float = 0.5
    slow_rate: float = 0.2
    least_gain: float = 0.01
    patience: int = 4
    entropy_share: float | None = 0.8
    failures: int = 32
    rounds: int = 1


__getattr__ = refuse_moved_names(__name__)

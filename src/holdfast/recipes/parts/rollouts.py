"""Rollouts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.data.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideSpec:
    """Where guides come from.

    Args:
        kind: ahead (the run goes `steps` ahead from a stage's beginning, once), stalled (whenever it has stalled, to
            and from the checkpoints for which quality over variance is largest).
        samples: of the near-future model for each prompt that is still to come in the stage.
        success_threshold: reward from which an answer is a guide.
        steps: of `ahead`.
        every: of `stalled`: optimizer steps between checkpoints that are kept as candidates.
        candidates: of `stalled`: how many of these are kept, the latest.
        fast_rate, slow_rate: of `stalled`: rates of the moving averages of the reward.
        least_gain: of `stalled`: the fast average must be this much above the slow one, or the reward stands still.
        patience: of `stalled`: rollout batches for which it must have stood still.
        entropy_share: of `stalled`: what the entropy must have fallen to, as a share of that at the last time.
        failures: of `stalled`: prompts that failed most often and are asked again to measure quality.
        rounds: of `stalled`: how often a stage may go back.
    """

    kind: Literal["ahead", "stalled"]
    samples: int
    success_threshold: float = 1.0
    steps: int = 0
    every: int = 5
    candidates: int = 4
    fast_rate: float = 0.3
    slow_rate: float = 0.1
    least_gain: float = 0.01
    patience: int = 5
    entropy_share: float = 0.8
    failures: int = 32
    rounds: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """How the model goes on from an answer of its own: behind it stands a cue that follows from its reward.

    Args:
        if_right, if_wrong: the cues.
        threshold: reward from which an answer is right.
    """

    if_right: str
    if_wrong: str
    threshold: float

    def prefix(self, answer: str, reward: float) -> str:
        """The text that the model continues with a revision: its answer, then the cue."""
        return f"{answer}\n\n{self.if_right if reward >= self.threshold else self.if_wrong}\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSpec:
    """Where the trained-on tokens come from: demonstrations, or samples of the student or of the frozen base.

    Args:
        temperature: divides the logits of what is sampled.
        top_k: keeps so many most probable tokens, after the temperature; 0 keeps all.
        top_p: keeps the fewest most probable of these whose probabilities reach it; 1 keeps all.
    """

    source: Literal["demonstrations", "student", "base"]
    num_generations: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    prompt: Literal["own", "teacher"] = "own"
    """Of samples: `teacher` asks what the recipe shows the teacher, which must follow from the example alone. Rows then
    have the student's prompt and `source_logprobs`."""
    num_iterations: int = 1
    """Optimizer steps taken on one batch of rollouts."""
    with_demonstration: bool = False
    """Of sampled rows: each prompt's demonstration is the last row of its group."""
    demonstration_share: float = 1.0
    """Of `with_demonstration`: the share of drawn prompts that bring theirs, evenly spaced over a stage's batches."""
    revision: Revision | None = None
    """Of the student's samples: each is revised once, and what follows its cue is a row of its own, `revised`, whose
    prompt ends in answer and cue. A controller may change it between rollout batches."""
    replay_ratio: float = 0.0
    """Prompts of earlier stages' tasks that are added, in groups of their own, per prompt of the stage: with their
    demonstrations, or sampled anew like the stage's own."""
    replay_buffer_size: int | None = None
    """Examples of each earlier task that are replayed; None for all."""
    replay_source: Literal["own", "base"] = "own"
    """`own`: as the stage's own rows. Beside demonstrations, `base`: what the frozen base says to the replayed prompts,
    sampled anew each time."""
    replay_prompts: str | None = None
    """Of source `base`: a file of prompts that are replayed in the place of earlier tasks', from the first stage on."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"the sampling temperature is {self.temperature:g}; it must be above 0")
        if self.prompt == "teacher" and not self.is_sampled:
            raise ValueError("demonstrations are nobody's samples, and no prompt is asked for them")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; a number of tokens, or 0 for all")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p:g}; a probability above 0 and up to 1, which keeps all tokens")
        if not 0 < self.demonstration_share <= 1:
            raise ValueError(f"demonstration_share is {self.demonstration_share:g}; a share above 0 and up to 1")
        if self.replay_ratio and (self.source == "base" or self.num_iterations > 1):
            raise ValueError("replay_ratio is not for samples of the base, nor for several optimizer steps on a batch")
        if self.replay_source == "base" and self.source != "demonstrations":
            raise ValueError("replay_source: base is for rows that are demonstrations; leave it out")
        if self.replay_prompts is not None and self.replay_source != "base":
            raise ValueError(
                "a file of prompts has no demonstrations to replay; leave it out, or set replay_source: base"
            )

    @property
    def is_sampled(self) -> bool:
        return self.source != "demonstrations"

    @property
    def truncates(self) -> bool:
        return self.top_k > 0 or self.top_p < 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceSpec:
    """How prompts are helped.

    Args:
        template: of the last user message, with the places {prompt} and {actions}.
        hard_threshold: a prompt fails where no sample of it has a higher reward.
        probes: rollouts that try out one length of the hint.
        most_probe_steps: lengths that are tried out at most.
    """

    template: str
    hard_threshold: float = 0.0
    probes: int = 2
    most_probe_steps: int = 5

    def fails(self, rows: Sequence[Row]) -> bool:
        return all(row.reward <= self.hard_threshold for row in rows)

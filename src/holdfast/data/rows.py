"""Rows: the tokens a step is trained on, and what a recipe writes on each of them. Importable without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from holdfast.data.example import Example, Message, Verdict


@dataclass(slots=True)
class Row:
    """One completion of one prompt.

    The first block says where it comes from; the second is what a recipe annotates. A row whose ce, div, advantage
    and base_kl are all 0, or that has no token of any weight to compute a loss on, carries no signal and is left out of
    every forward pass.
    """

    example: Example
    prompt_ids: list[int]
    completion_ids: list[int]
    completion: str = ""
    sampled_logprobs: list[float] | None = None
    """Log-probability of each completion token as sampled, temperature applied; None for demonstrations."""
    source_logprobs: list[float] | None = None
    """Log-probability of each completion token as it was written, where the student with this prompt did not write it:
    a near-future model did, a teacher, or the student itself with a hint. `sampled_logprobs` is then None."""
    seed: int = 0
    """Names the row in its run; what a recipe draws at random about it comes from this."""
    tool_mask: list[int] | None = None
    """Of several turns: 1 for completion tokens that the model wrote, 0 for those that an environment wrote between its
    turns, which no loss is computed on (TRL's name). None where the model wrote all of them."""
    replayed: bool = False
    """It is of an earlier stage's task."""
    revised: bool = False
    """It revises an answer of the model's own, which its prompt ends in, with a cue."""
    truncated: bool = False
    """The completion was cut by `max_completion_length` before its end-of-sequence token; of several turns, these or
    its tokens ran out before it was over."""
    verdict: Verdict | None = None

    ce: float = 0.0
    div: float = 0.0
    advantage: float = 0.0
    base_kl: float = 0.0
    """Weight of KL to the base, times the objective's `reference_kl`."""
    excluded: bool = False
    """Left out of the step altogether: it carries no signal and counts in no denominator."""
    skip_tokens: int = 0
    """The first tokens of the completion left out of the loss (never out of the attention)."""
    token_weights: list[float] | None = None
    """What each completion token's loss is multiplied by, all of its components; None for 1. Denominators stay as they
    are: a token of weight 0 still counts in its row's mean."""
    teacher_messages: Sequence[Message] | None = None
    teacher_prefix: str = ""
    """What the teacher's own turn begins with, before the completion that it scores."""
    teacher_prompt_ids: list[int] | None = None
    old_logprobs: list[float] | None = None
    """Log-probabilities at the start of the rollout batch's optimizer steps, from the training forward."""

    @property
    def has_signal(self) -> bool:
        positions = self.loss_positions()
        weighed = bool(positions) and (self.token_weights is None or any(self.token_weights[t] for t in positions))
        return weighed and not self.excluded and any((self.ce, self.div, self.advantage, self.base_kl))

    @property
    def is_sampled(self) -> bool:
        """Whether the model wrote the completion, with this prompt; false for a demonstration."""
        return self.sampled_logprobs is not None

    @property
    def reward(self) -> float:
        return self.verdict.reward if self.verdict is not None else 0.0

    def loss_positions(self) -> Sequence[int]:
        """Indices of the completion tokens that the loss is computed on, in order."""
        behind = range(min(self.skip_tokens, len(self.completion_ids)), len(self.completion_ids))
        return behind if self.tool_mask is None else [t for t in behind if self.tool_mask[t]]

    def own_ids(self) -> list[int]:
        """The completion tokens that the model wrote."""
        if self.tool_mask is None:
            return self.completion_ids
        return [token for token, own in zip(self.completion_ids, self.tool_mask, strict=True) if own]


@dataclass(slots=True)
class Group:
    """All rows of one prompt in one rollout batch."""

    example: Example
    rows: list[Row] = field(default_factory=list)
    batch: int = 0
    """The rollout batch of its stage, from 0; what a recipe spreads over batches follows from it."""
    shown_actions: int = 0
    """How many actions the rows that were sampled with a hint were shown."""
    extra_completions: int = 0
    """Sampled for it beside the student's own: with a hint, or by a model of the near future."""
    extra_tokens: int = 0
    """Generated in these."""

    def sampled(self) -> "Group":
        """The same prompt with the rows that the model wrote alone, without its demonstration."""
        return Group(self.example, [row for row in self.rows if row.is_sampled])

"""Rows: the tokens that an optimizer step trains on, and a recipe's annotation of each. Importable without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from holdfast.data.example import Example, Message, Verdict


@dataclass(slots=True)
class Row:
    """One completion of one prompt.

    The first block of fields says where the row comes from. The second block is the recipe's annotation. A row has no
    signal if `ce`, `div`, `advantage` and `base_kl` are all 0, or if no token with a weight is left for the loss. Such
    a row is left out of every forward pass.
    """

    example: Example
    prompt_ids: list[int]
    completion_ids: list[int]
    completion: str = ""
    sampled_logprobs: list[float] | None = None
    """Log-probability of each completion token as it was sampled, after temperature; None for demonstrations."""
    source_logprobs: list[float] | None = None
    """Log-probability of each completion token as it was sampled, if it was sampled by a near-future model, with the
    teacher's prompt, or with a hint. `sampled_logprobs` is then None."""
    teacher_logprobs: list[float] | None = None
    """The teacher's log-probability of each completion token that the model wrote, with the student's prompt. Only if
    the recipe's rollouts ask for it, because a recipe cannot ask while it annotates."""
    seed: int = 0
    """Names the row in its run. A recipe's random draws for the row follow from it."""
    tool_mask: list[int] | None = None
    """In a row of several turns: 1 for completion tokens that the model wrote, 0 for those that an environment wrote
    between its turns. The latter have no loss. None if the model wrote all tokens. The name is TRL's."""
    replayed: bool = False
    """Its prompt is of an earlier stage's task, or of the replay file."""
    replayed_task: str = ""
    """Name of that task, or of the file."""
    revised: bool = False
    """It revises an answer of the model. Its prompt ends with that answer and a cue; or, without `sampled_logprobs`,
    its completion begins with them."""
    truncated: bool = False
    """The completion reached `max_completion_length` before its end-of-sequence token. An episode reached its limit of
    turns or tokens before it was over."""
    verdict: Verdict | None = None

    ce: float = 0.0
    div: float = 0.0
    advantage: float = 0.0
    base_kl: float = 0.0
    """`ce`, `div` and `base_kl` are the weights of cross-entropy, of the divergence from the teacher and of KL to the
    base. `advantage` is that of the policy gradient. The weight of `base_kl` is multiplied by the objective's
    `reference_kl`."""
    excluded: bool = False
    """Left out of the step: it has no signal and counts in no denominator."""
    skip_tokens: int = 0
    """How many first tokens of the completion have no loss. They are still attended to."""
    token_weights: list[float] | None = None
    """Weight of each completion token's loss, for all its components; None for 1. Denominators do not change: a token
    of weight 0 still counts in its row's mean."""
    teacher_messages: Sequence[Message] | None = None
    """The teacher's conversation; None if the teacher does not score this row."""
    teacher_prefix: str = ""
    """Text that begins the teacher's turn, before the completion that it scores (an assistant prefill)."""
    teacher_prompt_ids: list[int] | None = None
    old_logprobs: list[float] | None = None
    """Log-probabilities before the first optimizer step on the rollout batch, from the training forward pass."""

    @property
    def has_signal(self) -> bool:
        positions = self.loss_positions()
        has_weight = bool(positions) and (self.token_weights is None or any(self.token_weights[t] for t in positions))
        return has_weight and not self.excluded and any((self.ce, self.div, self.advantage, self.base_kl))

    @property
    def is_sampled(self) -> bool:
        """Whether the student, or the base, sampled the completion with this prompt. False for a demonstration."""
        return self.sampled_logprobs is not None

    @property
    def trains_earlier_turns(self) -> bool:
        """Whether it is a demonstration whose completion begins before the example's last turn."""
        is_demonstration = self.sampled_logprobs is None and self.source_logprobs is None and not self.revised
        return bool(is_demonstration and self.example.trained_turns and self.completion_ids)

    @property
    def reward(self) -> float:
        return self.verdict.reward if self.verdict is not None else 0.0

    def loss_positions(self) -> Sequence[int]:
        """Indices of the completion tokens that have a loss, in order."""
        not_skipped = range(min(self.skip_tokens, len(self.completion_ids)), len(self.completion_ids))
        return not_skipped if self.tool_mask is None else [t for t in not_skipped if self.tool_mask[t]]

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
    """Number of the rollout batch in its stage, from 0. A recipe may change over batches."""
    stranger: Example | None = None
    """Another training example of the task, if the recipe shows the teacher one."""
    shown_actions: int = 0
    """How many actions the hint of its hinted rows shows."""
    extra_completions: int = 0
    """Completions sampled for it that are not the student's own: with a hint or the teacher's prompt, or by a
    near-future model. They count as cost only."""
    extra_tokens: int = 0
    """Tokens of these completions."""
    extra_verdicts: list[Verdict | None] = field(default_factory=list)
    """On those of these completions that are no rows."""

    def sampled(self) -> "Group":
        """A group of only those rows that were sampled with its own prompt."""
        return Group(self.example, [row for row in self.rows if row.is_sampled])

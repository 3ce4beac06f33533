"""One example as the model sees it: special tokens are visible, and tokens without a loss are marked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from holdfast.data.rows import Row
from holdfast.model.policy import Policy
from holdfast.stream.check.trial import Trial

TokenLoss = Literal["loss", "skipped", "environment", "weight 0"]
"""Why a token has a loss or none: it is at the start and skipped, an environment wrote it, or its weight is 0."""


@dataclass(frozen=True)
class TargetPart:
    """Neighboring tokens of a target with the same `loss`."""

    text: str
    tokens: int
    loss: TokenLoss


@dataclass(frozen=True)
class Preview:
    """A row of a task's first rollout batch.

    Attributes:
        example: its id.
        prompt: what the student sees.
        teacher_prompt: what the teacher sees; None if this row has no teacher.
        target: what the loss is computed on, after the prompt.
        source: whose text the target is.
        has_signal: whether the row is trained on. The other rows of the batch have no signal either if it is not.
    """

    task: str
    example: str
    prompt: str
    teacher_prompt: str | None
    target: Sequence[TargetPart]
    source: Literal["demonstration", "sample"]
    has_signal: bool


def preview(trial: Trial, policy: Policy) -> Preview:
    """Show a row that is trained on and has a teacher, or else the first that comes nearest to it."""
    row = max(
        (each for each in trial.batch if not each.replayed),
        key=lambda each: (each.has_signal, each.teacher_prompt_ids is not None),
    )

    def text(ids: Sequence[int]) -> str:
        return str(policy.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    return Preview(
        task=trial.task.name,
        example=row.example.id,
        prompt=text(row.prompt_ids),
        teacher_prompt=None if row.teacher_prompt_ids is None else text(row.teacher_prompt_ids),
        target=_parts(row, text),
        source="sample" if row.sampled_logprobs is not None or row.source_logprobs is not None else "demonstration",
        has_signal=row.has_signal,
    )


def _parts(row: Row, text: Callable[[Sequence[int]], str]) -> list[TargetPart]:
    def loss(place: int) -> TokenLoss:
        if row.tool_mask is not None and not row.tool_mask[place]:
            return "environment"
        if place < row.skip_tokens:
            return "skipped"
        return "weight 0" if row.token_weights is not None and not row.token_weights[place] else "loss"

    parts = []
    for kind, places in groupby(range(len(row.completion_ids)), loss):
        ids = [row.completion_ids[place] for place in places]
        parts.append(TargetPart(text(ids), len(ids), kind))
    return parts

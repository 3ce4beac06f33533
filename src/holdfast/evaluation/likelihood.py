"""Negative log-likelihood (NLL) of right answers under a policy: of demonstrations, as training encodes them, and of
targets after the forced beginning of a right answer.

Both are measured in one pass. Where a demonstration begins with the forced answer, its own tokens give both numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from holdfast.data.example import Example
from holdfast.data.task import Suite, Task
from holdfast.errors import DataError
from holdfast.measure.likelihood import ItemNll
from holdfast.model.logprobs import vocabulary_logprobs
from holdfast.model.policy import Policy
from holdfast.objective.divergence import token_logprobs


class DemonstrationTooLong(DataError):  # noqa: N818 - the name says it
    """A prompt and its demonstration together are longer than the model's context."""


@dataclass(frozen=True, slots=True)
class RightAnswer:
    """What an item's likelihood is measured on, in token ids that follow the item's prompt.

    Attributes:
        demonstration: its tokens, thoughts and the end of the turn included; None without one.
        beginning: the tokens that are forced on the model.
        target: the tokens that have to follow; None if the item names no target.
    """

    demonstration: list[int] | None = None
    beginning: tuple[int, ...] = ()
    target: list[int] | None = None

    @property
    def forced(self) -> list[int]:
        """The forced beginning and its target. Empty without a target."""
        return [] if self.target is None else [*self.beginning, *self.target]

    @property
    def is_begun_by_demonstration(self) -> bool:
        """Whether the demonstration begins with the forced answer, so that its tokens need no row of their own."""
        forced = self.forced
        return self.demonstration is not None and self.demonstration[: len(forced)] == forced


def right_answer(policy: Policy, each: Task | Suite, example: Example, prompt_ids: Sequence[int]) -> RightAnswer:
    """The tokens whose likelihood an example is scored by: its demonstration, thoughts included, and its target.

    In a judged set the NLL is an addition, so a demonstration that cannot be encoded or does not fit is left out. The
    same goes for a target in any set. Sets of several turns have neither, because what is right there depends on what
    an environment answers.

    Raises:
        DataError: nothing judges the set, and the example has no demonstration or one that cannot be encoded.
        DemonstrationTooLong: nothing judges the set, and prompt and demonstration do not fit the model's context.
    """
    where = f"{each.name}: {example.id}"
    if example.demonstration is None and not each.is_judged:
        raise DataError(
            "there is nothing to judge its answer by",
            where=f"{'task' if isinstance(each, Task) else 'suite'} {each.name!r}, test example {example.id!r}",
            fix="name a `verifier`, or give the example an `answer` or a `completion`",
        )
    if each.episodes is not None:
        return RightAnswer()
    return RightAnswer(
        _demonstration(policy, each, example, prompt_ids, where), *_forced(policy, example, prompt_ids, where)
    )


def _demonstration(
    policy: Policy, each: Task | Suite, example: Example, prompt_ids: Sequence[int], where: str
) -> list[int] | None:
    if example.demonstration is None:
        return None
    try:
        ids = demonstration_ids(policy, example, where=where)
        _check_context(policy, len(prompt_ids) + len(ids), where)
    except DataError:
        if not each.is_judged:
            raise
        return None
    return ids


def _forced(
    policy: Policy, example: Example, prompt_ids: Sequence[int], where: str
) -> tuple[tuple[int, ...], list[int] | None]:
    if example.target is None:
        return (), None
    try:
        beginning, target = policy.chat_format.encode_forced(example, where=where)
        _check_context(policy, len(prompt_ids) + len(beginning) + len(target), where)
    except DataError:
        return (), None
    return tuple(beginning), target


def demonstration_ids(policy: Policy, example: Example, *, where: str) -> list[int]:
    """Token ids of a demonstration's last turn, as training encodes it."""
    return policy.chat_format.encode_demonstration(replace(example, trained_turns=()), where=where).ids


def _check_context(policy: Policy, length: int, where: str) -> None:
    limit = policy.context_length
    if limit is not None and length > limit:
        raise DemonstrationTooLong(
            f"prompt and demonstration have {length} tokens, more than the model's context of {limit}",
            where=where,
            fix="leave the example out, or drop such examples with train.long_prompts: drop",
        )


def likelihoods(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[RightAnswer],
    *,
    batch_tokens: int,
    may_pack: bool = True,
) -> list[tuple[ItemNll | None, ItemNll | None]]:
    """NLL of each demonstration, and of each target after its beginning, in nats per token at temperature 1.

    None where an item has no demonstration or no target.

    Args:
        prompts: token ids [R][·].
        answers: one for each prompt.
        batch_tokens, may_pack: see `vocabulary_logprobs`.
    """
    rows: list[tuple[Sequence[int], list[int], range]] = []
    demonstration_rows: dict[int, int] = {}
    target_rows: dict[int, tuple[int, int]] = {}
    for r, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if answer.demonstration:
            demonstration_rows[r] = len(rows)
            rows.append((prompt, answer.demonstration, range(len(answer.demonstration))))
        if answer.target and answer.is_begun_by_demonstration:
            target_rows[r] = demonstration_rows[r], len(answer.beginning)
        elif answer.target:
            target_rows[r] = len(rows), 0
            rows.append((prompt, answer.forced, range(len(answer.beginning), len(answer.forced))))
    logprobs = _row_logprobs(policy, rows, batch_tokens=batch_tokens, may_pack=may_pack)
    items: list[tuple[ItemNll | None, ItemNll | None]] = []
    for r, answer in enumerate(answers):
        demonstration = _item(logprobs[demonstration_rows[r]]) if r in demonstration_rows else None
        target = None
        if r in target_rows:
            row, start = target_rows[r]
            target = _item(logprobs[row][start : start + len(answer.target or ())])
        items.append((demonstration, target))
    return items


def _item(logprobs: torch.Tensor) -> ItemNll:
    return {"nll": -float(logprobs.mean()), "tokens": len(logprobs)}


def _row_logprobs(
    policy: Policy, rows: Sequence[tuple[Sequence[int], list[int], range]], *, batch_tokens: int, may_pack: bool
) -> list[torch.Tensor]:
    """Log-probabilities of the wanted tokens of each row: (prompt, completion, places in the completion)."""
    ids = torch.tensor([completion[t] for _, completion, wanted in rows for t in wanted], dtype=torch.long)
    values = torch.zeros(len(ids), dtype=torch.float64)
    prompts, completions, positions = zip(*rows) if rows else ((), (), ())
    scored = vocabulary_logprobs(
        [policy], prompts, completions, positions, batch_tokens=batch_tokens, may_pack=may_pack
    )
    for index, (logprobs,) in scored:
        values[index] = token_logprobs(logprobs, ids[index].to(logprobs.device)).double().cpu()
    return list(values.split([len(wanted) for wanted in positions]))

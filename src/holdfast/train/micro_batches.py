"""How the rows of one optimizer step are split into micro-batches, and these over processes."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.config.settings import TrainSettings
from holdfast.data.rows import Row
from holdfast.model.hidden_states import longest_packed
from holdfast.model.packing import micro_batches
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes, deal


@dataclass(frozen=True)
class MicroBatch:
    """Rows of one forward and backward pass."""

    rows: list[Row]
    counts: bool = True
    """False for rows that another process trains on. This process computes them with a weight of 0, because collective
    operations must match on all processes, and this one has fewer micro-batches of its own."""


def split_step(rows: Sequence[Row], policy: Policy, settings: TrainSettings, world: Processes) -> list[MicroBatch]:
    """This process's micro-batches of an optimizer step; every process gets equally many.

    Rows within `longest_packed` share streams, longer ones are padded. Which rows share a micro-batch does not change
    the result.

    Args:
        rows: the step's rows with a signal.
    """
    longest = 0 if settings.engine == "readable" else longest_packed(policy)
    packed = [row for row in rows if _longest_sequence(row) <= longest]
    padded = [row for row in rows if _longest_sequence(row) > longest]
    if padded and longest and world.is_main:
        warnings.warn(
            f"{len(padded)} of {len(rows)} rows are padded: they are longer than the attention window of "
            f"{type(policy.causal_lm).__name__}, {longest:g} tokens",
            stacklevel=2,
        )
    budget = settings.micro_batch_tokens
    batches = micro_batches(packed, budget) + micro_batches(padded, budget, padded=True)
    if world.size == 1 or not batches:
        return [MicroBatch(batch) for batch in batches]
    shares = deal([_tokens(batch) for batch in batches], world.size)
    own = [MicroBatch(batches[i]) for i in shares[world.rank]]
    missing = max(map(len, shares)) - len(own)
    return [*own, *[MicroBatch(min(batches, key=_tokens), counts=False)] * missing]


def _longest_sequence(row: Row) -> int:
    """Tokens of the longest sequence that is computed for a row, by student or teacher."""
    return max(len(row.prompt_ids), len(row.teacher_prompt_ids or ())) + len(row.completion_ids)


def _tokens(rows: Sequence[Row]) -> int:
    """The cost of a micro-batch: tokens of its distinct prompts and of its completions."""
    prompts = {tuple(ids) for row in rows for ids in (row.prompt_ids, row.teacher_prompt_ids) if ids}
    return sum(map(len, prompts)) + sum(len(row.completion_ids) for row in rows)

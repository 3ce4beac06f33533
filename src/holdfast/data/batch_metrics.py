"""Metrics of a rollout batch, and the rows of it that are logged. Importable without torch."""

import math
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from holdfast.data.failures import NO_FAILURES, count_failures
from holdfast.data.rows import Group, Row

ROLLOUTS_KEPT = 4
"""Training completions that each checkpoint writes to rollouts.jsonl."""

EMPTY_BATCH: dict[str, Any] = {"prompts": 0, "completions": 0, "generated_tokens": 0, **NO_FAILURES}
"""What a second optimizer step on the same rollout batch adds to the budget: nothing is sampled for it."""


def repetition(completion_ids: Sequence[int]) -> float:
    """Share of a completion's bigrams that occur earlier in it. It is 0 for fewer than four tokens."""
    if len(completion_ids) < 4:
        return 0.0
    pairs = list(pairwise(completion_ids))
    return 1 - len(set(pairs)) / len(pairs)


def compression(text: str) -> float:
    """Compression ratio of a text with zlib. Loops make it large. A text too short to compress has at most 1."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def distinct(completions: Sequence[Sequence[int]], n: int = 2) -> float | None:
    """Diversity of a batch of completions: different n-grams over all n-grams (distinct-n of arXiv 1510.03055).

    None if there are no n-grams.
    """
    ngrams = [tuple(ids[i : i + n]) for ids in completions for i in range(len(ids) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else None


def rollout_numbers(groups: Sequence[Group]) -> dict[str, Any]:
    """Reward, length, diversity and number of a batch's completions.

    Which rows count:

    - If the stage's own prompts were sampled, the sampled rows count, those of replayed prompts included.
    - Otherwise the other rows count: demonstrations, or completions that were sampled with the teacher's prompt.
      Completions that were sampled for replay do not.
    - `reward` is the mean over first answers to the stage's own task. Replayed and revised rows do not count in it.
    - `verifier_timeouts`, `verifier_errors` and `verifier_failures` are over everything that was judged for the batch.
    - `completions` and `generated_tokens` are the cost. They include everything that was sampled for the batch, also
      with a hint or by a near-future model.
    """
    all_rows = [row for group in groups for row in group.rows]
    sampled = [row for row in all_rows if row.is_sampled]
    rows = sampled if any(not row.replayed for row in sampled) else [row for row in all_rows if not row.is_sampled]
    lengths = [len(row.own_ids()) for row in rows]
    rewards = [row.verdict.reward for row in rows if row.verdict is not None and not (row.replayed or row.revised)]
    return {
        "reward": sum(rewards) / len(rewards) if rewards else None,
        "completion_length": sum(lengths) / len(lengths),
        "completion_length_p95": sorted(lengths)[math.ceil(0.95 * len(lengths)) - 1],
        "repetition": sum(repetition(row.own_ids()) for row in rows) / len(rows),
        "distinct_2": distinct([row.own_ids() for row in rows]),
        "teacher_share": sum(bool(row.div) for row in rows) / len(rows),
        "truncated_fraction": sum(row.truncated for row in rows) / len(rows),
        "prompts": len(groups),
        "completions": len(sampled) + sum(group.extra_completions for group in groups),
        "generated_tokens": sum(len(row.own_ids()) for row in sampled) + sum(group.extra_tokens for group in groups),
        **count_failures([*(row.verdict for row in all_rows), *(v for group in groups for v in group.extra_verdicts)]),
    }


def some_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A few rows from all over a batch, as lines of rollouts.jsonl."""
    return [
        {
            "id": row.example.id,
            "completion": row.completion,
            "reward": row.verdict.reward if row.verdict else None,
            "truncated": row.truncated,
            "teacher_prompt": row.teacher_messages[-1]["content"] if row.teacher_messages else None,
        }
        for row in rows[:: max(1, len(rows) // ROLLOUTS_KEPT)][:ROLLOUTS_KEPT]
    ]

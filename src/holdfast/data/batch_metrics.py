"""What a rollout batch says about itself in the log. Importable without torch."""

import math
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from holdfast.data.rows import Group, Row

ROLLOUTS_KEPT = 4
"""Training completions written to rollouts.jsonl at each checkpoint."""

EMPTY_BATCH = {"prompts": 0, "completions": 0, "generated_tokens": 0}
"""What a second step on the same rollouts adds to the budget."""


def repetition(completion_ids: Sequence[int]) -> float:
    """Share of a completion's bigrams that stood in it before; 0 for one of fewer than four tokens."""
    if len(completion_ids) < 4:
        return 0.0
    pairs = list(pairwise(completion_ids))
    return 1 - len(set(pairs)) / len(pairs)


def compression(text: str) -> float:
    """How many times shorter zlib makes a text; loops make it large. At most 1 for what is too short to compress."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def distinct(completions: Sequence[Sequence[int]], n: int = 2) -> float | None:
    """Distinct n-grams over all n-grams of a batch of completions (distinct-n of arXiv 1510.03055); None of none."""
    ngrams = [tuple(ids[i : i + n]) for ids in completions for i in range(len(ids) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else None


def rollout_numbers(groups: Sequence[Group]) -> dict[str, Any]:
    """Reward, shape and number of a batch's completions: of the sampled ones, or where none was, of demonstrations.

    The reward is that of first answers to the stage's own task, whatever is replayed or revised beside them. What was
    sampled otherwise than by the student alone counts in what was spent, not in the rest; nor does, beside
    demonstrations, what is sampled to be replayed.
    """
    everything = [row for group in groups for row in group.rows]
    sampled = [row for row in everything if row.is_sampled]
    rows = sampled if any(not row.replayed for row in sampled) else [row for row in everything if not row.is_sampled]
    lengths = [len(row.own_ids()) for row in rows]
    judged = [row.verdict.reward for row in rows if row.verdict is not None and not (row.replayed or row.revised)]
    return {
        "reward": sum(judged) / len(judged) if judged else None,
        "completion_length": sum(lengths) / len(lengths),
        "completion_length_p95": sorted(lengths)[math.ceil(0.95 * len(lengths)) - 1],
        "repetition": sum(repetition(row.own_ids()) for row in rows) / len(rows),
        "distinct_2": distinct([row.own_ids() for row in rows]),
        "teacher_share": sum(bool(row.div) for row in rows) / len(rows),
        "truncated_fraction": sum(row.truncated for row in rows) / len(rows),
        "prompts": len(groups),
        "completions": len(sampled) + sum(group.extra_completions for group in groups),
        "generated_tokens": sum(len(row.own_ids()) for row in sampled) + sum(group.extra_tokens for group in groups),
    }


def some_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A few rows of a batch as they are shown: lines of rollouts.jsonl."""
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

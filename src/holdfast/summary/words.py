"""What all sentences of a verdict share: words, and the bound of significance."""

from collections.abc import Mapping, Sequence
from typing import Any

SummaryPart = Mapping[str, Any]

ALPHA = 0.05
"""A difference is shown if its corrected p value is below this."""


def join(names: Sequence[str]) -> str:
    """Names as "a, b and c"."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def count(n: int, noun: str) -> str:
    """A number with its noun, such as "1 run" or "2 runs"."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def signed_nats(change: float) -> str:
    """A change in nats with its sign and three decimals; with one significant figure if these would be zeros."""
    return f"{change + 0.0:+.3f}" if change == 0 or abs(change) >= 0.0005 else f"{change:+.0e}"

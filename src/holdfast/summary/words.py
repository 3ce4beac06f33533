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


def if_other_runs(difference: float, of_means: float) -> str:
    """What is to be added to a difference over paired runs if the means beside it are over more runs."""
    return "" if abs(difference - of_means) < 1e-9 else ", over the runs that share seed and task order"


LEARNED = 0.5
"""A judged task counts as learned only from this score on, right after its own stage."""


def has_learned(metrics: SummaryPart) -> bool:
    """Whether a recipe learned, by its metrics over runs: the tasks' mean score right after their own stages is at
    least `LEARNED`, and above the base's: what the base could do was not learned."""
    learned, gain = metrics["learned_score"]["mean"], metrics["learning"]["mean"]
    return learned >= LEARNED and (gain is None or gain > 0)


def points(fraction: float) -> str:
    """A fraction as percentage points with one decimal; never "-0.0"."""
    return f"{round(100 * fraction, 1) + 0.0:.1f}"


def signed_points(fraction: float) -> str:
    """A change as percentage points with its sign and one decimal."""
    return f"{round(100 * fraction, 1) + 0.0:+.1f}"


def change_in_words(loss: float) -> str:
    """What happened to earlier tasks and retention suites."""
    if loss < 0:
        return f"gained {points(-loss)} points on earlier skills"
    return f"forgot {points(loss)} points of earlier skills"

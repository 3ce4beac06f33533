"""What became of each item between two evaluations: kept, lost, gained, or never solved."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

_EQUAL = 1e-9
"""Differences below this are rounding."""


@dataclass(frozen=True, slots=True)
class Transitions:
    """Numbers of items. Together they are all items.

    Attributes:
        kept: scored before, and not less afterwards. With scores of 0 and 1: right both times.
        lost: a lower score afterwards.
        gained: a higher score afterwards.
        never: a score of 0 both times.
    """

    kept: int
    lost: int
    gained: int
    never: int

    def as_json(self) -> dict[str, int]:
        return asdict(self)


def transitions(before: Sequence[float], after: Sequence[float]) -> Transitions:
    """Count the items by their scores, 0 or more, in two evaluations.

    Raises:
        ValueError: the two have different numbers of items.
    """
    pairs = list(zip(before, after, strict=True))
    lost = sum(b < a - _EQUAL for a, b in pairs)
    gained = sum(b > a + _EQUAL for a, b in pairs)
    never = sum(abs(b - a) <= _EQUAL and a <= _EQUAL for a, b in pairs)
    return Transitions(len(pairs) - lost - gained - never, lost, gained, never)

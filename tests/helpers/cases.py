"""How much of a harness runs: a short part by default, all of it with HOLDFAST_TORTURE=1 in the environment."""

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

IS_LONG = bool(os.environ.get("HOLDFAST_TORTURE"))


def amount(short: int, long: int) -> int:
    """How many cases of a kind are tried."""
    return long if IS_LONG else short


def spread(cases: Sequence[T], short: int) -> list[T]:
    """All cases on request, else some that are spread evenly over them, the first and the last included."""
    if IS_LONG or len(cases) <= short:
        return list(cases)
    return [cases[round(index * (len(cases) - 1) / (short - 1))] for index in range(short)]


def tally(kind: str, tried: int, wrong: Sequence[str]) -> None:
    """Print how many cases of a kind were tried and wrong, and fail if any was wrong."""
    print(f"{kind}: {tried} tried, {len(wrong)} wrong")
    assert tried
    assert not wrong, f"{kind}: {len(wrong)} of {tried} wrong:\n" + "\n".join(wrong)

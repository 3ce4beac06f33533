"""How much of a harness runs: a short part by default, all of it with HOLDFAST_TORTURE=1 in the environment.

What was tried is noted by kind. `conftest.py` takes it after each test and shows all of it in a table at the end.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

T = TypeVar("T")

IS_LONG = bool(os.environ.get("HOLDFAST_TORTURE"))


class Tried(NamedTuple):
    """Cases of a kind."""

    kind: str
    tried: int
    wrong: int


_noted: list[Tried] = []


def amount(short: int, long: int) -> int:
    """How many cases of a kind are tried."""
    return long if IS_LONG else short


def spread(cases: Sequence[T], short: int) -> list[T]:
    """All cases on request, else some that are spread evenly over them, the first and the last included."""
    if IS_LONG or len(cases) <= short:
        return list(cases)
    return [cases[round(index * (len(cases) - 1) / (short - 1))] for index in range(short)]


def note(kind: str, tried: int, wrong: int) -> None:
    """Note for the table how many cases of a kind were tried and wrong. Tests of one kind have one line in it."""
    _noted.append(Tried(kind, tried, wrong))


def taken() -> list[Tried]:
    """What was noted since the last call."""
    noted = list(_noted)
    _noted.clear()
    return noted


def tally(kind: str, where: str, tried: int, wrong: Sequence[str]) -> None:
    """Note and print how many cases of a kind were tried and wrong, and fail if any was wrong."""
    note(kind, tried, len(wrong))
    print(f"{kind}, {where}: {tried} tried, {len(wrong)} wrong")
    assert tried
    assert not wrong, f"{kind}, {where}: {len(wrong)} of {tried} wrong:\n" + "\n".join(wrong)


@contextmanager
def counted(kind: str, tried: int) -> Iterator[None]:
    """Note cases that are tried in one go: if the block fails, one of them is wrong."""
    wrong = 1
    try:
        yield
        wrong = 0
    finally:
        note(kind, tried, wrong)


def table(noted: Sequence[Tried]) -> list[str]:
    """The lines of the table, one for each kind."""
    lines = [f"{'tried':>8} {'wrong':>6}  kind"]
    for kind in sorted({each.kind for each in noted}):
        own = [each for each in noted if each.kind == kind]
        lines.append(f"{sum(each.tried for each in own):8} {sum(each.wrong for each in own):6}  {kind}")
    return lines

"""Errors meant for people: what is wrong, where, and how to fix it, in one line."""

import difflib
from collections.abc import Iterable
from typing import Any


class HoldfastError(Exception):
    """A mistake that its reader can fix. The command line prints it as one line and exits with code 2.

    Args:
        what: what is wrong, naming the thing.
        where: the file, key, line or task that it was found in; empty when `what` says it already.
        fix: what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(": ".join(p for p in (where, what) if p) + (f" ({fix})" if fix else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        # Processes tell each other of errors, also of those whose classes are made from something else.
        return _again, (type(self), self.what, self.where, self.fix)


def _again(kind: type[HoldfastError], what: str, where: str, fix: str) -> HoldfastError:
    error = kind.__new__(kind)
    HoldfastError.__init__(error, what, where=where, fix=fix)
    return error


class ConfigError(HoldfastError):
    """The configuration asks for something impossible or says something that is not understood."""


class DataError(HoldfastError):
    """Task data or a verifier that cannot be used as it is."""


class ModelError(HoldfastError):
    """A model folder that cannot be used as it is."""


class RunError(HoldfastError):
    """A run directory that cannot be read, resumed or written."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped word: the nearest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(known)}" if known else "remove it"

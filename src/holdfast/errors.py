"""Errors for users: what is wrong, where, and how to fix it, in one line."""

import difflib
from collections.abc import Iterable
from typing import Any


class HoldfastError(Exception):
    """An error that the user can fix. The command line prints it as one line and exits with code 2.

    Args:
        what: what is wrong.
        where: the file, key, line or task in which it is wrong; empty if `what` says it.
        fix: how to fix it.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(": ".join(p for p in (where, what) if p) + (f" ({fix})" if fix else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        # Processes send each other errors by pickle. It would call the class with `args`, and subclasses such as
        # `PromptTooLong` take other arguments.
        return _restored, (type(self), self.what, self.where, self.fix)


def _restored(kind: type[HoldfastError], what: str, where: str, fix: str) -> HoldfastError:
    error = kind.__new__(kind)
    HoldfastError.__init__(error, what, where=where, fix=fix)
    return error


class ConfigError(HoldfastError):
    """The configuration cannot be read, or asks for something impossible."""


class DataError(HoldfastError):
    """Task data, a verifier or an environment cannot be used as it is."""


class ModelError(HoldfastError):
    """A model folder cannot be used as it is."""


class RunError(HoldfastError):
    """A run directory cannot be read, resumed or written."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A fix for a mistyped word: the nearest known word, or all known words."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"use one of: {', '.join(known)}" if known else "remove it"

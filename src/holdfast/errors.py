"""Errors for users: what is wrong, where, and how to fix it, in one line."""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

_PLACE_LENGTH, _PART_LENGTH = 240, 600
"""Characters of an error's place, and of what is wrong and how to fix it."""

_NOT_SHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters: they move the cursor, color what follows, end a line
    "\u2028\u2029\u202a-\u202e\u2066-\u2069"  # ends of lines, and turns of the writing direction
    "\ud800-\udfff\ufffe\uffff]"  # halves of characters, which no encoding has, and what XML refuses
)


class HoldfastError(Exception):
    """An error that the user can fix. The command line prints it as one line and exits with code 2.

    Args:
        what: what is wrong.
        where: the file, key, line or task in which it is wrong; empty if `what` says it.
        fix: how to fix it.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        place, wrong, mend = (
            shortened(where, _PLACE_LENGTH),
            shortened(what, _PART_LENGTH),
            shortened(fix, _PART_LENGTH),
        )
        line = ": ".join(part for part in (place, wrong) if part) + (f" ({mend})" if mend else "")
        super().__init__(printable(line).replace("\n", " "))

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


def printable(text: str) -> str:
    """Text with control characters and halves of characters as escapes, such as `\\x1b`. Tabs and newlines stay.

    What comes from data, names or models may have any character, and a terminal obeys some of them.
    """
    return escaped(text, lambda character: ascii(character)[1:-1])


def escaped(text: str, escape: Callable[[str], str]) -> str:
    """Text with `escape` of each character that `printable` replaces."""
    return _NOT_SHOWN.sub(lambda match: escape(match[0]), text)


def shortened(text: str, length: int) -> str:
    """Text of at most `length` characters: what is longer keeps its beginning and its end."""
    if len(text) <= length:
        return text
    end = length // 3
    return f"{text[: length - end - 3]} … {text[-end:]}"


def shown(value: Any, length: int = 60) -> str:
    """A value of a user's data for a message: its notation, cut to a length."""
    if isinstance(value, int) and abs(value) > 10**length:
        return f"an integer of more than {length} digits"
    if isinstance(value, str) and len(value) > length:
        return repr(value[:length]) + " …"
    if isinstance(value, str | int | float | None):
        return repr(value)
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"a value of type {type(value).__name__}"

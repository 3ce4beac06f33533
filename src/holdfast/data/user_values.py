"""Values that go to a user's function, and values that come back from it. Torch-free.

A verifier or an environment is somebody else's code. It gets copies of its arguments, so that nothing that it does to
them changes the data. What it returns is read once, where it comes in: text that can be written as UTF-8, numbers of
any kind as Python's own, and errors of one line.
"""

import copy
import numbers
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from holdfast.errors import DataError, printable

T = TypeVar("T")

LONGEST_TEXT = 100_000
"""Characters of a text that a verifier returns. What is longer is cut, because it may depend on what a model wrote."""

CUT = " …"
"""Ends a text that was cut."""

_LONGEST_REASON = 300
_IMMUTABLE = (str, bytes, int, float, complex, bool, type(None), Decimal)
_SURROGATES = re.compile("[\ud800-\udfff]")


def readable(text: str) -> str:
    """The text with U+FFFD in place of lone surrogates. These have no UTF-8, so no tokenizer and no file takes them.

    They come from JSON that a model wrote or cut within an escape, such as "\\ud83d".
    """
    # A subclass of str may compare or format itself in its own way, so its characters are taken alone.
    return _SURROGATES.sub("\ufffd", "".join(text) if type(text) is not str else text)


def short_text(text: str) -> str:
    """`readable`, and at most `LONGEST_TEXT` characters long."""
    return readable(text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - len(CUT)] + CUT)


def number(value: Any) -> Any:
    """A number of Python, NumPy or torch (one entry, no shape) as Python's own; any other value as it is."""
    if isinstance(value, numbers.Real | Decimal):
        return value
    try:
        return value.item() if value.shape in ((), (1,)) else value
    except Exception:  # it has neither, or is no number now, such as a tensor without data
        return value


def own_copy(value: Any) -> Any:
    """A copy whose changes nobody else sees. What cannot be copied, such as an open file, is given as it is."""
    if isinstance(value, _IMMUTABLE):
        return value
    if type(value) is dict:
        return {key: own_copy(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(own_copy, value))
    try:
        return copy.deepcopy(value)
    except Exception:
        # Views such as `MappingProxyType` cannot be copied as what they are.
        return {key: own_copy(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def call(function: Callable[[], T], where: str, must: str) -> T:
    """What a user's function returns.

    Args:
        where: names the function in messages.
        must: what such a function has to do, for the message.

    Raises:
        DataError: the function raises anything but `KeyboardInterrupt`, `SystemExit` included; in one line that names
            it.
    """
    try:
        return function()
    except DataError as error:
        raise DataError(error.what, where=where, fix=error.fix) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also asyncio's `CancelledError` and what test frameworks raise
        raise DataError(f"it raised {type(error).__name__}: {_reason(error)}", where=where, fix=must) from error


def _reason(error: BaseException) -> str:
    """The message of an error, in one line."""
    try:
        # An error may quote what a model wrote: no control character reaches a terminal.
        reason = printable(" ".join(str(error).split())[: _LONGEST_REASON + 1])
    except Exception:
        return "its message cannot be read"
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + CUT

"""Verdicts on their way from a judging process: the four fields that a verifier fills in, as plain data."""

from collections.abc import Mapping
from typing import Any

from holdfast.data.example import Verdict
from holdfast.errors import DataError

_FIELDS = ("reward", "feedback", "answer", "format_ok")


def verdict_as_message(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain data.

    Raises:
        DataError: it has changed since it was made and checked.
    """
    if type(verdict.reward) is not float:
        raise DataError("its verdict is not what it was when it was made", fix="return a new holdfast.Verdict")
    return {name: getattr(verdict, name) for name in _FIELDS}


def verdict_from_message(message: Mapping[str, Any]) -> Verdict:
    """The verdict of `verdict_as_message`, checked again.

    Raises:
        DataError: it is none.
    """
    return Verdict(**{name: message[name] for name in _FIELDS})

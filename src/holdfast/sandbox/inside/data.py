"""Values as JSON, without loss and without code: what one process tells another that it does not trust.

Only plain values have a form: numbers, text, bytes, dates, and containers of them. A value of a subclass is written as
its base, so nothing that it overrides goes along. Everything else is written by a function of the caller's, as a
reference to something that stays where it is.
"""

import base64
import datetime
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

DEEPEST = 60
"""Levels of nested containers."""

Refer = Callable[[Any], Any]
"""Writes a value that has no form of its own, as JSON."""

Resolve = Callable[[Any], Any]
"""What a reference stands for."""


class NotPlainError(Exception):
    """A value that has no form, or something that is no form of a value."""


def no_reference(value: Any) -> Any:
    """Refuse what has no form.

    Raises:
        NotPlainError: always.
    """
    raise NotPlainError(f"a value of the type {type(value).__name__}")


def encode(value: Any, refer: Refer = no_reference, depth: int = 0) -> Any:
    """A value as JSON: null, true, false, a text, or a list of its kind and its content.

    Raises:
        NotPlainError: it is nested too deeply, or `refer` refuses a part of it.
    """
    if depth > DEEPEST:
        raise NotPlainError("a value that is nested too deeply")
    kind = type(value)
    if value is None or kind is bool:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return ["int", hex(int.__int__(value))]
    if isinstance(value, float):
        return ["float", float.__repr__(value)]
    if isinstance(value, complex):
        return ["complex", float.__repr__(value.real), float.__repr__(value.imag)]
    if kind in (bytes, bytearray):
        return [kind.__name__, base64.b64encode(value).decode()]
    if value is Ellipsis:
        return ["ellipsis"]
    if kind is range:
        return ["range", value.start, value.stop, value.step]
    if kind in (Decimal, Fraction):
        return [kind.__name__, str(value)]
    if kind in (datetime.date, datetime.time) or (kind is datetime.datetime and value.tzinfo is None):
        return [kind.__name__, value.isoformat()]
    if kind is datetime.timedelta:
        return ["timedelta", value.days, value.seconds, value.microseconds]
    if isinstance(value, list | tuple | set | frozenset | deque):
        plain: Any = next(each for each in (list, tuple, set, frozenset, deque) if isinstance(value, each))
        return [plain.__name__, [encode(each, refer, depth + 1) for each in plain.__iter__(value)]]
    if isinstance(value, dict):
        name = kind.__name__ if kind in (Counter, OrderedDict) else "dict"
        pairs = dict.items(value)
        return [name, [[encode(k, refer, depth + 1), encode(v, refer, depth + 1)] for k, v in pairs]]
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        items = encode(value.tolist(), no_reference, depth + 1)
        return ["ndarray", items, str(value.dtype)] if getattr(value, "shape", ()) else items
    return ["reference", refer(value)]


def decode(found: Any, resolve: Resolve = no_reference, depth: int = 0) -> Any:
    """The value that JSON of `encode` stands for.

    Raises:
        NotPlainError: it stands for none.
    """
    if depth > DEEPEST:
        raise NotPlainError("a value that is nested too deeply")
    if found is None or isinstance(found, bool | str):
        return found
    if not isinstance(found, list) or not found or not isinstance(found[0], str):
        raise NotPlainError("something that is no value")
    kind, content = found[0], found[1:]
    try:
        if kind == "reference":
            return resolve(content[0])
        if kind in _SIMPLE:
            return _SIMPLE[kind](*content)
        if kind in _SEQUENCES:
            return _SEQUENCES[kind](decode(each, resolve, depth + 1) for each in content[0])
        if kind in _MAPPINGS:
            pairs = [(decode(k, resolve, depth + 1), decode(v, resolve, depth + 1)) for k, v in content[0]]
            return _MAPPINGS[kind](dict(pairs))
        if kind == "ndarray":
            return _array(decode(content[0], no_reference, depth + 1), str(content[1]))
    except NotPlainError:
        raise
    except Exception:
        raise NotPlainError(f"something that is no value of the type {kind[:40]!r}") from None
    raise NotPlainError(f"a value of the type {kind[:40]!r}")


def update(old: Any, new: Any) -> None:
    """Give a container the content of another of its type, as a function changes its arguments in place."""
    if isinstance(old, list | bytearray):
        old[:] = new
    elif isinstance(old, deque | set):
        old.clear()
        old.extend(new) if isinstance(old, deque) else old.update(new)
    elif isinstance(old, dict):
        old.clear()
        dict.update(old, new)


def is_mutable(value: Any) -> bool:
    """Whether `update` can change a value."""
    return isinstance(value, list | bytearray | deque | set | dict)


def _float(text: str) -> float:
    return float(text)


def _range(*ends: int) -> range:
    if not all(type(each) is int for each in ends):
        raise NotPlainError("a range of something else than integers")
    return range(*ends)


def _array(values: Any, dtype: str) -> Any:
    import numpy

    if numpy.dtype(dtype).hasobject:
        raise NotPlainError("an array of objects")
    return numpy.array(values, dtype=dtype)


_SIMPLE: dict[str, Callable[..., Any]] = {
    "int": lambda text: int(text, 16),
    "float": _float,
    "complex": lambda real, imag: complex(float(real), float(imag)),
    "bytes": lambda text: base64.b64decode(text),
    "bytearray": lambda text: bytearray(base64.b64decode(text)),
    "ellipsis": lambda: Ellipsis,
    "range": _range,
    "Decimal": lambda text: Decimal(text),
    "Fraction": lambda text: Fraction(text),
    "date": lambda text: datetime.date.fromisoformat(text),
    "time": lambda text: datetime.time.fromisoformat(text),
    "datetime": lambda text: datetime.datetime.fromisoformat(text),
    "timedelta": lambda *parts: datetime.timedelta(*parts),
}
_SEQUENCES: dict[str, Callable[..., Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
}
_MAPPINGS: dict[str, Callable[..., Any]] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}


def is_close(value: Any, other: Any) -> bool:
    """Whether two plain values are equal, with tuples as lists and floats up to rounding, as JSON's tests mean it."""
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(is_close, value, other))
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(is_close(value[key], other[key]) for key in value)
    if isinstance(value, float) and isinstance(other, int | float) and not isinstance(other, bool):
        return math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(type(value) is type(other) or _both_numbers(value, other)) and bool(value == other)


def _both_numbers(value: Any, other: Any) -> bool:
    return all(isinstance(each, int | float) for each in (value, other))

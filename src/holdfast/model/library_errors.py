"""Errors that transformers, peft and safetensors raise about a model, as one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.errors import ModelError, shortened

_CLASS = re.compile(r"<class '([\w.]+)'>")

_INSIDE = re.compile(
    r"has no attribute|not subscriptable|not iterable|not callable|not supported between|unsupported operand|"
    r"unhashable|NoneType|positional argument|keyword argument|indices must be|object at 0x"
)
"""What Python says when a value has another type than a library expects."""


@contextmanager
def one_line(where: str, what: str, fix: str) -> Iterator[None]:
    """Turn any error that a library raises about a model into one line."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
        # torch lists what does not fit below a headline.
        reason = lines[0] if not lines[0].endswith(":") else " ".join(lines[:2])
        reason = shortened(_CLASS.sub(r"\1", reason.split(". ")[0].rstrip(".")), 300)
        if re.search("attn_implementation|FlashAttention|`sdpa`", str(error)):
            fix = "set model.attn_implementation: eager"
        if _INSIDE.search(reason):  # a library stumbled over a value; where it did says nothing about the file
            wrong = "a setting in its files has a value of the wrong type"
            raise ModelError(f"{what}: {wrong}", where=where, fix=f"{fix}, and what was edited in them") from error
        raise ModelError(f"{what}: {type(error).__name__}: {reason}", where=where, fix=fix) from error

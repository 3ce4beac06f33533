"""Errors that transformers, peft and safetensors raise about a model, as one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.errors import ModelError


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
        reason = reason.split(". ")[0].rstrip(".")
        if re.search("attn_implementation|FlashAttention|`sdpa`", str(error)):
            fix = "set model.attn_implementation: eager"
        raise ModelError(f"{what}: {type(error).__name__}: {reason}", where=where, fix=fix) from error

"""The first problem of a configuration, in one line."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from holdfast.config.base import block_in
from holdfast.errors import did_you_mean
from holdfast.renamed import hint


def first_problem(error: ValidationError, kind: type[BaseModel]) -> str:
    """What is wrong with data that `kind` refused: the key, the problem and, if known, the fix."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(p) for p in problem["loc"] if not str(p).startswith("function-"))
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        name, known = str(problem["loc"][-1]), _known_keys(kind, problem["loc"][:-1])
        return f"{key}: unknown key; {hint(name, known) or did_you_mean(name, known)}"
    if problem["type"] == "missing":
        return f"{key}: missing; it has no default"
    if new_name := hint(problem["input"]):
        message = f"{problem['input']!r} is not a value of it; {new_name}"
    return f"{key}: {message}" if key else message


def _known_keys(kind: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    """The keys of the block at a path of the configuration; empty if the path leads nowhere."""
    block: Any = kind
    for part in path:
        if isinstance(part, int):
            continue
        fields = getattr(block, "model_fields", {})
        if part not in fields:
            return []
        block = block_in(fields[part].annotation)
    return sorted(getattr(block, "model_fields", {}))

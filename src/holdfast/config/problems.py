"""The first problem of a configuration, in one line."""

from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

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
        block = _settings_in(fields[part].annotation)
    return sorted(getattr(block, "model_fields", {}))


def _settings_in(annotation: Any) -> Any:
    """The block inside a type such as `list[Block]` or `Block | None`; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    blocks = (_settings_in(argument) for argument in get_args(annotation))
    return next((block for block in blocks if block is not None), None)

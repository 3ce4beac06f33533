"""The first thing that is wrong with a configuration, in one line."""

from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from holdfast.errors import did_you_mean
from holdfast.renamed import hint


def first_problem(error: ValidationError, kind: type[BaseModel]) -> str:
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(p) for p in problem["loc"] if not str(p).startswith("function-"))
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        name = str(problem["loc"][-1])
        return f"{key}: unknown key; {hint(name) or did_you_mean(name, _known_keys(kind, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{key}: missing; it has no default"
    if renamed := hint(problem["input"]):
        message = f"{problem['input']!r} is no value of it; {renamed}"
    return f"{key}: {message}" if key else message


def _known_keys(kind: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    """The keys of the block at a path of the configuration; empty where it cannot be told."""
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
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _settings_in(arg)) is not None), None)

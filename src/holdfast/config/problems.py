"""The first problem of a configuration, in one line."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from holdfast.config.base import block_in
from holdfast.errors import did_you_mean, shown
from holdfast.renamed import hint

_KINDS = {
    "int_type": "an integer, such as 3",
    "int_from_float": "an integer, such as 3",
    "int_parsing": "an integer, such as 3",
    "float_type": "a number, such as 0.5",
    "float_parsing": "a number, such as 0.5",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "none_required": "null",
    "finite_number": "a finite number",
}
"""What a setting has to be, by pydantic's name of the problem."""

_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "greater than or equal to"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "less than or equal to"),
}


def first_problem(error: ValidationError, kind: type[BaseModel]) -> str:
    """What is wrong with data that `kind` refused: the key, the problem and, if known, the fix."""
    problems = error.errors(include_url=False)
    problem = problems[0]
    key = _key(problem["loc"])
    if problem["type"] == "extra_forbidden":
        name, known = str(problem["loc"][-1]), _known_keys(kind, problem["loc"][:-1])
        return f"{key}: unknown key; {hint(name, known) or did_you_mean(name, known)}"
    if problem["type"] == "missing":
        return f"{key}: missing, and it has no default; write it"
    if new_name := hint(problem["input"]):
        message = f"{shown(problem['input'])} is not a value of it; {new_name}"
    else:
        # A setting that may be one of several types has a problem with each.
        same = [each for each in problems if _key(each["loc"]) == key]
        message = _in_words(same)
    return f"{key}: {message}" if key else message


def _key(location: Iterable[int | str]) -> str:
    """The dotted key; pydantic also names types, such as `list[str]`, and validators."""
    return ".".join(str(part) for part in location if "[" not in str(part) and not str(part).startswith("function-"))


def _in_words(problems: list[Any]) -> str:
    problem = problems[0]
    value, context = problem["input"], problem.get("ctx", {})
    wanted = dict.fromkeys(want for each in problems if (want := expected(each)) is not None)
    if wanted:
        quoted = ", without quotes" if _is_quoted_number(value, wanted) else ""
        left_out = ", or leave the key out" if value is None else ""
        return f"{shown(value)} is no value of it; write {', or '.join(wanted)}{quoted or left_out}"
    if problem["type"] in _BOUNDS:
        name, words = _BOUNDS[problem["type"]]
        return f"{shown(value)} is out of range; write a number {words} {context[name]}"
    if problem["type"] in ("too_short", "string_too_short"):
        return f"has too few items; list at least {context['min_length']} item{'s' * (context['min_length'] != 1)}"
    if problem["type"] in ("too_long", "string_too_long"):
        return f"has too many items; list at most {context['max_length']}"
    if problem["type"] == "string_pattern_mismatch":
        return f"{shown(value)} is no name; write letters, digits, `.`, `_` and `-`, beginning with a letter or digit"
    return str(problem["msg"]).removeprefix("Value error, ")


def expected(problem: Mapping[str, Any]) -> str | None:
    """What a value has to be, in words, where pydantic's `problem` is about its type; otherwise None."""
    if problem["type"] == "literal_error":
        return str(problem["ctx"]["expected"])
    return _KINDS.get(problem["type"])


def _is_quoted_number(value: Any, wanted: Iterable[str]) -> bool:
    if not isinstance(value, str) or not any(_KINDS[kind] in wanted for kind in ("int_type", "float_type")):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


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

"""Tools and calls of tools, in the form in which chat templates take them: OpenAI's, with arguments as mappings."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.errors import DataError
from holdfast.tasks.readers.record import kind, text

_CALL = '{"type": "function", "function": {"name": …, "arguments": {…}}}'


def tools_of(value: Any, column: str, where: str, *, filled: bool = False) -> tuple[Mapping[str, Any], ...] | None:
    """The tools of a record; None if it has none.

    A list as JSON text is read. A function without the frame of OpenAI's form gets it.

    Args:
        value: of the column.
        column: its name, for error messages.
        where: the record, for error messages.
        filled: whether None stands for a key that is absent (see `Record`).

    Raises:
        DataError: it is no list of tools with names.
    """
    if isinstance(value, str):
        value = _parsed(value, column, where) if value.strip() else None
    elif filled:
        value = without_nulls(value)
    if value is None or value == []:
        return None
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise DataError(f"`{column}` is {kind(value)}, not a list of tools", where=where, fix="write JSON schemas")
    return tuple(_tool(tool, f"{column}[{index}]", where) for index, tool in enumerate(value))


def tool_calls_of(value: Any, name: str, where: str, *, filled: bool = False) -> tuple[Mapping[str, Any], ...]:
    """The calls of a turn, with arguments as mappings; empty if it has none. See `tools_of`.

    Raises:
        DataError: it is no list of calls with names, or the arguments of one are no JSON object.
    """
    if isinstance(value, str):
        value = _parsed(value, name, where) if value.strip() else None
    elif filled:
        value = without_nulls(value)
    if value is None or value == []:
        return ()
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise DataError(f"`{name}` is {kind(value)}, not a list of calls", where=where, fix=f"write {_CALL}")
    return tuple(_call(call, f"{name}[{index}]", where) for index, call in enumerate(value))


def calls_as_text(calls: Sequence[Mapping[str, Any]]) -> str:
    """Calls as text: one JSON object with `name` and `arguments` per line."""
    plain = ({key: call["function"][key] for key in ("name", "arguments")} for call in calls)
    return "\n".join(json.dumps(call, ensure_ascii=False) for call in plain)


def without_nulls(value: Any) -> Any:
    """Nested data without keys whose value is None."""
    if isinstance(value, Mapping):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _tool(tool: Any, name: str, where: str) -> Mapping[str, Any]:
    if isinstance(tool, str):
        tool = _parsed(tool, name, where)
    if isinstance(tool, Mapping) and "function" not in tool and "name" in tool:
        tool = {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        fix = 'write {"type": "function", "function": {"name": …, "description": …, "parameters": {…}}}'
        raise DataError(f"`{name}` is not a tool with a name", where=where, fix=fix)
    return dict(tool)


def _call(call: Any, name: str, where: str) -> Mapping[str, Any]:
    if isinstance(call, Mapping) and "function" not in call and "name" in call:
        call = {"function": call}
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise DataError(f"`{name}` is not a call of a tool", where=where, fix=f"write {_CALL}")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = _parsed(arguments, f"{name}.function.arguments", where) if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        what = f"`{name}.function.arguments` is {kind(arguments)}, not an object"
        raise DataError(what, where=where, fix="write the arguments by name")
    called = {"type": "function", "function": {"name": function["name"], "arguments": dict(arguments)}}
    return {"id": call["id"], **called} if isinstance(call.get("id"), str) else called


def _parsed(value: str, name: str, where: str) -> Any:
    try:
        return json.loads(text(value, name, where))
    except (ValueError, RecursionError):
        raise DataError(f"`{name}` is text that is not JSON", where=where, fix="write it as JSON") from None

"""Records in forms of the wild, and how they become examples."""

from typing import Any

from holdfast.config.settings import Columns
from holdfast.data.example import Example
from holdfast.tasks.files import Reading, Record, records_to_examples


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    """A turn in OpenAI's form."""
    return {"role": role, "content": content, **more}


def said(speaker: str, value: Any, **more: Any) -> dict[str, Any]:
    """A turn in ShareGPT's form."""
    return {"from": speaker, "value": value, **more}


def call(name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    """A call of a tool in OpenAI's form."""
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


def tool(name: str, **parameters: str) -> dict[str, Any]:
    """A tool in OpenAI's form; its parameters by their types."""
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    return {
        "type": "function",
        "function": {"name": name, "description": name, "parameters": {"type": "object", "properties": properties}},
    }


def example(
    values: dict[str, Any], columns: dict[str, str] | None = None, *, filled: bool = False, **reading: Any
) -> Example:
    """The example of one record."""
    record = Record(values, 3, "d.jsonl:3", filled=filled)
    return records_to_examples([record], Columns(**columns or {}), "d.jsonl", Reading(**reading))[0]

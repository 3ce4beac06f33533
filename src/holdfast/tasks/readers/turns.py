"""Turns of a conversation, in OpenAI's form (`role`, `content`) and in ShareGPT's (`from`, `value`)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.data.example import Message
from holdfast.data.thoughts import THOUGHT_KEYS, normal_form
from holdfast.errors import DataError
from holdfast.tasks.readers.record import kind, text
from holdfast.tasks.readers.thoughts import merged, thoughts_of
from holdfast.tasks.readers.tools import calls_as_text, tool_calls_of
from holdfast.tasks.readers.weights import MASKED_KEY, TRAINED_KEYS, is_trained

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
}
"""What a `role` means."""

SPEAKERS = {
    **ROLES,
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
"""What a `from` means. ShareGPT has a role of its own for calls of tools, whose text is JSON."""

UNREAD_KEYS = ("tools", "functions", "images", "image", "videos", "video", "audios", "audio")
"""Keys of a turn that are refused, because the model would be trained without them."""

CALLERS = ("function_call", "tool_call")

READ_KEYS = frozenset(
    (
        *("role", "content", "from", "value", "name", "tool_calls", "function_call", "tool_call_id"),
        *(*THOUGHT_KEYS, *TRAINED_KEYS, MASKED_KEY),
    )
)
"""Keys of a turn that are read."""

TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text"}
THOUGHT_PARTS = {"thinking": "thinking", "reasoning": "text"}
"""Kinds of parts of a content, and the key of their text."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a record.

    Args:
        message: as chat templates take it. Thoughts that data has in the text stay there, in the normal form.
        trained: whether data says that it is trained on; None if it says nothing.
    """

    message: Message
    trained: bool | None = None

    @property
    def role(self) -> str:
        return self.message["role"]

    def as_text(self) -> str:
        """The turn as the text of a demonstration: thoughts, and the content or else the calls of tools."""
        thoughts, answer = merged(self.message["content"], self.message.get("reasoning_content"), "", "")
        answer = answer or calls_as_text(self.message.get("tool_calls", ()))
        return answer if thoughts is None else normal_form(thoughts, answer)


def conversation(value: Any, column: str, where: str, *, filled: bool = False) -> tuple[Turn, ...]:
    """The turns of a conversation. Text is one turn of the user, unless it is a list of turns written as JSON.

    Args:
        value: of the column.
        column: its name, for error messages.
        where: the record, for error messages.
        filled: whether None stands for a key that is absent (see `Record`).

    Raises:
        DataError: it is neither text nor a list of turns, or a turn is malformed.
    """
    value = unpacked(value, column, where)
    if isinstance(value, str):
        return (Turn(Message(role="user", content=text(value, column, where))),)
    if not isinstance(value, list) or not value:
        raise DataError(
            f"`{column}` is {kind(value)}", where=where, fix="write text, or a list of turns with `role` and `content`"
        )
    turns = tuple(_turn(turn, f"{column}[{index}]", where, filled) for index, turn in enumerate(value))
    if any(turn.role == "system" for turn in turns[1:]):
        raise DataError(f"`{column}` has a system turn that is not its first turn", where=where, fix="put it first")
    return turns


def assistant_text(value: str, thoughts: str | None, name: str, where: str) -> Turn:
    """A demonstration that data has as text, and perhaps its thoughts in another column, as a turn."""
    thoughts, answer = merged(text(value, name, where), thoughts, name, where)
    answer = text(answer, f"{name} after its thoughts" if thoughts is not None else name, where)
    return Turn(Message(role="assistant", content=answer if thoughts is None else normal_form(thoughts, answer)))


def unpacked(value: Any, column: str, where: str) -> Any:
    """A list of turns, if the value is one that is written as JSON text, as tables of text have it; else the value.

    Raises:
        DataError: it is a list of turns as Python prints it.
    """
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        turns = json.loads(value)
    except (ValueError, RecursionError):
        if value.lstrip()[1:].lstrip().startswith(("{'role'", "{'content'", "{'from'", "{'value'")):
            what = f"`{column}` is a list of turns in Python's own notation"
            raise DataError(what, where=where, fix="write it as JSON, or the file as Parquet") from None
        return value
    forms = ({"role", "content"}, {"role", "tool_calls"}, {"from", "value"})
    is_turns = isinstance(turns, list) and all(
        isinstance(turn, Mapping) and any(keys <= set(turn) for keys in forms) for turn in turns
    )
    return turns if turns and is_turns else value


def _turn(turn: Any, name: str, where: str, filled: bool) -> Turn:
    speaker = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
    key = next((key for key in ("content", "value") if isinstance(turn, Mapping) and key in turn), None)
    if speaker is None or (key is None and not turn.get("tool_calls") and not turn.get("function_call")):
        raise DataError(f"`{name}` is not a turn", where=where, fix='write {"role": "user", "content": "…"}')
    roles = ROLES if "role" in turn else SPEAKERS
    if not isinstance(speaker, str) or speaker not in roles:
        raise DataError(f"`{name}` has the role {speaker!r}", where=where, fix=f"use one of {', '.join(roles)}")
    for unread in UNREAD_KEYS:
        if turn.get(unread) not in (None, "", []):
            fix = "put it into a column of the record" if unread in ("tools", "functions") else "remove the record"
            raise DataError(f"`{name}` has `{unread}`, which is not read", where=where, fix=fix)
    role, said = roles[speaker], None if key is None else turn[key]
    trained = is_trained(turn, role, name, where)
    if role != "assistant":
        if turn.get("tool_calls"):
            what = f"`{name}` has `tool_calls`, but it is the {role}'s turn"
            raise DataError(what, where=where, fix="only the assistant calls tools")
        return Turn(_other_message(turn, role, said, f"{name}.{key}", where), trained)
    calls = turn.get("tool_calls") or turn.get("function_call")
    if "role" not in turn and speaker in CALLERS:
        calls, said = said, None
    return Turn(_assistant_message(turn, said, calls, name, where, filled), trained)


def _other_message(turn: Mapping[str, Any], role: str, said: Any, name: str, where: str) -> Message:
    content, thoughts = _content(said, name, where)
    if thoughts is not None:
        raise DataError(f"`{name}` has thoughts, but it is the {role}'s turn", where=where, fix="remove them")
    # Many conversations have an empty system turn. A tool may return nothing.
    message = Message(role=role, content=text(content, name, where, may_be_empty=role in ("system", "tool")))
    if isinstance(turn.get("tool_call_id"), str):
        message["tool_call_id"] = turn["tool_call_id"]
    return _named(message, turn)


def _assistant_message(turn: Mapping[str, Any], said: Any, called: Any, name: str, where: str, filled: bool) -> Message:
    calls = tool_calls_of(called, f"{name}.tool_calls", where, filled=filled)
    content, in_parts = _content(said, f"{name}.content", where)
    if calls and content is None:
        content = ""
    content = text(content, f"{name}.content", where, may_be_empty=bool(calls))
    under_key = thoughts_of(turn, name, where) or in_parts
    thoughts, answer = merged(content, under_key, f"{name}.content", where)
    if not calls:
        text(answer, f"{name}.content" + (" after its thoughts" if thoughts is not None else ""), where)
    if under_key is None and thoughts is not None:
        answer = normal_form(thoughts, answer)
    message = Message(role="assistant", content=answer)
    if under_key is not None:
        message["reasoning_content"] = under_key
    if calls:
        message["tool_calls"] = calls
    return _named(message, turn)


def _named(message: Message, turn: Mapping[str, Any]) -> Message:
    if isinstance(turn.get("name"), str):
        message["name"] = turn["name"]
    return message


def _content(said: Any, name: str, where: str) -> tuple[Any, str | None]:
    """A content as one value, and the thoughts among its parts."""
    if not isinstance(said, list) or not said:
        return said, None
    texts, thoughts = [], []
    for part in said:
        part_kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(part_kind, str):  # it may be anything, and is looked up below
            part_kind = None
        if isinstance(part, str):
            texts.append(part)
        elif part_kind in TEXT_PARTS and isinstance(part.get("text"), str | None):
            texts.append(part.get("text") or "")
        elif part_kind in THOUGHT_PARTS and isinstance(part.get(THOUGHT_PARTS[part_kind]), str):
            thoughts.append(part[THOUGHT_PARTS[part_kind]])
        else:
            what = f"`{name}` is a list, not text alone: it has a part of the kind {part_kind or kind(part)!r}"
            raise DataError(what, where=where, fix="models are trained on text only; remove the record")
    return "".join(texts), "\n".join(thoughts).strip() or None

"""From files and Hugging Face datasets to examples, with the column formats of TRL.

A record is one line of JSON Lines, one item of a JSON array, or one row of a table. It knows its file and line, and an
error in it is one line that names them.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holdfast.config.settings import Columns
from holdfast.data.example import Example, Message
from holdfast.errors import DataError, did_you_mean

ROLES = ("system", "user", "assistant")

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")

CONVERSATION = "messages"
"""TRL's column for a whole conversation. Its last turn, the assistant's, is the demonstration."""

DEMONSTRATION_COLUMNS = ("output_text", "golden_response", "completion")
"""Columns in which published task files have a demonstration, in the order of preference."""

UNREAD_KEYS = ("tool_calls", "reasoning_content", "thinking")
"""Keys of a turn that are refused, because only `content` is read and they would be dropped silently."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a dataset.

    Args:
        values: by column.
        number: its line, item or row, from 1.
        where: the file and the number, for error messages.
    """

    values: Mapping[str, Any]
    number: int
    where: str


def read_records(path: str | Path) -> list[Record]:
    """All records of a JSON Lines, JSON or Parquet file.

    A `.json` or `.jsonl` file may be one array of objects, or have one object per line.

    Raises:
        DataError: the file is missing, empty, of another type, or does not have the format that its name says.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError("is a folder, not a file", where=str(path), fix="use `dataset: FOLDER` with `train: SPLIT`")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"has an unknown file type {path.suffix!r}", where=str(path), fix=f"use one of {', '.join(SUFFIXES)}"
        )
    try:
        records = list(_parquet(path) if path.suffix.lower() == ".parquet" else _json(path))
    except FileNotFoundError:
        raise DataError("no such file", where=str(path), fix="check the path in the configuration") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot be read: {first_line(error)}", where=str(path), fix="check its permissions, and save it as UTF-8"
        ) from None
    if not records:
        raise DataError("has no records", where=str(path), fix="write one example per line or row")
    return records


def read_dataset(name: str, split: str, subset: str | None = None) -> list[Record]:
    """All records of one split of a Hugging Face dataset.

    Args:
        name: a hub id, a local folder of data files, or a folder written by `save_to_disk`.
        split: name of the split. For the first two kinds it may be a slice such as `train[:100]`.
        subset: the dataset's configuration name, if it has several.

    Raises:
        DataError: the dataset or the split is missing, cannot be read, or is empty.
    """
    import datasets

    if not sys.stderr.isatty():  # a progress bar in a log file is many lines
        datasets.disable_progress_bars()
    folder, where = Path(name), f"{name}/{split}"
    saved = any((folder / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
    try:
        rows = (
            _saved_split(datasets.load_from_disk(name), split)
            if saved
            else datasets.load_dataset(name, subset, split=split)
        )
        records = [Record(dict(row), n, f"{where}, row {n}") for n, row in enumerate(rows, 1)]
    except DataError as error:
        raise DataError(error.what, where=where, fix=error.fix) from None
    except Exception as error:
        raise DataError(
            f"the dataset cannot be loaded: {type(error).__name__}: {first_line(error)}",
            where=where,
            fix="check its name, `subset`, the split, and the network",
        ) from error
    if not records:
        raise DataError("has no records", where=where, fix="name a split that has examples")
    return records


def records_to_examples(records: Sequence[Record], columns: Columns, where: str) -> list[Example]:
    """Records as examples.

    The columns:

    - `prompt`: text, or a list of turns that ends with the user's. Text becomes one user turn, because the model's chat
      template is applied to every prompt.
    - `completion`: text, or a list of one assistant turn.
    - `privileged_context` and `plan`: text, or a list of turns whose contents are joined by newlines, as TRL does.
    - `solution` and `actions`: a list of steps, or text with one step per line.
    - `translation`: text that replaces the last user turn, or a list of turns.
    - `messages`: if there is no prompt, this conversation is split before its last turn, the assistant's.
    - All columns that no field is read from become the example's metadata.

    Args:
        records: as read.
        columns: the column of each field. A column that the user names must exist.
        where: the file or split. An example without an `id` gets an id from its last part and the record's number.

    Raises:
        DataError: a record is malformed, an id is used twice, or there are no records.
    """
    if not records:
        raise DataError("has no records", where=where, fix="write one example per line or row")
    _check_named_columns(records, columns, where)
    examples: list[Example] = []
    places: dict[str, str] = {}
    for record in records:
        example = _example(record, columns, Path(where).stem)
        if example.id in places:
            raise DataError(
                f"the id {example.id!r} is used twice, first at {places[example.id]}",
                where=record.where,
                fix=f"make `{columns.id}` unique, or leave the column out",
            )
        places[example.id] = record.where
        examples.append(example)
    return examples


def published_examples(records: Sequence[Record], adapt: Callable[[Record], Record], where: str) -> list[Example]:
    """Records of a published task file as examples. Of their metadata only `idx` is kept.

    Args:
        records: as read.
        adapt: rewrites a record so that it has the default columns.
        where: as for `records_to_examples`.

    Raises:
        DataError: as from `adapt` and `records_to_examples`.
    """
    examples = records_to_examples([adapt(record) for record in records], Columns(), where)
    return [replace(e, metadata={k: v for k, v in e.metadata.items() if k == "idx"}) for e in examples]


def demonstration_text(record: Record) -> Any:
    """The demonstration of a record of a published task file, as `records_to_examples` takes it; None if it has none.

    A list of lines is joined by newlines.
    """
    for column in DEMONSTRATION_COLUMNS:
        value = record.values.get(column)
        if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
            return "\n".join(value)
        if value is not None:
            return value
    return None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for error messages of one line."""
    return next(iter(str(error).strip().splitlines()), "no message")


def _json(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as file:
        # The first character tells an array from lines of objects, whatever the file's name says.
        head = file.read(1)
        while head and head.isspace():
            head = file.read(1)
        file.seek(0)
        if head == "[":
            for number, item in enumerate(_parse(file.read(), str(path)), 1):
                where = f"{path}, item {number}"
                yield Record(_object(item, where), number, where)
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"{path}:{number}"
                yield Record(_object(_parse(line, where), where), number, where)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise DataError(
            f"is not valid JSON: {error.msg} at {place}",
            where=where,
            fix="write one object per line, or one array of objects",
        ) from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"cannot be read as JSON: {first_line(error)}", where=where, fix="check its syntax") from None


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f"is {_kind(value)}, not an object",
            where=where,
            fix='write {"prompt": …, "completion": …} for each example',
        )
    return value


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(
            f"is not a Parquet file: {first_line(error)}", where=str(path), fix="write it again, e.g. with pyarrow"
        ) from None
    for number, row in enumerate(rows, 1):
        yield Record(row, number, f"{path}, row {number}")


def _saved_split(data: Any, split: str) -> Iterable[Mapping[str, Any]]:
    """A split of what `load_from_disk` gave: a dictionary of splits, or one split, called "train" if it has no name."""
    splits = data if isinstance(data, dict) else {str(data.split or "train"): data}
    if split not in splits:
        raise DataError(f"no split {split!r}", fix=did_you_mean(split, map(str, splits)))
    rows: Iterable[Mapping[str, Any]] = splits[split]
    return rows


def _check_named_columns(records: Sequence[Record], columns: Columns, where: str) -> None:
    """Refuse a column that the user named and that does not exist. Columns with their default names may be missing."""
    existing = {name for record in records for name in record.values}
    for field, default in Columns().model_dump().items():
        name = getattr(columns, field)
        if name != default and name not in existing:
            raise _missing(name, existing, where)


def _missing(name: str, existing: Iterable[str], where: str) -> DataError:
    existing = sorted(map(str, existing))
    hint = did_you_mean(name, existing)
    fix = hint if hint.startswith("did") else "name the column under `columns:`"
    return DataError(f"no column {name!r}; the columns are {', '.join(existing) or 'none'}", where=where, fix=fix)


def _example(record: Record, columns: Columns, stem: str) -> Example:
    values, where = record.values, record.where
    prompt_column = columns.prompt
    if prompt_column not in values and CONVERSATION in values:
        prompt_column = CONVERSATION
    if prompt_column not in values:
        raise _missing(columns.prompt, values, where)
    messages = _conversation(values[prompt_column], prompt_column, where)
    demonstration = _completion(values.get(columns.completion), columns.completion, where)
    if prompt_column == CONVERSATION and demonstration is None and messages[-1]["role"] == "assistant":
        messages, demonstration = messages[:-1], messages[-1]["content"]
    if not messages or messages[-1]["role"] != "user":
        raise DataError(
            f"`{prompt_column}` does not end with a user turn",
            where=where,
            fix=f"put the assistant's last turn into `{columns.completion}`",
        )
    messages = _with_system(messages, values.get(columns.system), columns.system, where)
    used = {prompt_column, *columns.model_dump().values()}
    return Example(
        id=_id(values.get(columns.id), columns.id, where) or f"{stem}-{record.number}",
        messages=messages,
        demonstration=demonstration,
        privileged_context=_privileged(values.get(columns.privileged_context), columns.privileged_context, where),
        plan=_privileged(values.get(columns.plan), columns.plan, where),
        solution=_lines(values.get(columns.solution), columns.solution, where),
        actions=_lines(values.get(columns.actions), columns.actions, where),
        translation=_translation(values.get(columns.translation), columns.translation, messages, where),
        answer=values.get(columns.answer),
        metadata={name: value for name, value in values.items() if name not in used},
    )


def _conversation(value: Any, column: str, where: str) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (Message(role="user", content=_text(value, column, where)),)
    if not isinstance(value, list) or not value:
        raise DataError(
            f"`{column}` is {_kind(value)}", where=where, fix="write text, or a list of turns with `role` and `content`"
        )
    turns = tuple(_turn(turn, f"{column}[{index}]", where) for index, turn in enumerate(value))
    if any(turn["role"] == "system" for turn in turns[1:]):
        raise DataError(f"`{column}` has a system turn that is not its first turn", where=where, fix="put it first")
    return turns


def _turn(turn: Any, name: str, where: str) -> Message:
    if not isinstance(turn, Mapping) or not {"role", "content"} <= set(turn):
        raise DataError(f"`{name}` is not a turn", where=where, fix='write {"role": "user", "content": "…"}')
    if turn["role"] not in ROLES:
        raise DataError(f"`{name}` has the role {turn['role']!r}", where=where, fix=f"use one of {', '.join(ROLES)}")
    unread = [key for key in UNREAD_KEYS if turn.get(key)]
    if unread:
        raise DataError(
            f"`{name}` has `{unread[0]}`, which is not read", where=where, fix="write it as text into `content`"
        )
    content = turn["content"]
    if isinstance(content, list) and all(isinstance(p, Mapping) and p.get("type") == "text" for p in content):
        content = "".join(str(part.get("text") or "") for part in content)
    if turn["role"] == "system" and content == "":
        return Message(role="system", content="")
    return Message(role=turn["role"], content=_text(content, f"{name}.content", where))


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"`{name}` is {_kind(value)}, not text", where=where, fix="write it as a string")
    if not value.strip():
        raise DataError(f"`{name}` is empty", where=where, fix="fill it in, or remove the record")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"`{name}` has an unpaired surrogate, which is no character", where=where, fix="save it as UTF-8"
        ) from None
    return value


def _completion(value: Any, column: str, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else _text(value, column, where)
    turns = _conversation(value, column, where)
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        raise DataError(
            f"`{column}` is not one assistant turn", where=where, fix="move the earlier turns into the prompt"
        )
    return turns[0]["content"]


def _privileged(value: Any, column: str, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else _text(value, column, where)
    return "\n".join(turn["content"] for turn in _conversation(value, column, where))


def _lines(value: Any, column: str, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = [line for line in _text(value, column, where).splitlines() if line.strip()]
    if not isinstance(value, list) or not value:
        raise DataError(f"`{column}` is {_kind(value)}", where=where, fix="write a list of steps, or one step per line")
    return tuple(_text(step, f"{column}[{index}]", where) for index, step in enumerate(value))


def _translation(value: Any, column: str, messages: tuple[Message, ...], where: str) -> tuple[Message, ...] | None:
    """The translated conversation. If only text is given, the system message and earlier turns stay as they are."""
    if value is None:
        return None
    if isinstance(value, str):
        return (*messages[:-1], Message(role="user", content=_text(value, column, where)))
    turns = _conversation(value, column, where)
    if turns[-1]["role"] != "user":
        raise DataError(f"`{column}` does not end with a user turn", where=where, fix="remove the answer from it")
    return turns


def _with_system(messages: tuple[Message, ...], value: Any, column: str, where: str) -> tuple[Message, ...]:
    if value is None or value == "":
        return messages
    if messages[0]["role"] == "system":
        raise DataError(
            f"the record has both a system turn in its prompt and a `{column}` column",
            where=where,
            fix="keep one of them",
        )
    return (Message(role="system", content=_text(value, column, where)), *messages)


def _id(value: Any, column: str, where: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise DataError(f"`{column}` is {_kind(value)}", where=where, fix="write text or an integer")
    return str(value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    if value is None or value == "" or value == []:
        return "empty"
    return names.get(type(value), type(value).__name__)

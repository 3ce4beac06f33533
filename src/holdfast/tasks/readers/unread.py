"""Columns with text that nothing reads, so that nobody believes that a model learns from them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from holdfast.config.settings import Columns
from holdfast.tasks.readers.examples import Reading
from holdfast.tasks.readers.forms import SHAREGPT, form_of
from holdfast.tasks.readers.prompt_template import template_columns
from holdfast.tasks.readers.record import FaultyRecord, Record, column
from holdfast.tasks.readers.turns import READ_KEYS


def unread_columns(
    found: Sequence[Record | FaultyRecord], columns: Columns, reading: Reading | None = None
) -> tuple[str, ...]:
    """Columns with text that no field of an example is read from, in the order of the file.

    Their values are in the metadata, so only a verifier or an environment can see them. A key of the turns of a
    conversation is written as `messages[].key`; nobody sees its values. See `records_to_examples` for the arguments.
    """
    reading = reading or Reading()
    records = [each for each in found if isinstance(each, Record)]
    if not records:
        return ()
    form = form_of(records, columns, reading.reader)
    read = {name.partition(".")[0] for name in columns.model_dump().values()} | set(columns.model_dump().values())
    read |= {*form.prompt, *form.consumed, *form.labels}
    if reading.prompt_template is not None:
        read -= {columns.prompt, columns.messages, *form.prompt}
        read |= {name.partition(".")[0] for name in template_columns(reading.prompt_template)}
    if all(
        column(record.values, name) is not None for record in records for name in (columns.prompt, columns.completion)
    ):
        read -= {columns.messages}  # a prompt and its completion go before a conversation beside them
    with_text = [
        name for record in records for name, value in record.values.items() if name not in read and _has_text(value)
    ]
    conversations = [name for name in (columns.messages, columns.prompt, columns.completion, *SHAREGPT) if name in read]
    keys_with_text = [key for record in records for name in conversations for key in _unread_keys(record, name)]
    return tuple(dict.fromkeys(with_text + keys_with_text))


def _has_text(value: Any) -> bool:
    """Whether a value is text that is not blank, or has some inside."""
    if isinstance(value, str):
        return bool(value.strip())
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any(map(_has_text, inner))


def _unread_keys(record: Record, name: str) -> Iterator[str]:
    turns = column(record.values, name)
    for turn in turns if isinstance(turns, list) else ():
        for key, value in turn.items() if isinstance(turn, Mapping) else ():
            if isinstance(value, str) and value.strip() and key not in READ_KEYS:
                yield f"{name}[].{key}"

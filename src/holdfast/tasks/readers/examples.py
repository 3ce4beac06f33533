"""From records to examples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holdfast.config.settings import Columns
from holdfast.data.example import Example, Message
from holdfast.errors import DataError
from holdfast.tasks.readers.faults import BadRecords, converted
from holdfast.tasks.readers.file_types import PACKED
from holdfast.tasks.readers.forms import FUNCTIONS, Form, form_of, refuse_media
from holdfast.tasks.readers.prompt_template import check_template, write_prompt
from holdfast.tasks.readers.record import (
    FaultyRecord,
    Record,
    column,
    column_names,
    has_column,
    kind,
    missing_column,
    refuse_no_value,
    text,
)
from holdfast.tasks.readers.targets import SplitConversation, TrainOn, of_columns, of_conversation
from holdfast.tasks.readers.tools import tools_of
from holdfast.tasks.readers.turns import Turn, assistant_text, conversation, unpacked


@dataclass(frozen=True)
class Reading:
    """How records are read. The configuration has the same settings.

    Args:
        reader: name of a form, or `auto`.
        prompt_template: writes the prompt from columns.
        train_on: the assistant's turns that are trained on where a conversation has no weights.
        bad_records: what happens to a record that cannot be read.
    """

    reader: str = "auto"
    prompt_template: str | None = None
    train_on: TrainOn = "last"
    bad_records: BadRecords = "refuse"


def records_to_examples(
    found: Sequence[Record | FaultyRecord], columns: Columns, where: str, reading: Reading | None = None
) -> list[Example]:
    """Records as examples.

    The columns:

    - `prompt`: text, or a list of turns that ends with the user's or a tool's. Text becomes one user turn, because the
      model's chat template is applied to every prompt.
    - `rendered_prompt`: text that a chat template has rendered already. It replaces the prompt.
    - `completion`: text, or a list of turns of the assistant, with results of tools between them.
    - `reasoning_content`: the thoughts before a completion that is text.
    - `messages`: if there is no completion, this conversation is split before its demonstration (see `targets`).
    - `tools`: JSON schemas, as a list or as JSON text.
    - `privileged_context` and `plan`: text, or a list of turns whose contents are joined by newlines, as TRL does.
    - `solution` and `actions`: a list of steps, or text with one step per line.
    - `gen_prefix` and `target`: text; the beginning of a right answer, and what has to come after it. Under its default
      name, `target` is read only beside a `gen_prefix`.
    - `translation`: text that replaces the last user turn, or a list of turns.
    - All columns that no field is read from become the example's metadata.

    Args:
        found: as read. Faulty records are counted.
        columns: the column of each field. A column that the user names must exist. A dotted name leads into an object.
        where: the file or split. An example without an `id` gets an id from its last part and the record's number.
        reading: how they are read; by default, the form is recognized and faulty records are refused.

    Raises:
        DataError: records are malformed, an id is used twice, or there are no records.
        ConfigError: the prompt template does not fit the columns.
    """
    reading = reading or Reading()
    if not found:
        raise DataError("has no records", where=where, fix="write one example per line or row")
    records = [each for each in found if isinstance(each, Record)]
    _check_named_columns(records, columns, where)
    if reading.prompt_template is not None:
        check_template(reading.prompt_template, records, where)
    form = form_of(records, columns, reading.reader) if records else None
    stem = stem_of(where)

    def convert(record: Record) -> tuple[Example, str]:
        assert form is not None  # there is a record
        return _example(record, columns, stem, form, reading), record.where

    examples: list[Example] = []
    places: dict[str, str] = {}
    for example, place in converted(found, convert, where, reading.bad_records):
        if example.id in places:
            raise DataError(
                f"the id {example.id!r} is used twice, first at {places[example.id]}",
                where=place,
                fix=f"make `{columns.id}` unique, or number the records with `columns: {{id: ''}}`",
            )
        places[example.id] = place
        examples.append(example)
    return examples


def published_examples(
    found: Sequence[Record | FaultyRecord],
    adapt: Callable[[Record], Record],
    where: str,
    bad_records: BadRecords = "refuse",
) -> list[Example]:
    """Records of a published task file as examples. Of their metadata only `idx` is kept.

    Args:
        found: as read.
        adapt: rewrites a record so that it has the default columns.
        where: as for `records_to_examples`.
        bad_records: as in `Reading`.

    Raises:
        DataError: as from `adapt` and `records_to_examples`.
    """

    def adapted(each: Record | FaultyRecord) -> Record | FaultyRecord:
        if isinstance(each, FaultyRecord):
            return each
        try:
            return adapt(each)
        except DataError as error:
            return FaultyRecord(each.where, error)

    reading = Reading(reader="records", bad_records=bad_records)
    examples = records_to_examples([adapted(each) for each in found], Columns(), where, reading)
    return [replace(e, metadata={k: v for k, v in e.metadata.items() if k == "idx"}) for e in examples]


def stem_of(where: str) -> str:
    """The name of a file without its types, or of a split."""
    path = Path(where)
    return Path(path.stem).stem if path.suffix.lower() in PACKED else path.stem


def _check_named_columns(records: Sequence[Record], columns: Columns, where: str) -> None:
    """Refuse a column that the user named and that does not exist. Columns with their default names may be missing."""
    for field, default in Columns().model_dump().items():
        name = getattr(columns, field)
        if name not in (default, "") and records and not any(has_column(record.values, name) for record in records):
            raise missing_column(name, column_names(records), where)


def _example(record: Record, columns: Columns, stem: str, form: Form, reading: Reading) -> Example:
    where = record.where
    refuse_media(record, columns)
    record, columns = form.adapt(record, columns)
    if reading.prompt_template is not None:
        prompt = write_prompt(reading.prompt_template, record.values, where)
        record = replace(record, values={**record.values, columns.prompt: prompt})
    values = record.values
    rendered = _rendered(record, columns)
    target = _target(record, columns, reading) if rendered is None else _after_rendered(rendered, record, columns)
    messages = tuple(turn.message for turn in target.prompt)
    demonstration = target.demonstration
    used = {*columns.model_dump().values(), *form.prompt, *form.consumed}
    if not _has_target(record, columns):
        used.discard(columns.target)
    example = Example(
        id=example_id(record, columns, stem),
        messages=messages,
        demonstration=None if demonstration is None else demonstration.as_text(),
        privileged_context=_privileged(column(values, columns.privileged_context), columns.privileged_context, where),
        plan=_privileged(column(values, columns.plan), columns.plan, where),
        solution=_lines(column(values, columns.solution), columns.solution, where),
        actions=_lines(column(values, columns.actions), columns.actions, where),
        translation=_translation(column(values, columns.translation), columns.translation, messages, where),
        tools=None if rendered is not None else _tools(record, columns),
        rendered_prompt=rendered,
        demonstration_message=(
            demonstration.message if demonstration is not None and "tool_calls" in demonstration.message else None
        ),
        trained_turns=target.trained,
        **_forced(record, columns),
        answer=column(values, columns.answer),
        metadata={name: value for name, value in values.items() if name not in used},
    )
    for name, value in (
        (columns.id, example.id),
        (columns.prompt, example.messages),
        (columns.completion, example.demonstration_message),
        (columns.tools, example.tools),
        (columns.answer, example.answer),
    ):
        refuse_no_value(value, name, where)
    return example


def _has_target(record: Record, columns: Columns) -> bool:
    """Whether the record says what has to follow the beginning of a right answer.

    Many datasets have a column called `target` that means something else. So that name counts only beside a beginning.
    """
    return column(record.values, columns.gen_prefix) is not None or columns.target != Columns().target


def _forced(record: Record, columns: Columns) -> dict[str, str]:
    """The beginning of a right answer and what has to follow it, as far as the record has them."""
    values, where = record.values, record.where
    prefix = column(values, columns.gen_prefix)
    target = column(values, columns.target) if _has_target(record, columns) else None
    if target is None:
        if prefix is None:
            return {}
        what = f"`{columns.gen_prefix}` begins an answer, and `{columns.target}` does not say what has to follow"
        raise DataError(what, where=where, fix=f"fill in `{columns.target}`, or remove `{columns.gen_prefix}`")
    forced = {"target": text(target, columns.target, where)}
    if prefix is not None:
        forced["gen_prefix"] = text(prefix, columns.gen_prefix, where, may_be_empty=True)
    return forced


def _rendered(record: Record, columns: Columns) -> str | None:
    value = column(record.values, columns.rendered_prompt)
    if value is None:
        return None
    rendered = text(value, columns.rendered_prompt, record.where)
    if column(record.values, columns.system) not in (None, ""):
        what = f"the record has both a `{columns.rendered_prompt}` and a `{columns.system}` column"
        raise DataError(what, where=record.where, fix="keep one of them")
    return rendered


def _after_rendered(rendered: str, record: Record, columns: Columns) -> SplitConversation:
    prompt = (Turn(Message(role="user", content=rendered)),)
    completion = _completion(record, columns)
    if len(completion) > 1:
        what = f"`{columns.completion}` has several turns, and the prompt is rendered already"
        raise DataError(what, where=record.where, fix="render the earlier turns too")
    return of_columns(prompt, completion, "last", (columns.rendered_prompt, columns.completion), record.where)


def _target(record: Record, columns: Columns, reading: Reading) -> SplitConversation:
    values, where = record.values, record.where
    completion = _completion(record, columns)
    if reading.prompt_template is not None and not completion and column(values, columns.messages) is not None:
        what = f"`prompt_template` writes the prompt, and `{columns.messages}` has one with its answer"
        raise DataError(what, where=where, fix="remove it, or name the answer with `columns: {completion: …}`")
    name = _prompt_column(record, columns, reading, bool(completion))
    said = unpacked(column(values, name), name, where)
    if name == columns.messages != columns.prompt and isinstance(said, str):
        fix = f"write turns with `role` and `content`, or name it as a prompt: `columns: {{prompt: {name}}}`"
        raise DataError(f"`{name}` is text, not a list of turns", where=where, fix=fix)
    turns = conversation(said, name, where, filled=record.filled)
    turns = _with_system(turns, column(values, columns.system), columns.system, where)
    if name == columns.messages and not completion:
        return of_conversation(turns, reading.train_on, name, where)
    return of_columns(turns, completion, reading.train_on, (name, columns.completion), where)


def _prompt_column(record: Record, columns: Columns, reading: Reading, has_completion: bool) -> str:
    """The column of the conversation: the prompt's, or that of whole conversations if it says more.

    Some datasets have the first prompt beside the conversation. A prompt that the user names, or writes with a
    template, is meant.
    """
    values = record.values
    has_prompt, has_messages = (column(values, name) is not None for name in (columns.prompt, columns.messages))
    named = columns.prompt != Columns().prompt and columns.messages == Columns().messages
    if has_messages and not (has_prompt and (has_completion or named)) and reading.prompt_template is None:
        return columns.messages
    for name in (columns.prompt, columns.messages):
        if has_column(values, name):
            return name
    raise missing_column(columns.prompt, values, record.where)


def _completion(record: Record, columns: Columns) -> tuple[Turn, ...]:
    where = record.where
    value = unpacked(column(record.values, columns.completion), columns.completion, where)
    thoughts = column(record.values, columns.reasoning_content)
    if isinstance(thoughts, list) and len(thoughts) == 1:  # datasets of thoughts have a list per question
        (thoughts,) = thoughts
    if thoughts is not None:
        thoughts = text(thoughts, columns.reasoning_content, where, may_be_empty=True).strip() or None
    if thoughts is not None and not isinstance(value, str):
        what = f"`{columns.reasoning_content}` is a column, and the record has no answer of text that it belongs to"
        fix = "put the thoughts into the assistant's turn, or do not read them: `columns: {reasoning_content: ''}`"
        raise DataError(what, where=where, fix=fix)
    if value is None:
        return ()
    if not isinstance(value, str):
        return conversation(value, columns.completion, where, filled=record.filled)
    return (assistant_text(value, thoughts, columns.completion, where),)


def _tools(record: Record, columns: Columns) -> tuple[Mapping[str, Any], ...] | None:
    named = has_column(record.values, columns.tools) or columns.tools != Columns().tools
    name = columns.tools if named else FUNCTIONS
    value = column(record.values, name)
    if not named and not (isinstance(value, list) and all(isinstance(item, Mapping) for item in value)):
        return None
    return tools_of(value, name, record.where, filled=record.filled)


def _privileged(value: Any, name: str, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else text(value, name, where)
    return "\n".join(turn.message["content"] for turn in conversation(value, name, where))


def _lines(value: Any, name: str, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = [line for line in text(value, name, where).splitlines() if line.strip()]
    if not isinstance(value, list) or not value:
        raise DataError(f"`{name}` is {kind(value)}", where=where, fix="write a list of steps, or one step per line")
    return tuple(text(step, f"{name}[{index}]", where) for index, step in enumerate(value))


def _translation(value: Any, name: str, messages: tuple[Message, ...], where: str) -> tuple[Message, ...] | None:
    """The translated conversation. If only text is given, the system message and earlier turns stay as they are."""
    if value is None:
        return None
    if isinstance(value, str):
        return (*messages[:-1], Message(role="user", content=text(value, name, where)))
    turns = conversation(value, name, where)
    if turns[-1].role != "user":
        raise DataError(f"`{name}` does not end with a user turn", where=where, fix="remove the answer from it")
    return tuple(turn.message for turn in turns)


def _with_system(turns: tuple[Turn, ...], value: Any, name: str, where: str) -> tuple[Turn, ...]:
    if value is None or value == "":
        return turns
    if turns[0].role == "system":
        if turns[0].message["content"] in ("", value):
            return (Turn(Message(role="system", content=text(value, name, where))), *turns[1:])
        what = f"the record has both a system turn in its prompt and a `{name}` column"
        raise DataError(what, where=where, fix="keep one of them")
    return (Turn(Message(role="system", content=text(value, name, where))), *turns)


def example_id(record: Record, columns: Columns, stem: str) -> str:
    """The id of a record's example: its own, or the name of its file or split and its number.

    Raises:
        DataError: its own is neither text nor an integer.
    """
    value, name, where = column(record.values, columns.id), columns.id, record.where
    if value is None:
        return f"{stem}-{record.number}"
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        what = "blank" if isinstance(value, str) else kind(value)
        raise DataError(f"`{name}` is {what}", where=where, fix="write text or an integer")
    return str(value)

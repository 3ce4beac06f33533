"""The forms in which records are found: which form a file has, and its columns under holdfast's names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.config.settings import Columns
from holdfast.errors import DataError
from holdfast.tasks.readers.record import Record, has_column, text

FUNCTIONS = "functions"
"""OpenAI's older column for tools."""

ALPACA_PROMPT = ("instruction", "input", "history")
SHAREGPT = ("conversations", "conversation")
VERL_ANSWER = "reward_model.ground_truth"
VERL_LABELS = ("data_source", "ability", "reward_model", "extra_info")
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
"""Columns of what is not text."""


@dataclass(frozen=True)
class Form:
    """One form of records.

    Args:
        fits: whether a set has it. It gets the first value of each column that any record has.
        adapt: a record, and the names of its columns in this form.
        prompt: columns that it writes the prompt from. A prompt template replaces it.
        consumed: other columns that it reads besides those of `columns`.
        labels: columns that it knows and leaves to the verifier.
    """

    fits: Callable[[Columns, Mapping[str, Any]], bool]
    adapt: Callable[[Record, Columns], tuple[Record, Columns]]
    prompt: tuple[str, ...] = ()
    consumed: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


def form_of(records: Sequence[Record], columns: Columns, reader: str) -> Form:
    """The form of a set: the one that is named, or with `auto` the first that fits; else TRL's columns.

    Raises:
        DataError: the set has a form that nothing can be learned from as it is, such as preference data.
    """
    first: dict[str, Any] = {}
    for name, value in (item for record in records for item in record.values.items()):
        if first.get(name) is None:
            first[name] = value
    _refuse_preferences(first, records, columns)
    if reader != "auto":
        return FORMS[reader]
    return next((form for form in FORMS.values() if form.fits(columns, first)), FORMS["records"])


def refuse_media(record: Record, columns: Columns) -> None:
    """Refuse a record with images, sound or video, because the model would be trained without them.

    Raises:
        DataError: it has some.
    """
    read = set(columns.model_dump().values())
    for name in MEDIA:
        if name not in read and record.values.get(name) not in (None, "", []):
            raise DataError(
                f"it has `{name}`, and models are trained on text only",
                where=record.where,
                fix="remove the record, or the column if the text does not need it",
            )


def _refuse_preferences(first: Mapping[str, Any], records: Sequence[Record], columns: Columns) -> None:
    read = set(columns.model_dump().values())
    for pair in (("chosen", "rejected"), ("preferred_output", "non_preferred_output"), ("completions", "labels")):
        if all(name in first for name in pair) and not read & set(pair):
            what = f"has preferences (`{pair[0]}`, `{pair[1]}`), and no recipe learns from them"
            fix = "remove these columns"
            if pair[0] == "chosen":
                fix = f"to imitate the chosen answers, {_imitate(first, columns)}"
            raise DataError(what, where=records[0].where, fix=fix)
    labels = [record.values.get("label") for record in records]
    if "label" not in read and columns.completion in first and all(isinstance(label, bool) for label in labels):
        raise DataError(
            "has good and bad completions (`label`), and no recipe learns from the bad ones",
            where=records[0].where,
            fix="keep the records whose `label` is true, and remove the column",
        )


def _imitate(first: Mapping[str, Any], columns: Columns) -> str:
    """How to learn from the chosen answers alone."""
    turns = first["chosen"]
    if isinstance(turns, list) and any(isinstance(turn, Mapping) and turn.get("role") == "user" for turn in turns):
        return "write `columns: {messages: chosen}`"
    if has_column(first, columns.prompt):
        return "write `columns: {completion: chosen}`"
    return "split `chosen` into a `prompt` and a `completion`, and remove `rejected`"


def _same(record: Record, columns: Columns) -> tuple[Record, Columns]:
    return record, columns


def _from_alpaca(record: Record, columns: Columns) -> tuple[Record, Columns]:
    """`input` follows the instruction after an empty line. `history` holds earlier pairs of question and answer."""
    values = dict(record.values)
    instruction = text(values.get("instruction"), "instruction", record.where)
    given = values.get("input")
    if given is not None and given != "":
        instruction = f"{instruction}\n\n{text(given, 'input', record.where, may_be_empty=True)}".strip()
    history = values.get("history")
    if history:
        values[columns.prompt] = [*_history(history, record.where), {"role": "user", "content": instruction}]
    else:
        values[columns.prompt] = instruction
    named = columns.completion != Columns().completion
    return replace(record, values=values), columns if named else columns.model_copy(update={"completion": "output"})


def _history(history: Any, where: str) -> list[dict[str, str]]:
    pairs = history if isinstance(history, list) else [history]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise DataError("`history` is not a list of pairs", where=where, fix='write [["question", "answer"], …]')
    roles = ("user", "assistant")
    return [{"role": role, "content": said} for pair in pairs for role, said in zip(roles, pair, strict=True)]


def _from_sharegpt(record: Record, columns: Columns) -> tuple[Record, Columns]:
    found = next((name for name in SHAREGPT if name in record.values), None)
    named = columns.messages != Columns().messages
    return record, columns if named or found is None else columns.model_copy(update={"messages": found})


def _from_verl(record: Record, columns: Columns) -> tuple[Record, Columns]:
    named = columns.answer != Columns().answer
    return record, columns if named else columns.model_copy(update={"answer": VERL_ANSWER})


def _has_conversation(columns: Columns, first: Mapping[str, Any]) -> bool:
    return any(has_column(first, name) for name in (columns.prompt, columns.rendered_prompt, columns.messages))


FORMS: Mapping[str, Form] = {
    "verl": Form(
        lambda columns, first: (
            _has_conversation(columns, first)
            and columns.answer not in first
            and columns.answer == Columns().answer
            and has_column(first, VERL_ANSWER)
        ),
        _from_verl,
        labels=VERL_LABELS,
    ),
    "records": Form(_has_conversation, _same),
    "sharegpt": Form(lambda columns, first: any(name in first for name in SHAREGPT), _from_sharegpt, consumed=SHAREGPT),
    "alpaca": Form(
        lambda columns, first: "instruction" in first and "output" in first and columns.completion not in first,
        _from_alpaca,
        ALPACA_PROMPT,
        ("output",),
    ),
}
"""All forms by the name of their reader, in the order in which `auto` tries them."""

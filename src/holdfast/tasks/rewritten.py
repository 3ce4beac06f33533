"""Training data with other demonstrations, in the form in which it was read: same records, same columns."""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holdfast.config.settings import TaskSettings
from holdfast.data.example import Example
from holdfast.errors import ConfigError, DataError
from holdfast.tasks.files import FaultyRecord, Reading, Record, read_dataset, read_file, records_to_examples
from holdfast.tasks.load import PUBLISHED
from holdfast.tasks.readers.examples import example_id, stem_of


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The records of a training file or split that could be read, each with its example."""

    records: Sequence[Record]
    examples: Sequence[Example]
    settings: TaskSettings
    where: str

    def with_demonstrations(self, texts: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """All records, in order, some of them with another demonstration.

        Args:
            texts: by the id of the example.

        Raises:
            DataError: a record's form has no place for another demonstration.
        """
        changed = list(self.records)
        places = {
            row: _places(record, example, self.settings)
            for row, (record, example) in enumerate(zip(self.records, self.examples, strict=True))
            if example.id in texts
        }
        wanted = [replace(each, demonstration=texts.get(each.id, each.demonstration)) for each in self.examples]
        # Forms differ in where they keep an answer, so what was written is read again. The same text may stand in a
        # record more than once, so the next place is tried where the first was another's.
        left = list(places)
        while left:
            for row in left:
                if not places[row]:
                    raise DataError(
                        "its form has no place for another demonstration",
                        where=self.records[row].where,
                        fix="write the records with the columns `prompt` and `completion`",
                    )
                values = _with_text(self.records[row], places[row].pop(0), wanted[row].demonstration, self.settings)
                changed[row] = replace(self.records[row], values=values)
            again = records_to_examples(changed, self.settings.columns, self.where, _reading(self.settings))
            left = [row for row in left if again[row] != wanted[row]]
        return [record.values for record in changed]


def training_data(settings: TaskSettings) -> TrainingData:
    """The training records of a task.

    Raises:
        ConfigError: the task has no records of its own: it is the lab's, a generator's, or a published one.
        DataError: they cannot be read.
    """
    if settings.train is None or settings.is_code or settings.reader in PUBLISHED:
        raise ConfigError(
            f"task {settings.name!r} has no file of demonstrations to write again",
            fix="use the recipe rewrite_sft, which rewrites them within a run",
        )
    found: Sequence[Record | FaultyRecord]
    if settings.dataset is not None:
        found, where = read_dataset(settings.dataset, settings.train, settings.subset), settings.train
        examples = records_to_examples(found, settings.columns, f"{settings.dataset}/{where}", _reading(settings))
    else:
        found, where = read_file(Path(settings.train), "train"), settings.train
        examples = records_to_examples(found, settings.columns, where, _reading(settings))
    return TrainingData(_read(found, examples, settings, where), examples, settings, where)


def as_json_lines(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as JSON Lines. What JSON does not know, such as a date of a Parquet file, becomes text."""
    return "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records)


def _reading(settings: TaskSettings) -> Reading:
    return Reading(settings.reader, settings.prompt_template, settings.train_on, settings.bad_records)


def _read(
    found: Sequence[Record | FaultyRecord], examples: Sequence[Example], settings: TaskSettings, where: str
) -> list[Record]:
    """The records that became examples: faulty ones may have been dropped."""
    records: list[Record] = []
    for each in found:
        if isinstance(each, Record) and len(records) < len(examples):
            name = example_id(each, settings.columns, stem_of(where))
            if name == examples[len(records)].id:
                records.append(each)
    if len(records) < len(examples):
        raise DataError("its records cannot be told apart", where=where, fix="give every record an `id`")
    return records


_Place = tuple[Any, ...]
"""Keys and numbers that lead to a value of a record."""


def _places(record: Record, example: Example, settings: TaskSettings) -> list[_Place]:
    """Where the demonstration may stand: in its own column, else in any text that is the same, the last ones first."""
    same = [
        place for place, text in _texts(dict(record.values)) if text.strip() == (example.demonstration or "").strip()
    ]
    own = (settings.columns.completion,)
    return [own] * (own[0] in record.values) + [place for place in reversed(same) if place != own]


def _with_text(record: Record, place: _Place, text: str | None, settings: TaskSettings) -> dict[str, Any]:
    """The values of a record with a text at a place."""
    values: dict[str, Any] = deepcopy(dict(record.values))
    *folders, last = place
    inner: Any = values
    for part in folders:
        inner = inner[part]
    if isinstance(inner[last], list):  # a turn of the assistant
        inner[last] = [{"role": "assistant", "content": text}]
    else:
        inner[last] = text
    if settings.columns.reasoning_content in values:  # the text has its thoughts with it
        values[settings.columns.reasoning_content] = None
    return values


def _texts(value: Any, path: _Place = ()) -> Iterator[tuple[_Place, str]]:
    """All texts of a record with the keys and places that lead to them, in order."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _texts(inner, (*path, place))

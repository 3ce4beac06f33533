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
        changed = [
            replace(record, values=_with_text(record, example, texts[example.id], self.settings))
            if example.id in texts
            else record
            for record, example in zip(self.records, self.examples, strict=True)
        ]
        # Forms differ in where they keep an answer, so what was written is read again.
        again = records_to_examples(changed, self.settings.columns, self.where, _reading(self.settings))
        for record, before, now in zip(changed, self.examples, again, strict=True):
            wanted = before if before.id not in texts else replace(before, demonstration=texts[before.id])
            if now != wanted:
                raise DataError(
                    "its form has no place for another demonstration",
                    where=record.where,
                    fix="write the records with the columns `prompt` and `completion`",
                )
        return [record.values for record in changed]


def training_data(settings: TaskSettings) -> TrainingData:
    """The training records of a task.

    Raises:
        ConfigError: the task has no records of its own: it is the lab's, a generator's, or a published one.
        DataError: they cannot be read.
    """
    if settings.train is None or settings.reader in PUBLISHED:
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


def _with_text(record: Record, example: Example, text: str, settings: TaskSettings) -> Mapping[str, Any]:
    """A record with another demonstration: in place of the last text that is the present one, wherever it stands."""
    values: Any = deepcopy(dict(record.values))
    places = [path for path, leaf in _texts(values) if leaf.strip() == (example.demonstration or "").strip()]
    if places:
        *folders, last = places[-1]
        inner = values
        for part in folders:
            inner = inner[part]
        inner[last] = text
        return dict(values)
    # Its thoughts have a column of their own, so text and thoughts are written together.
    values[settings.columns.completion] = text
    if settings.columns.reasoning_content in values:
        values[settings.columns.reasoning_content] = None
    return dict(values)


def _texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """All texts of a record with the keys and places that lead to them, in order."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _texts(inner, (*path, place))

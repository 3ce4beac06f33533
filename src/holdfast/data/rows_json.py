"""Rows as plain data, so that a checkpoint can hold a rollout batch that has optimizer steps left. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import Any

from holdfast.data.example import Example, Verdict
from holdfast.data.rows import Row
from holdfast.errors import RunError

JSON_KEYS = {"teacher_prefix": "teacher_beginning"}
"""Fields whose JSON key is their name of an earlier version, so that checkpoints of all versions have the same keys."""


def rows_as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """All fields of rows as plain data. Of an example only the id is kept."""
    return [
        {JSON_KEYS.get(field.name, field.name): getattr(row, field.name) for field in fields(row)}
        | {
            "example": row.example.id,
            "verdict": None if row.verdict is None else asdict(row.verdict),
            "teacher_messages": None if row.teacher_messages is None else [dict(m) for m in row.teacher_messages],
        }
        for row in rows
    ]


def rows_from_json(
    data: Sequence[Mapping[str, Any]],
    examples: Sequence[Example],
    earlier: Mapping[str, Sequence[Example]] = MappingProxyType({}),
) -> list[Row]:
    """The rows that `rows_as_json` turned into plain data.

    Args:
        data: what `rows_as_json` gave.
        examples: the training examples of the stage's task.
        earlier: the training examples of earlier tasks by the task's name, for replayed rows.

    Raises:
        RunError: an example is missing.
    """
    by_id = {example.id: example for example in examples}
    # An id names an example within its task only.
    earlier_by_id = {task: {example.id: example for example in those} for task, those in earlier.items()}
    names = {key: name for name, key in JSON_KEYS.items()}
    rows = []
    for each in data:
        known = earlier_by_id.get(each.get("replayed_task", ""), {}) if each.get("replayed") else by_id
        if each["example"] not in known:
            raise RunError(
                f"the training example {each['example']!r} is missing", fix="restore the training data of the run"
            )
        values = {names.get(key, key): value for key, value in each.items()}
        verdict = None if each["verdict"] is None else Verdict(**each["verdict"])
        rows.append(Row(**{**values, "example": known[each["example"]], "verdict": verdict}))
    return rows

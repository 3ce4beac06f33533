"""Rows as plain data, so that a checkpoint can hold a rollout batch that has optimizer steps left. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from holdfast.data.example import Example, Verdict
from holdfast.data.rows import Row
from holdfast.errors import RunError


def rows_as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Everything of rows as plain data; of their examples the ids."""
    return [
        {field.name: getattr(row, field.name) for field in fields(row)}
        | {
            "example": row.example.id,
            "verdict": None if row.verdict is None else asdict(row.verdict),
            "teacher_messages": None if row.teacher_messages is None else [dict(m) for m in row.teacher_messages],
        }
        for row in rows
    ]


def rows_from_json(
    data: Sequence[Mapping[str, Any]], examples: Sequence[Example], earlier: Sequence[Example] = ()
) -> list[Row]:
    """The rows that `rows_as_json` made plain data of.

    Args:
        examples: the training examples of their task.
        earlier: those of earlier tasks, which replayed rows are of.

    Raises:
        RunError: an example is not there.
    """
    own, old = ({example.id: example for example in those} for those in (examples, earlier))
    rows = []
    for each in data:
        known = old if each.get("replayed") else own
        if each["example"] not in known:
            raise RunError(f"the training example {each['example']!r} is gone", fix="put the data back")
        verdict = None if each["verdict"] is None else Verdict(**each["verdict"])
        rows.append(Row(**{**each, "example": known[each["example"]], "verdict": verdict}))
    return rows

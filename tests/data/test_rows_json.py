"""`holdfast.data.rows_json`: rows survive a checkpoint, and checkpoints of earlier versions can be read."""

import json

import pytest

from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Row
from holdfast.data.rows_json import rows_as_json, rows_from_json
from holdfast.errors import RunError

EXAMPLE = Example("e", (Message(role="user", content="What is 2 plus 2?"),))
ROW = Row(
    EXAMPLE,
    [1, 2],
    [3, 4],
    "4",
    sampled_logprobs=[-0.5, -0.1],
    verdict=Verdict(1.0, answer="4"),
    div=1.0,
    teacher_messages=EXAMPLE.messages,
    teacher_prefix="Wait.",
)


def test_rows_are_the_same_after_a_checkpoint() -> None:
    saved = json.loads(json.dumps(rows_as_json([ROW])))
    (row,) = rows_from_json(saved, [EXAMPLE])
    assert row.teacher_messages == list(EXAMPLE.messages)
    row.teacher_messages = ROW.teacher_messages
    assert row == ROW


def test_the_keys_are_those_of_earlier_versions() -> None:
    (saved,) = rows_as_json([ROW])
    assert saved["teacher_beginning"] == "Wait."
    assert "teacher_prefix" not in saved


def test_replayed_rows_are_looked_up_among_earlier_examples() -> None:
    first, second = (Example("e", (Message(role="user", content=f"An earlier question, {i}"),)) for i in range(2))
    saved = [{**each, "replayed": True, "replayed_task": "first"} for each in rows_as_json([ROW])]
    earlier = {"first": [first], "second": [second]}
    assert rows_from_json(saved, [EXAMPLE], earlier)[0].example is first, "an id names an example of its task only"
    with pytest.raises(RunError, match="the training example 'e' is missing"):
        rows_from_json(saved, [EXAMPLE])

"""`holdfast.tasks.readers.examples`: the page on forms of data says how records are read."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from holdfast.config.settings import Columns
from holdfast.data.thoughts import THOUGHT_KEYS
from holdfast.errors import DataError
from holdfast.tasks.readers.examples import records_to_examples
from holdfast.tasks.readers.record import Record
from holdfast.tasks.readers.turns import ROLES
from holdfast.tasks.readers.weights import MASKED_KEY, TRAINED_KEYS
from wild_records import example

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"^```text\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]


@pytest.mark.parametrize("line", LINES)
def test_every_record_of_the_page_is_read(line: str):
    e = example(json.loads(line))
    if "prompt" in json.loads(line):
        assert e.messages[-1]["content"] == "1 + 1?"
    assert e.demonstration in ("2", "It is 2.", "18 degrees.", "4", None)
    assert (e.demonstration is None) == (not any(word in line for word in ("completion", "assistant", "gpt", "output")))


def test_the_page_names_every_key_that_is_read():
    assert len(LINES) > 10
    for key in (*THOUGHT_KEYS, *TRAINED_KEYS, MASKED_KEY, *ROLES):
        assert f"`{key}`" in PAGE, key


@pytest.mark.parametrize(
    ("record", "columns", "found"),
    [
        ({"gen_prefix": "It is", "target": " 2"}, {}, ("It is", " 2")),
        ({"gen_prefix": "", "target": "2"}, {}, ("", "2")),
        ({"begun": "It is", "next": " 2"}, {"gen_prefix": "begun", "target": "next"}, ("It is", " 2")),
        ({"next": "2"}, {"target": "next"}, (None, "2")),
        ({"target": "a label of something else"}, {}, (None, None)),
        ({"target": 3}, {}, (None, None)),
        ({}, {}, (None, None)),
    ],
)
def test_the_beginning_of_a_right_answer_and_what_follows(
    record: dict[str, Any], columns: dict[str, str], found: tuple[str | None, str | None]
) -> None:
    (e,) = records_to_examples([Record({"prompt": "1 + 1?", **record}, 1, "here")], Columns(**columns), "here")
    assert (e.gen_prefix, e.target) == found
    # A column that is not read is metadata, which a verifier may read.
    assert e.metadata == ({} if found != (None, None) else record)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"gen_prefix": "It is"}, "`gen_prefix` begins an answer, and `target` does not say what has to follow"),
        ({"gen_prefix": "It is", "target": " "}, "`target` is empty"),
        ({"gen_prefix": "It is", "target": 2}, "`target` is a number, not text"),
        ({"gen_prefix": 1, "target": "2"}, "`gen_prefix` is a number, not text"),
    ],
)
def test_a_beginning_without_what_follows_is_refused(record: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        records_to_examples([Record({"prompt": "1 + 1?", **record}, 1, "here")], Columns(), "here")

"""`holdfast.tasks.readers.examples`: the page on forms of data says how records are read."""

import json
import re
from pathlib import Path

import pytest

from holdfast.data.thoughts import THOUGHT_KEYS
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

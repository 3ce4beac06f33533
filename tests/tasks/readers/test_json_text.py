"""`holdfast.tasks.readers.json_text`: JSON that means two things is refused, however large it is."""

import json

import pytest

from holdfast.errors import DataError
from holdfast.tasks.readers.json_text import parse_json


def test_a_repeated_key_is_found_among_many() -> None:
    """To count each key on its own would take tens of billions of steps."""
    keys = [*(f"key {number}" for number in range(200_000)), "last", "last"]
    text = "{" + ", ".join(f"{json.dumps(key)}: 1" for key in keys) + "}"
    with pytest.raises(DataError, match="an object has the key 'last' twice"):
        parse_json(text, "here")
    assert len(parse_json(text.replace('"last": 1, ', ""), "here")) == 200_001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "NaN is no JSON"),
        ("[-Infinity]", "-Infinity is no JSON"),
        pytest.param("9" * 5000, "write a number of so many digits as text", id="long"),
        pytest.param("[" * 9999, "nested too deep", id="deep"),
        ("", "is not valid JSON"),
    ],
)
def test_what_readers_take_in_different_ways_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=f"here: .*{message}"):
        parse_json(text, "here")

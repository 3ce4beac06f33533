"""`holdfast.tasks.readers.thoughts`: each spelling of thoughts has one reading."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.thoughts import THOUGHT_KEYS, normal_form
from holdfast.errors import DataError
from holdfast.tasks.readers.thoughts import split_thoughts
from wild_records import example, turn

NORMAL = "<think>\nhm\n</think>\n\nred 7"


@pytest.mark.parametrize(
    "text",
    [
        NORMAL,
        "<think>hm</think>red 7",
        "<think>\nhm\n</think>\nred 7",
        "  <think> hm </think>  red 7",
        "hm</think>red 7",
        "\nhm\n</think>\n\nred 7",
    ],
)
def test_thoughts_in_the_text_get_the_normal_form(text: str):
    assert example({"prompt": "q", "completion": text}).demonstration == NORMAL
    assert example({"prompt": "q", "completion": [turn("assistant", text)]}).demonstration == NORMAL
    assert example({"messages": [turn("user", "q"), turn("assistant", text)]}).demonstration == NORMAL


@pytest.mark.parametrize("key", THOUGHT_KEYS)
@pytest.mark.parametrize("thoughts", ["hm", "\nhm\n"])
@pytest.mark.parametrize("content", ["red 7", "\n\nred 7", NORMAL])
def test_thoughts_under_a_key_come_first(key: str, thoughts: str, content: str):
    answer = turn("assistant", content, **{key: thoughts})
    assert example({"messages": [turn("user", "q"), answer]}).demonstration == NORMAL
    assert example({"prompt": "q", "completion": [answer]}).demonstration == NORMAL


def test_thoughts_in_a_column_of_their_own_come_before_the_completion():
    record = {"prompt": "q", "completion": "red 7", "reasoning_content": "hm", "cot": "ha"}
    assert example(record).demonstration == NORMAL
    other = example(record, {"reasoning_content": "cot"})
    assert other.demonstration == NORMAL.replace("hm", "ha")
    assert "cot" not in other.metadata


@pytest.mark.parametrize("kind", ["thinking", "reasoning"])
def test_thoughts_among_the_parts_of_a_content_come_first(kind: str):
    thought = {"type": kind, "thinking" if kind == "thinking" else "text": "hm"}
    answer = turn("assistant", [thought, {"type": "text", "text": "red 7"}])
    assert example({"messages": [turn("user", "q"), answer]}).demonstration == NORMAL


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<think>\n\n</think>\n\nred 7", "<think>\n\n</think>\n\nred 7"),
        ("write <think> for a thought", "write <think> for a thought"),
        ("<thinking>hm</thinking>red 7", "<thinking>hm</thinking>red 7"),
        ("<think>hm</think>\n    indented", "<think>\nhm\n</think>\n\n    indented"),
        ("red 7\n", "red 7\n"),
    ],
)
def test_what_else_has_tags_has_one_reading(text: str, kept: str):
    assert example({"prompt": "q", "completion": text}).demonstration == kept


@pytest.mark.parametrize("empty", [None, ""])
@pytest.mark.parametrize("key", THOUGHT_KEYS)
def test_empty_thoughts_under_a_key_are_none(key: str, empty: Any):
    answer = turn("assistant", "red 7", **{key: empty})
    assert example({"messages": [turn("user", "q"), answer]}).demonstration == "red 7"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (turn("assistant", "<think>hm"), "never closes them, so it has no answer"),
        (turn("assistant", "\n<think>\nhm\nred 7"), "never closes them, so it has no answer"),
        (turn("assistant", "<think>hm</think>"), "is empty"),
        (turn("assistant", "hm</think>\n \n"), "is empty"),
        (turn("assistant", "<think>a</think>x<think>b</think>y"), "not before its answer"),
        (turn("assistant", "x <think>b</think> y"), "not before its answer"),
        (turn("assistant", "a</think>b</think>c"), "not before its answer"),
        (turn("assistant", "x", reasoning="a", thinking="b"), "different thoughts in `reasoning` and `thinking`"),
        (turn("assistant", "<think>a</think>x", reasoning="b"), "other thoughts in its text"),
        (turn("assistant", "x", reasoning=["a"]), "`messages\\[1\\].reasoning` is a list, not text"),
        (turn("assistant", "", reasoning="a"), "is empty"),
    ],
)
def test_thoughts_without_one_reading_are_refused(answer: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message) as error:
        example({"messages": [turn("user", "q"), answer]})
    assert str(error.value).startswith("d.jsonl:3: ")


def test_earlier_turns_keep_their_thoughts_where_they_are():
    turns = [
        turn("user", "q"),
        turn("assistant", "a", reasoning="r"),
        turn("user", "q"),
        turn("assistant", "<think>\nr\n</think>\n\na"),
        turn("user", "q"),
    ]
    messages = example({"prompt": turns}).messages
    assert messages[1] == {"role": "assistant", "content": "a", "reasoning_content": "r"}
    assert messages[3] == {"role": "assistant", "content": "<think>\nr\n</think>\n\na"}


PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>"), min_size=1, max_size=20)


@given(PLAIN.map(str.strip).filter(bool), PLAIN.map(str.strip).filter(bool))
def test_the_normal_form_is_read_back(thoughts: str, answer: str):
    assert split_thoughts(normal_form(thoughts, answer), "x", "") == (thoughts, answer)
    assert split_thoughts(answer, "x", "") == (None, answer)

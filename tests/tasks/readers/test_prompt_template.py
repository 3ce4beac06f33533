"""`holdfast.tasks.readers.prompt_template`: a template writes the prompt from columns."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigError, DataError
from holdfast.tasks.readers.prompt_template import template_columns, write_prompt
from wild_records import example, turn


def prompt(template: str, values: dict[str, Any], columns: dict[str, str] | None = None) -> str:
    e = example(values, columns, prompt_template=template)
    (message,) = e.messages
    return message["content"]


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("{a}\n\n{b}", {"a": "x", "b": "y"}, "x\n\ny"),
        ("{a}\n\n{b}", {"a": "x", "b": ""}, "x"),
        ("{a}\n\n{b}", {"a": "x", "b": None}, "x"),
        ("{a} {a}", {"a": "{b} {{b}} {0}", "b": "y"}, "{b} {{b}} {0} {b} {{b}} {0}"),
        ("{n} {f} {t}", {"n": 3, "f": 0.5, "t": True}, "3 0.5 true"),
        ("{q.text}", {"q": {"text": "x"}}, "x"),
        ("{Complex CoT}", {"Complex CoT": "x"}, "x"),
        ("{{a}} {a}", {"a": "x"}, "{a} x"),
        ('Answer as {"a": {"b": 1}}: {a}', {"a": "x"}, 'Answer as {"a": {"b": 1}}: x'),
        ("Q: {prompt}", {"prompt": "x"}, "Q: x"),
    ],
)
def test_a_template_writes_the_prompt(template: str, values: dict[str, Any], expected: str):
    assert prompt(template, values) == expected


def test_the_template_goes_before_the_forms_own_prompt():
    record = {"instruction": "q", "input": "i", "output": "a"}
    e = example(record, prompt_template="{input} | {instruction}")
    assert (e.messages[0]["content"], e.demonstration) == ("i | q", "a")
    e = example({"a": "q", "b": "r"}, {"completion": "b"}, prompt_template="{a}")
    assert (e.messages[0]["content"], e.demonstration) == ("q", "r")


@pytest.mark.parametrize(
    ("template", "values", "kind", "message"),
    [
        ("{instructoin}", {"instruction": "x"}, ConfigError, "'instructoin', which no record has .*mean 'instruction'"),
        ("{q.txet}", {"q": {"text": "x"}}, ConfigError, "'q.txet', which no record has .*mean 'q.text'"),
        ("Answer.", {"a": "x"}, ConfigError, "names no column"),
        ("{{a}}", {"a": "x"}, ConfigError, "names no column"),
        ("{a}", {"a": ["x"]}, DataError, "`a` is a list, and a template takes text"),
        ("{a}", {"a": ""}, DataError, "`prompt` is empty"),
    ],
)
def test_a_template_that_does_not_fit_is_refused(template: str, values: dict[str, Any], kind: type, message: str):
    with pytest.raises(kind, match=message):
        prompt(template, values)


def test_a_conversation_needs_no_template():
    with pytest.raises(DataError, match="`prompt_template` writes the prompt"):
        prompt("{note}", {"messages": [turn("user", "q"), turn("assistant", "a")], "note": "n"})


@given(st.dictionaries(st.sampled_from(["a", "b", "c d"]), st.text(), min_size=3))
def test_values_are_written_as_they_are(values: dict[str, str]):
    assert write_prompt("<{a}|{b}|{c d}>", values, "") == f"<{values['a']}|{values['b']}|{values['c d']}>"
    assert template_columns("<{a}|{b}|{c d}|{a}>") == ("a", "b", "c d")

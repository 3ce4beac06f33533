"""`holdfast.tasks.readers.tools`: tools, calls of tools and their results, as templates take them."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from holdfast.config.settings import Columns
from holdfast.errors import DataError
from holdfast.tasks.files import read_records, records_to_examples
from wild_records import call, example, said, tool, turn

WEATHER = tool("weather", city="string")
CALL = call("weather", {"city": "Rome"}, id="c1")
DIALOG = [
    turn("user", "Weather in Rome?"),
    turn("assistant", None, tool_calls=[CALL]),
    turn("tool", "18 °C", tool_call_id="c1", name="weather"),
    turn("assistant", "18 degrees."),
]


@pytest.mark.parametrize(
    "tools", [[WEATHER], json.dumps([WEATHER]), [json.dumps(WEATHER)], WEATHER, [WEATHER["function"]]]
)
def test_tools_are_kept(tools: Any):
    e = example({"messages": DIALOG, "tools": tools})
    assert e.tools == (WEATHER,)
    assert "tools" not in e.metadata


@pytest.mark.parametrize("tools", [None, [], "", "[]"])
def test_no_tools_are_none(tools: Any):
    assert example({"messages": DIALOG, "tools": tools}).tools is None


def test_calls_and_results_stand_in_the_prompt():
    e = example({"messages": DIALOG})
    assert e.messages[1] == {"role": "assistant", "content": "", "tool_calls": (CALL,)}
    assert e.messages[2] == {"role": "tool", "content": "18 °C", "tool_call_id": "c1", "name": "weather"}
    assert (e.demonstration, e.demonstration_message) == ("18 degrees.", None)


@pytest.mark.parametrize(
    "calls",
    [
        [CALL],
        [call("weather", '{"city": "Rome"}', id="c1")],
        json.dumps([CALL]),
        CALL,
        [{"name": "weather", "arguments": {"city": "Rome"}, "id": "c1"}],
        [{"id": "c1", "type": "function", "function": {"name": "weather", "parameters": {"city": "Rome"}}}],
    ],
)
def test_a_call_can_be_the_demonstration(calls: Any):
    e = example({"messages": [DIALOG[0], turn("assistant", "", tool_calls=calls)]})
    assert e.demonstration_message is not None
    (kept,) = e.demonstration_message["tool_calls"]
    assert kept["function"] == CALL["function"]
    assert e.demonstration == '{"name": "weather", "arguments": {"city": "Rome"}}'


def test_thoughts_and_text_beside_a_call_are_kept():
    answer = turn("assistant", "Let me see.", tool_calls=[CALL], reasoning="hm")
    e = example({"messages": [DIALOG[0], answer]})
    assert e.demonstration == "<think>\nhm\n</think>\n\nLet me see."
    assert e.demonstration_message == {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning_content": "hm",
        "tool_calls": (CALL,),
    }
    answer = turn("assistant", "<think>hm</think>", tool_calls=[CALL])
    assert example({"messages": [DIALOG[0], answer]}).demonstration == (
        '<think>\nhm\n</think>\n\n{"name": "weather", "arguments": {"city": "Rome"}}'
    )


def test_older_spellings_of_calls_and_results():
    old = [
        turn("user", "q"),
        turn("assistant", None, function_call={"name": "f", "arguments": "{}"}),
        turn("function", "1", name="f"),
        turn("assistant", "one"),
    ]
    messages = example({"messages": old}).messages
    assert messages[1]["tool_calls"] == (call("f", {}),)
    assert messages[2] == {"role": "tool", "content": "1", "name": "f"}
    sharegpt = [
        said("human", "q"),
        said("function_call", '{"name": "f", "arguments": {"x": 1}}'),
        said("observation", "1"),
        said("gpt", "one"),
    ]
    e = example({"conversations": sharegpt, "tools": json.dumps([{"name": "f", "description": "d", "parameters": {}}])})
    assert e.messages[1]["tool_calls"] == (call("f", {"x": 1}),)
    assert [m["role"] for m in e.messages] == ["user", "assistant", "tool"]
    assert e.tools is not None
    assert e.tools[0]["function"]["name"] == "f"


def test_functions_are_the_older_name_of_tools():
    e = example({"messages": DIALOG, "functions": [WEATHER["function"]]})
    assert e.tools == (WEATHER,)
    assert example({"messages": DIALOG, "functions": ["f", "g"]}).tools is None
    assert example({"messages": DIALOG, "functions": [WEATHER["function"]], "tools": None}).tools is None


def test_names_of_speakers_are_kept():
    turns = [
        turn("user", "q", name="Ann"),
        turn("assistant", "a", name="Bob"),
        turn("user", "r"),
        turn("assistant", "b"),
    ]
    assert [m.get("name") for m in example({"messages": turns}).messages] == ["Ann", "Bob", None]


def test_what_arrow_fills_in_is_removed_and_what_json_says_is_kept(tmp_path: Path):
    other = call("clock", {"zone": "UTC"}, id="c2")
    rows = [
        {
            "messages": [DIALOG[0], turn("assistant", None, tool_calls=[each])],
            "tools": [WEATHER, tool("clock", zone="string")],
        }
        for each in (CALL, other)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    examples = records_to_examples(read_records(tmp_path / "a.parquet"), Columns(), "a.parquet")
    assert [e.demonstration_message["tool_calls"] for e in examples] == [(CALL,), (other,)]  # type: ignore[index]
    assert examples[0].tools == tuple(rows[0]["tools"])
    null = call("f", {"x": None})
    e = example({"messages": [turn("user", "q"), turn("assistant", "", tool_calls=[null])]})
    assert e.demonstration == '{"name": "f", "arguments": {"x": null}}'


def test_a_prompt_may_end_with_a_result():
    assert example({"prompt": DIALOG[:3], "completion": "18 degrees."}).messages[-1]["role"] == "tool"
    assert example({"messages": DIALOG[:3]}).demonstration is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tools": "weather"}, "`tools` is text that is not JSON"),
        ({"tools": 3}, "`tools` is a number, not a list of tools"),
        ({"tools": [{"type": "web_search"}]}, r"`tools\[0\]` is not a tool with a name"),
        ({"tools": [3]}, r"`tools\[0\]` is not a tool with a name"),
        ({"calls": [call("f", "{x: 1}")]}, "arguments` is text that is not JSON"),
        ({"calls": [call("f", "[1]")]}, "arguments` is a list, not an object"),
        ({"calls": [{"function": {}}]}, "is not a call of a tool"),
        ({"calls": "f(x)"}, "`messages.1..tool_calls` is text that is not JSON"),
        ({"calls": 5}, "is a number, not a list of calls"),
        ({"user": turn("user", "q", tool_calls=[CALL])}, "only the assistant calls tools"),
        ({"turns": [said("human", "q"), said("function_call", "f(x)")]}, "text that is not JSON"),
    ],
)
def test_malformed_tools_and_calls_are_refused(values: dict[str, Any], message: str):
    turns = values.get("turns") or [
        values.get("user", turn("user", "q")),
        turn("assistant", None if "calls" in values else "a", tool_calls=values.get("calls")),
    ]
    with pytest.raises(DataError, match=message) as error:
        example({"messages": turns, "tools": values.get("tools")})
    assert str(error.value).startswith("d.jsonl:3: ")
    assert "\n" not in str(error.value)

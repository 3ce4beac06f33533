"""`holdfast.tasks.readers.forms`: forms of records are recognized where they are plain, and refused truly elsewhere."""

from typing import Any

import pytest

from holdfast.config.settings import Columns
from holdfast.errors import DataError
from holdfast.tasks.files import Reading, Record, records_to_examples, unread_columns
from wild_records import example, said, turn


def contents(
    values: dict[str, Any], columns: dict[str, str] | None = None, **reading: Any
) -> tuple[list[str], str | None]:
    """The turns of the prompt and the demonstration."""
    e = example(values, columns, **reading)
    return [f"{m['role']}: {m['content']}" for m in e.messages], e.demonstration


def part(kind: str, text: str) -> dict[str, str]:
    return {"type": kind, "text": text}


ONE = (["user: q"], "a")


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "q", "completion": "a"},
        {"prompt": [turn("user", "q")], "completion": [turn("assistant", "a")]},
        {"messages": [turn("user", "q"), turn("assistant", "a")]},
        {"prompt": "q", "prompt_id": "1", "messages": [turn("user", "q"), turn("assistant", "a")]},
        {"prompt": '[{"role": "user", "content": "q"}]', "completion": '[{"role": "assistant", "content": "a"}]'},
        {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'},
        {"conversations": [said("human", "q"), said("gpt", "a")]},
        {"conversations": '[{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]'},
        {"conversation": [said("human", "q"), said("gpt", "a")]},
        {"conversations": [turn("user", "q"), turn("assistant", "a")]},
        {"instruction": "q", "input": "", "output": "a"},
        {"instruction": "q", "input": None, "output": "a"},
        {"instruction": "q", "output": "a"},
        {"prompt": [turn("user", [{"type": "text", "text": "q"}])], "completion": [turn("assistant", ["a"])]},
        {"messages": [turn("user", [part("input_text", "q")]), turn("assistant", [part("output_text", "a")])]},
    ],
)
def test_each_plain_form_is_recognized(values: dict[str, Any]):
    assert contents(values) == ONE


def test_a_conversation_in_a_column_of_another_name():
    turns = [said("human", "q"), said("gpt", "a")]
    assert contents({"dialog": turns}, {"messages": "dialog"}) == ONE
    assert contents({"a": {"dialog": turns}}, {"messages": "a.dialog"}) == ONE


def test_alpacas_input_is_a_part_of_the_prompt():
    record = {"instruction": "Name the color.", "input": "red 7", "output": "red", "system": "s"}
    expected = (["system: s", "user: Name the color.\n\nred 7"], "red")
    assert contents(record) == expected
    assert contents(record, reader="alpaca") == expected
    assert example(record).metadata == {}
    record["history"] = [["q1", "a1"]]
    assert contents(record)[0] == ["system: s", "user: q1", "assistant: a1", "user: Name the color.\n\nred 7"]


def test_alpaca_is_not_recognized_where_columns_are_named():
    record = {"instruction": "q", "input": "i", "output": "a"}
    assert contents(record, {"prompt": "instruction", "completion": "output"}) == ONE
    assert contents({**record, "completion": "c"}, {"prompt": "instruction"}) == (["user: q"], "c")


def test_sharegpt_with_system_column_tools_and_speakers():
    turns = [said("system", "s"), said("human", "q"), said("chatgpt", "a"), said("user", "r"), said("assistant", "b")]
    assert contents({"conversations": turns}) == (["system: s", "user: q", "assistant: a", "user: r"], "b")
    assert contents({"conversations": turns[1:], "system": "t"})[0][0] == "system: t"


def test_developers_speak_for_the_system():
    assert contents({"messages": [turn("developer", "s"), turn("user", "q")]})[0] == ["system: s", "user: q"]


VERL = {
    "data_source": "sums",
    "prompt": [turn("user", "q")],
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "7"},
    "extra_info": {"split": "train", "index": 3, "answer": "so 7"},
}


def test_verls_nested_columns():
    e = example(VERL)
    assert (e.answer, e.demonstration) == ("7", None)
    assert e.metadata["extra_info"] == VERL["extra_info"]
    assert e.metadata["data_source"] == "sums"
    assert example(VERL, reader="records").answer is None
    named = {"answer": "reward_model.ground_truth", "completion": "extra_info.answer", "id": "extra_info.index"}
    e = example(VERL, named)
    assert (e.answer, e.demonstration, e.id) == ("7", "so 7", "3")
    assert example({**VERL, "a.b": "dots"}, {"answer": "a.b"}).answer == "dots"


def test_a_dotted_column_that_does_not_exist_is_named():
    with pytest.raises(
        DataError, match=r"no column 'reward_model.ground_truht'.*mean 'reward_model.ground_truth'"
    ) as e:
        example(VERL, {"answer": "reward_model.ground_truht"})
    assert "the columns are ability, data_source, extra_info, prompt, reward_model (" in str(e.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, r"preferences.*`columns: {completion: chosen}`"),
        (
            {"chosen": [turn("user", "q"), turn("assistant", "a")], "rejected": [turn("user", "q")]},
            r"preferences.*`columns: {messages: chosen}`",
        ),
        ({"prompt": "q", "completions": ["a"], "labels": [True]}, "preferences"),
        ({"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []}, "preferences"),
        ({"prompt": "q", "completion": "a", "label": True}, "good and bad completions"),
    ],
)
def test_preferences_are_refused(values: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        example(values)


def test_the_chosen_answers_can_be_imitated():
    assert contents({"prompt": "q", "chosen": "a", "rejected": "b"}, {"completion": "chosen"}) == ONE
    turns = [turn("user", "q"), turn("assistant", "a")]
    assert contents({"chosen": turns, "rejected": turns[:1]}, {"messages": "chosen"}) == ONE


@pytest.mark.parametrize("name", ["image", "images", "videos", "audio"])
def test_what_is_not_text_is_refused(name: str):
    record = {"prompt": "q", "completion": "a"}
    with pytest.raises(DataError, match=f"^d.jsonl:3: it has `{name}`, and models are trained on text only"):
        example({**record, name: ["x.png"]})
    assert contents({**record, name: None}) == contents({**record, name: []}) == ONE


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"messages": [turn("user", [{"type": "image_url", "image_url": {}}])]}, "a part of the kind 'image_url'"),
        ({"messages": [turn("user", [{"type": "input_audio"}])]}, "a part of the kind 'input_audio'"),
        ({"messages": [turn("user", [3])]}, "a part of the kind 'a number'"),
        ({"messages": [turn("user", [{"type": "thinking", "thinking": "x"}])]}, "thoughts, but it is the user's turn"),
        ({"messages": "[{'role': 'user', 'content': 'q'}]"}, "Python's own notation"),
        ({"conversations": [said("narrator", "q")]}, "the role 'narrator'"),
        ({"conversations": [{"human": "q", "assistant": "a"}]}, r"`conversations\[0\]` is not a turn"),
        (
            {"messages": [turn("system", "s", tools="[]"), turn("user", "q")]},
            "`tools`, which is not read .put it into a col",
        ),
        ({"messages": [turn("user", "q", images=["x.png"])]}, "`images`, which is not read"),
        ({"conversations": []}, "`conversations` is empty"),
        ({"conversations": None}, "`conversations` is empty"),
        ({"messages": None}, "`messages` is empty"),
        ({"messages": [turn("assistant", "hi"), turn("assistant", "a")]}, "does not end with a user turn"),
        ({"messages": [turn("tool", "hi"), turn("assistant", "a")]}, "has no user turn"),
        ({"messages": [turn("user", "q"), turn("assistant", None)]}, r"`messages\[1\].content` is empty"),
        ({"instruction": "q", "output": ""}, "`output` is empty"),
        ({"instruction": "", "output": "a"}, "`instruction` is empty"),
        ({"instruction": "q", "output": "a", "history": ["x"]}, "`history` is not a list of pairs"),
        ({"prompt": "q", "completion": [turn("assistant", "a"), turn("user", "r")]}, "not one assistant turn"),
    ],
)
def test_malformed_conversations_are_refused_in_one_line(values: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message) as error:
        example(values)
    assert str(error.value).startswith("d.jsonl:3: ")
    assert "\n" not in str(error.value)


def test_a_rendered_prompt_is_kept_as_it_is():
    text = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    for record in ({"rendered_prompt": text}, {"rendered_prompt": text, "prompt": "q"}):
        e = example({**record, "completion": "a"})
        assert (e.rendered_prompt, e.demonstration, e.tools) == (text, "a", None)
        assert e.messages == ({"role": "user", "content": text},)
    assert example({"chat": text}, {"rendered_prompt": "chat"}).rendered_prompt == text
    with pytest.raises(DataError, match="both a `rendered_prompt` and a `system` column"):
        example({"rendered_prompt": text, "system": "s"})
    with pytest.raises(DataError, match="`rendered_prompt` is empty"):
        example({"rendered_prompt": ""})
    turns = [turn("assistant", "a"), turn("tool", "t"), turn("assistant", "b")]
    with pytest.raises(DataError, match="several turns, and the prompt is rendered already"):
        example({"rendered_prompt": text, "completion": turns})


def unread(values: dict[str, Any], columns: dict[str, str] | None = None, **reading: Any) -> tuple[str, ...]:
    return unread_columns([Record(values, 1, "d:1")], Columns(**columns or {}), Reading(**reading))


def test_columns_with_text_that_nothing_reads_are_known():
    record = {"prompt": "q", "completion": "a", "context": "c", "empty": " ", "number": 3, "answer": "x", "note": "n"}
    assert unread(record) == ("context", "note")
    assert unread(record, {"privileged_context": "context"}) == ("note",)
    assert unread(record, prompt_template="{prompt} {context}") == ("note",)
    alpaca = {"instruction": "q", "input": "i", "output": "a"}
    assert unread(alpaca) == ()
    assert unread(alpaca, prompt_template="{instruction}") == ("input",)
    assert unread(record, prompt_template="{context}") == ("prompt", "note")
    assert unread(alpaca, {"prompt": "instruction", "completion": "output"}) == ("input",)
    assert unread({"conversations": [said("human", "q")], "topic": "t"}) == ("topic",)
    assert unread(VERL) == ()
    turns = [turn("user", "q", id="1"), turn("assistant", "a", thought="hm", reasoning="r", weight=1, score=2)]
    assert unread({"messages": turns}) == ("messages[].id", "messages[].thought")
    assert unread({"conversations": [said("human", "q", lang="en")]}) == ("conversations[].lang",)
    assert unread({"prompt": turns[:1], "completion": turns[1:]}) == ("prompt[].id", "completion[].thought")
    assert unread_columns([], Columns()) == ()


def test_ids_come_from_the_name_of_the_file_without_its_types():
    record = Record({"prompt": "q"}, 4, "x")
    for where, expected in (
        ("a/b.jsonl", "b-4"),
        ("a/b.jsonl.gz", "b-4"),
        ("a/b.c.json", "b.c-4"),
        ("a/train", "train-4"),
    ):
        assert records_to_examples([record], Columns(), where)[0].id == expected

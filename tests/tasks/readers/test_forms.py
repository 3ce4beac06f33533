"""`holdfast.tasks.readers.forms`: forms of records are recognized where they are plain, and refused truly elsewhere."""

from dataclasses import replace
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


def test_verl_is_recognized_by_its_columns_and_not_by_the_first_value():
    blank = {**VERL, "reward_model": {"style": "rule", "ground_truth": None}}
    records = [Record(values, n, f"d:{n}") for n, values in enumerate((blank, VERL), 1)]
    assert [e.answer for e in records_to_examples(records, Columns(), "d")] == [None, "7"]


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


def test_a_dotted_name_leads_into_lists_too():
    record = {"question": "q", "choices": ["a", "b"], "answers": {"text": ["x", "y"]}}
    e = example(record, {"completion": "answers.text.0", "answer": "answers.text"}, prompt_template="{choices.1}?")
    assert (e.messages[0]["content"], e.demonstration, e.answer) == ("b?", "x", ["x", "y"])
    for name in ("answers.text.2", "answers.text.x", "answers.text.-1"):
        with pytest.raises(DataError, match=r"no column 'answers\.text"):
            example(record, {"prompt": name})


def test_an_answer_that_is_the_demonstration_judges_nothing_unless_it_is_said():
    """GSM8K's `answer` is a solution. Exact match with the whole of it would always be 0."""
    record = {"question": "1 + 1?", "answer": "1 + 1 is 2\n#### 2", "system": "s"}
    e = example(record, {"prompt": "question", "completion": "answer"})
    assert (e.answer, e.demonstration) == (None, "1 + 1 is 2\n#### 2")
    said_so = example(record, {"prompt": "question", "completion": "answer", "answer": "answer"})
    assert said_so.answer == said_so.demonstration
    assert example(record, {"prompt": "question"}).answer == "1 + 1 is 2\n#### 2"
    assert example(record, {"prompt": "question", "answer": "answer", "completion": "system"}).messages == (
        {"role": "user", "content": "1 + 1?"},
    )


@pytest.mark.parametrize("field", ["id", "system", "tools", "answer", "reasoning_content"])
def test_a_column_with_an_empty_name_is_not_read(field: str):
    record = {"prompt": "q", "completion": "a", "": "x"}
    assert replace(example({**record, field: "t"}, {field: ""}), metadata={}) == replace(example(record), metadata={})


def test_ids_that_come_twice_can_be_left_out():
    records = [Record({"id": "same", "prompt": "q"}, n, f"d:{n}") for n in (1, 2)]
    with pytest.raises(DataError, match=r"'same' is used twice.*number the records with `columns: {id: ''}`"):
        records_to_examples(records, Columns(), "d")
    assert [e.id for e in records_to_examples(records, Columns(id=""), "d")] == ["d-1", "d-2"]


def test_named_columns_go_before_those_of_a_form():
    dolly = {"instruction": "q", "response": "a", "output": "other"}
    assert example(dolly, {"completion": "response"}, reader="alpaca").demonstration == "a"
    both = {"conversations": [said("human", "no")], "talk": [said("human", "q"), said("gpt", "a")]}
    assert contents(both, {"messages": "talk"}, reader="sharegpt") == ONE


def test_preferences_of_text_are_refused_with_a_way_that_works():
    pair = {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: no"}
    with pytest.raises(DataError, match="split `chosen` into a `prompt` and a `completion`"):
        example(pair)
    turns = {"prompt": "q", "chosen": [turn("user", "q"), turn("assistant", "a")], "rejected": []}
    with pytest.raises(DataError, match=r"`columns: {messages: chosen}`"):
        example(turns)
    assert contents(turns, {"messages": "chosen"}) == ONE


@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_a_conversation_as_plain_text_is_refused(name: str):
    with pytest.raises(DataError, match=f"`{name}` is text, not a list of turns.*`columns: {{prompt: {name}}}`"):
        example({name: "Human: q\n\nAssistant: a"})
    assert contents({name: "q"}, {"prompt": name}) == (["user: q"], None)


def test_thoughts_in_a_column_are_never_lost():
    record = {"prompt": "q", "completion": "a", "reasoning_content": ["hm"]}  # as s1K has them
    assert example(record).demonstration == "<think>\nhm\n</think>\n\na"
    for values in (
        {"messages": [turn("user", "q"), turn("assistant", "a")]},
        {"prompt": "q", "completion": [turn("assistant", "a")]},
        {"prompt": "q"},
    ):
        with pytest.raises(
            DataError, match=r"no answer of text that it belongs to.*`columns: {reasoning_content: ''}`"
        ):
            example({**values, "reasoning_content": "hm"})
        assert example({**values, "reasoning_content": None}).messages[-1]["content"] == "q"


def test_a_system_prompt_may_stand_in_both_places():
    for content in ("s", ""):
        e = example({"system": "s", "messages": [turn("system", content), turn("user", "q")]})
        assert e.messages[0] == {"role": "system", "content": "s"}
    with pytest.raises(DataError, match="both a system turn"):
        example({"system": "s", "messages": [turn("system", "t"), turn("user", "q")]})


def test_text_that_nothing_reads_is_known_inside_lists_and_objects_too():
    record = {"prompt": "q", "completion": "a", "hints": ["x"], "meta": {"a": ["x"]}, "scores": [1], "none": [" "]}
    assert unread(record) == ("hints", "meta")
    talk = [turn("user", "other"), turn("assistant", "other")]
    assert unread({"prompt": "q", "completion": "a", "messages": talk}) == ("messages",)
    assert unread({"prompt": "q", "messages": talk}) == ()

"""`holdfast.data.chat`: tools, calls of tools, and earlier turns that are trained on, with every template of TRL's."""

import pytest

from holdfast.data.chat import Demonstration
from holdfast.data.example import Example, Message
from holdfast.errors import DataError
from trl_templates import NAMES, chat_format

QUESTION = Message(role="user", content="Which one?")
PARAMETERS = {"type": "object", "properties": {"at": {"type": "integer", "description": "where"}}, "required": ["at"]}
TOOL = {"type": "function", "function": {"name": "look_up", "description": "Looks.", "parameters": PARAMETERS}}
CALL = {"id": "call", "type": "function", "function": {"name": "look_up", "arguments": {"at": 7261}}}
CALLING = Message(role="assistant", content="", tool_calls=[CALL])
FOUND = Message(role="tool", content='found "99"', tool_call_id="call", name="look_up")

NO_TOOLS = (
    *("cohere", "cohere2", "deepseek_r1_distill", "deepseekv3", "gemma", "gemma3", "idefics3", "llama3", "llava_next"),
    *("phi3", "phi3_5", "qwen2_5_vl", "smolvlm"),
)
"""Templates that write no tools. An example with tools is refused, because the model could not know them."""

NO_CALLS = (*NO_TOOLS, "lfm2")
"""Templates that write no calls of tools."""


@pytest.mark.parametrize("name", NAMES)
def test_tools_are_in_the_prompt_or_the_prompt_is_refused(name: str) -> None:
    form = chat_format(name)
    if name in NO_TOOLS:
        with pytest.raises(DataError, match="tool"):
            form.encode_prompt([QUESTION], tools=[TOOL])
    else:
        text = form.tokenizer.decode(form.encode_prompt([QUESTION], tools=[TOOL]))
        assert all(each in text for each in ("look_up", "Looks.", "where"))


@pytest.mark.parametrize("name", NAMES)
def test_a_call_is_in_the_target_or_refused(name: str) -> None:
    form = chat_format(name)
    tools = None if name in NO_TOOLS else [TOOL]
    if name in NO_CALLS:
        with pytest.raises(DataError, match=r"(not write the tool calls|refuses the demon).*\(use a model whose"):
            form.encode_completion(CALLING, messages=[QUESTION], tools=tools)
        return
    ids = form.encode_completion(CALLING, messages=[QUESTION], tools=tools)
    text = form.tokenizer.decode(ids)
    assert "look_up" in text
    assert "7261" in text
    assert [index for index, token in enumerate(ids) if token in form.eos_ids] == [len(ids) - 1]


@pytest.mark.parametrize("name", sorted({*NAMES} - {*NO_CALLS}))
def test_a_conversation_with_a_call_and_its_result_is_a_prompt(name: str) -> None:
    form = chat_format(name)
    text = form.tokenizer.decode(form.encode_prompt([QUESTION, CALLING, FOUND], tools=[TOOL]))
    assert "7261" in text
    assert "99" in text


def trained_on(name: str, demonstration: Demonstration) -> list[str]:
    """The pieces of text that are trained on."""
    assert demonstration.tool_mask is not None
    pieces, before = list[list[int]](), 0
    for token, trained in zip(demonstration.ids, demonstration.tool_mask, strict=True):
        if trained:
            pieces = [*pieces, []] if not before else pieces
            pieces[-1].append(token)
        before = trained
    return [chat_format(name).tokenizer.decode(piece) for piece in pieces]


CHANGE_EARLIER_TURNS = tuple(
    name for name in NAMES if name.startswith(("deepseek", "nemotron", "qwen3_5", "qwen3_6"))
)  # they drop a block of thoughts that the prompt has opened


@pytest.mark.parametrize("name", NAMES)
def test_an_earlier_turn_is_trained_on_with_its_end(name: str) -> None:
    form = chat_format(name)
    messages = (QUESTION, Message(role="assistant", content="blue 8"), Message(role="user", content="And now?"))
    example = Example("one", messages, demonstration="red 7", trained_turns=(1,))
    if name in CHANGE_EARLIER_TURNS:
        with pytest.raises(DataError, match=r"changes an earlier turn .*\(train on the last turn only"):
            form.encode_demonstration(example)
        return
    demonstration = form.encode_demonstration(example)
    earlier, last = trained_on(name, demonstration)
    assert form.tokenizer.decode([*demonstration.prompt_ids, *demonstration.ids]) == form.tokenizer.decode(
        [*form.encode_prompt(messages), *form.encode_completion("red 7", messages=messages)]
    )
    assert "blue 8" in earlier
    assert last == form.tokenizer.decode(form.encode_completion("red 7", messages=messages))
    # The same frame and the same end, if the template writes the last turn as it writes earlier ones.
    if name not in ("qwen3", "gptoss"):
        assert earlier.replace("blue 8", "red 7") == last
    assert not earlier.endswith("blue 8")


@pytest.mark.parametrize("name", NAMES)
def test_a_special_token_of_the_model_in_a_prompt_is_refused(name: str) -> None:
    form = chat_format(name)
    for token in form.template.special.values():
        with pytest.raises(DataError, match=r"one: the prompt contains .*`rendered_prompt`"):
            form.encode_example(Example("one", (Message(role="user", content=f"a {token} b"),)), where="one")

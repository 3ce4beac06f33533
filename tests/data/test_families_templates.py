"""`holdfast.data.chat`: its contract over every chat template that TRL ships, which come from many families of models.

`docs/chat-templates.md` has what comes out for each template, and a test holds it to that.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.data.chat import ChatFormat
from holdfast.data.chat_template import written
from holdfast.data.example import Message
from holdfast.data.thoughts import join_thoughts
from holdfast.errors import DataError
from page_tables import code, held, markdown
from trl_templates import NAMES, chat_format, shipped

QUESTION = Message(role="user", content="Which one?")
ANSWER, THOUGHTS = "red 7", "hm"
PARAMETERS = {"type": "object", "properties": {"word": {"type": "string", "description": "The word."}}}
TOOL = {"type": "function", "function": {"name": "look_up", "description": "Looks up.", "parameters": PARAMETERS}}
REPLIES: Mapping[str, Message] = {
    "user": Message(role="user", content='No: "blue"\n\\ 8 \u00fc'),
    "tool": Message(role="tool", content='{"a": "b"}\n\\ 8 \u00fc'),
}
"""What templates that write strings through JSON change: quotes, a line break, a backslash, a letter beyond ASCII."""


def rendered(name: str, *messages: Message, prompt: bool = False) -> str:
    """A conversation as transformers renders it, with content in parts where the template needs them."""
    parts = name in IN_PARTS
    turns = [{**m, "content": [{"type": "text", "text": m["content"]}] if parts else m["content"]} for m in messages]
    return str(shipped(name).apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt))


def tokens(name: str, text: str) -> list[int]:
    return list(shipped(name)(text, add_special_tokens=False)["input_ids"])


IN_PARTS = ("idefics3", "smolvlm", "llava_next")
"""Templates for images and text that lose content which is a string."""

NO_SYSTEM = ("gemma",)
"""Templates that refuse a system turn."""

NEMOTRON = tuple(name for name in NAMES if name.startswith("nemotron"))
PART_FROM_PROMPT: Mapping[str, tuple[str, ...]] = {
    "an answer": ("deepseek_r1_distill", "deepseekv3", *NEMOTRON),
    "thoughts": ("deepseek_r1_distill", "deepseekv3", "qwen3_5_nothink"),
}
"""Templates whose whole conversation does not continue the prompt. The page has their targets."""

SPAN_THE_BORDER: Mapping[str, tuple[str, ...]] = {
    "an answer": ("qwen3_5_think", "qwen3_6", "qwen3_8"),
    "thoughts": (),
}
"""Templates with two line breaks at the border of prompt and target, which are one token of the whole conversation.
Sampling begins after the prompt's own tokens, so the target does too."""

CHANGE_EARLIER_TURNS: Mapping[str, tuple[str, ...]] = {
    "user": (
        *PART_FROM_PROMPT["an answer"],
        *("qwen3", "qwen3_5_think", "qwen3_5_nothink", "qwen3_6"),  # no block of thoughts in an earlier turn
        "gptoss",  # another token ends an earlier turn
    ),
    "tool": (*PART_FROM_PROMPT["an answer"], "qwen3"),
}
"""Templates that write an earlier turn otherwise than the last one. The sampled tokens stay; the reply is the same."""

HISTORIES: Mapping[str, tuple[Message, ...]] = {
    "one turn": (QUESTION,),
    "three turns": (QUESTION, Message(role="assistant", content="blue 8"), Message(role="user", content="And now?")),
    "a system turn": (Message(role="system", content="Be brief: 4815."), QUESTION),
}


def target(name: str, kind: str = "an answer", history: Sequence[Message] = (QUESTION,)) -> list[int]:
    text = ANSWER if kind == "an answer" else join_thoughts(THOUGHTS, ANSWER)
    return chat_format(name).encode_completion(text, messages=history)


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("name", NAMES)
def test_the_prompt_is_the_conversation_up_to_the_assistants_turn(name: str, history: str) -> None:
    messages = HISTORIES[history]
    if name in NO_SYSTEM and history == "a system turn":
        with pytest.raises(DataError, match="System role not supported"):
            chat_format(name).encode_prompt(messages)
        return
    text = rendered(name, *messages, prompt=True)
    assert chat_format(name).encode_prompt(messages) == tokens(name, text)
    assert all(message["content"] in text for message in messages)


@pytest.mark.parametrize("kind", PART_FROM_PROMPT)
@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("name", NAMES)
def test_prompt_and_target_are_the_whole_conversation_up_to_the_turns_end(name: str, history: str, kind: str) -> None:
    messages, answer = HISTORIES[history], Message(role="assistant", content=ANSWER)
    if name in NO_SYSTEM and history == "a system turn":
        return
    if kind == "thoughts" and chat_format(name).template.facts.thoughts_in == "template":
        answer["reasoning_content"] = THOUGHTS
    elif kind == "thoughts":
        answer["content"] = join_thoughts(THOUGHTS, ANSWER)
    prompt, whole = rendered(name, *messages, prompt=True), rendered(name, *messages, answer)
    assert whole.startswith(prompt) == (name not in PART_FROM_PROMPT[kind])
    if not whole.startswith(prompt):
        return
    prompt_ids, whole_ids = tokens(name, prompt), tokens(name, whole)
    ids = [*prompt_ids, *target(name, kind, messages)]
    assert (whole_ids[: len(prompt_ids)] != prompt_ids) == (name in SPAN_THE_BORDER[kind])
    if name == "glm4moe":  # it writes no end behind the last turn; the token that begins a user's turn ends it
        assert ids == [*whole_ids, *tokens(name, "<|user|>")]
    elif name in SPAN_THE_BORDER[kind]:
        assert ids == [*prompt_ids, *tokens(name, whole.removeprefix(prompt))][: len(ids)]
    else:
        assert ids == whole_ids[: len(ids)]


@pytest.mark.parametrize("kind", PART_FROM_PROMPT)
@pytest.mark.parametrize("name", NAMES)
def test_a_target_ends_with_the_one_token_that_ends_a_turn(name: str, kind: str) -> None:
    ids = target(name, kind)
    assert [index for index, token in enumerate(ids) if token in chat_format(name).eos_ids] == [len(ids) - 1]


@pytest.mark.parametrize("name", NAMES)
def test_content_is_the_answer_alone_and_thoughts_are_read_in_one_way(name: str) -> None:
    form = chat_format(name)
    text = join_thoughts(THOUGHTS, ANSWER)
    assert (form.content(target(name)), form.decode(target(name))) == (ANSWER, ANSWER)
    where = form.template.facts.thoughts_in
    ids = target(name, "thoughts")
    assert form.decode(ids) == (ANSWER if where == "nowhere" else text)
    assert form.content(ids) == (text if where == "text" else ANSWER)


CHARACTERS = st.characters(codec="utf-8", exclude_characters="<>[]｜|\ue000\ue001", exclude_categories=("Cs", "Cc"))
TEXTS = st.text(CHARACTERS | st.sampled_from("\n\t "), min_size=1, max_size=30).filter(
    lambda text: text.strip() == text
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(answer=TEXTS.filter(bool), thoughts=TEXTS.filter(bool))
def test_every_character_of_an_answer_comes_back(name: str, answer: str, thoughts: str) -> None:
    form = chat_format(name)
    assert form.content(form.encode_completion(answer, messages=[QUESTION])) == answer
    ids = form.encode_completion(join_thoughts(thoughts, answer), messages=[QUESTION])
    assert form.content(ids).endswith(answer)
    if form.template.facts.thoughts_in in ("template", "prompt"):
        assert form.content(ids) == answer
        assert form.decode(ids) == join_thoughts(thoughts, answer)


@pytest.mark.parametrize("role", REPLIES)
@pytest.mark.parametrize("name", NAMES)
def test_an_episode_is_the_conversation_as_the_template_writes_it(name: str, role: str) -> None:
    """Prompt, answer and reply, joined, are the conversation, or the reply is refused."""
    form, reply, ids = chat_format(name), REPLIES[role], target(name)
    if (name, role) == ("glm4moe", "tool"):  # the token that ends an answer says who speaks next
        ids[-1] = form.tokenizer.convert_tokens_to_ids("<|observation|>")
    try:
        reply_ids = form.encode_reply([reply], last_id=ids[-1])
    except DataError:
        assert role == "tool"
        return
    whole = rendered(name, QUESTION, Message(role="assistant", content=ANSWER), reply, prompt=True)
    joined = form.tokenizer.decode([*form.encode_prompt([QUESTION]), *ids, *reply_ids])
    text = form.tokenizer.decode(reply_ids)
    assert written(reply["content"], text)
    if name in CHANGE_EARLIER_TURNS[role]:
        assert whole.endswith(text)
        assert joined != whole
    else:
        assert joined == whole


@pytest.mark.parametrize("name", NAMES)
def test_the_date_is_the_one_that_is_given(name: str) -> None:
    form = chat_format(name)
    old, new = (
        ChatFormat(form.tokenizer, form.eos_ids, today=today).encode_prompt([QUESTION])
        for today in (date(1999, 1, 2), date(2031, 12, 30))
    )
    dates = [form.tokenizer.decode(ids).count(year) for ids, year in ((old, "1999"), (new, "2031"))]
    assert dates == ([1, 1] if name in WRITE_THE_DATE else [0, 0])
    assert (old == new) == (name not in WRITE_THE_DATE)


WRITE_THE_DATE = ("gptoss", "llama3_2", "muse_glimmer")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(data=st.data())
def test_whatever_a_model_samples_is_text_without_special_tokens(name: str, data: st.DataObject) -> None:
    form = chat_format(name)
    special = sorted(form.template.special)
    tokens = st.sampled_from(special + form.template.tokens("<think></think>\n\n red")) | st.integers(
        0, len(form.tokenizer) - 1
    )
    begun = data.draw(st.sampled_from([[], target(name), target(name, "thoughts")]))
    at = data.draw(st.integers(0, len(begun)))
    ids = [*begun[:at], *data.draw(st.lists(tokens, max_size=8)), *begun[at:]]
    content, text = form.content(ids), form.decode(ids)
    assert content in text
    assert not [token for token in form.template.special.values() if token in text]


def outcomes(name: str) -> list[str]:
    """What the page says of a template: ends of the prompt and targets, and which turns are written."""
    form = chat_format(name)
    prompt = form.tokenizer.decode(form.encode_prompt([QUESTION])).rpartition(QUESTION["content"])[2]
    targets = [form.tokenizer.decode(target(name, kind)) for kind in PART_FROM_PROMPT]
    turns = []
    for what in (
        lambda: form.encode_prompt([Message(role="system", content="Be brief."), QUESTION]),
        lambda: form.encode_prompt([QUESTION], tools=[TOOL]),
        lambda: form.encode_reply([REPLIES["user"]]),
        lambda: form.encode_reply([REPLIES["tool"]]),
    ):
        try:
            what()
            turns.append("written")
        except DataError:
            turns.append("refused")
    return [*map(code, (prompt, *targets)), *turns]


def table() -> str:
    """The page's table. Templates with the same outcomes share a line."""
    groups = dict[tuple[str, ...], list[str]]()
    for name in NAMES:
        groups.setdefault(tuple(outcomes(name)), []).append(f"`{name}`")
    head = ["template", "the prompt ends", "target of `red 7`", "target with the thoughts `hm`"]
    lines = [[*head, "system", "tools", "user's reply", "tool's reply"], ["---"] * 8]
    return markdown([*lines, *([", ".join(names), *cells] for cells, names in groups.items())])


def test_the_page_has_what_comes_out() -> None:
    assert held("tests/data/test_families_templates.py") == table(), f"the table is now\n\n{table()}"

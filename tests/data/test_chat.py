"""`holdfast.data.chat`: token ids of prompts, completions and replies with the tokenizer's chat template, and back.

Each template below is a kind: it does one thing that real templates do. Real templates are in `test_families.py`.
"""

from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from holdfast.data.chat import ChatFormat, PromptTooLong, check_fits
from holdfast.data.example import Example, Message
from holdfast.errors import DataError

MESSAGES = (Message(role="system", content="Be brief."), Message(role="user", content="What is the capital?"))
ASKED = MESSAGES[1:]
TEXT = "<reasoning>\nParis.\n</reasoning>"
THOUGHT = "<think>\nhm\n</think>\n\nred 7"

TURNS = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
START = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
OPENED = TURNS + START.replace("assistant\n", "assistant\n<think>\n")
DROPPED = TURNS.replace("m.content", "m.content.split('</think>')[-1].lstrip()")
KEYED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.KEY %}{{ '<think>' + m.KEY + '</think>' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}" + START
)
OTHER_QUESTION = TURNS.replace("m.content", "m.content + (' /think' if loop.last and m.role == 'user' else '')")
CHANNELS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role }}{% if m.role == 'assistant' %}"
    "{% if m.thinking %}{{ '<|box|>note<|im_sep|>' + m.thinking + '<|note_end|><|im_start|>assistant' }}{% endif %}"
    "{{ '<|box|>final<|im_sep|>' + m.content }}{{ '<|im_end|>' if loop.last else '<|note_end|>' }}"
    "{% else %}{{ '<|im_sep|>' + m.content + '<|note_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
)


@pytest.fixture
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    special = ["<|box|>", "<|im_sep|>", "<|note_end|>", "[THINK]", "[/THINK]"]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    return tokenizer


@pytest.fixture
def with_template(tokenizer: PreTrainedTokenizerBase) -> "Any":
    def make(template: str, **kwargs: Any) -> ChatFormat:
        tokenizer.chat_template = template
        return ChatFormat(tokenizer, frozenset({tokenizer.eos_token_id}), kwargs)

    return make


@pytest.fixture
def chat_format(tokenizer: PreTrainedTokenizerBase) -> ChatFormat:
    return ChatFormat(tokenizer, frozenset({tokenizer.eos_token_id}))


def target(chat_format: ChatFormat, answer: str | Message) -> str:
    """The text of a completion's tokens, special tokens visible."""
    return str(chat_format.tokenizer.decode(chat_format.encode_completion(answer, messages=ASKED)))


def test_prompt_is_the_rendered_conversation(chat_format: ChatFormat) -> None:
    ids = chat_format.encode_prompt(MESSAGES)
    rendered = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is the capital?<|im_end|>\n"
    assert all(type(token) is int for token in ids)
    assert chat_format.tokenizer.decode(ids) == rendered + "<|im_start|>assistant\n"


def test_template_arguments_reach_the_template(tokenizer: PreTrainedTokenizerBase) -> None:
    chat_format = ChatFormat(tokenizer, frozenset({tokenizer.eos_token_id}), {"enable_thinking": False})
    ids = chat_format.encode_prompt(MESSAGES)
    assert tokenizer.decode(ids).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert target(chat_format, TEXT) == TEXT + "<|im_end|>"


def test_a_refused_conversation_gives_one_line(with_template: Any) -> None:
    refusing = with_template(
        "{% if messages[0].role == 'system' %}{{ raise_exception('No system') }}{% endif %}" + TURNS
    )
    with pytest.raises(DataError, match=r"^task a: the chat template refuses .*No system"):
        refusing.encode_prompt(MESSAGES, where="task a")


def test_a_template_that_raises_anything_gives_one_line(with_template: Any) -> None:
    failing = with_template("{% if messages[0].role == 'system' %}{{ 1 // 0 }}{% endif %}" + TURNS)
    with pytest.raises(DataError, match=r"^task a: the chat template refuses .*zero"):
        failing.encode_prompt(MESSAGES, where="task a")


def test_completion_continues_the_prompt_and_ends_the_turn(chat_format: ChatFormat) -> None:
    ids = chat_format.encode_completion(TEXT, messages=MESSAGES)
    assert chat_format.tokenizer.decode(ids) == TEXT + "<|im_end|>"
    assert ids.count(chat_format.tokenizer.eos_token_id) == 1
    assert chat_format.decode(ids) == chat_format.content(ids) == TEXT


TARGETS = {
    # What the template writes; the target of a plain answer; the target of an answer with thoughts.
    "as they are": (TURNS + START, "red 7", THOUGHT),
    "empty thoughts": (
        TURNS.replace("m.content", "('<think>\n\n</think>\n\n' if m.role == 'assistant' else '') + m.content") + START,
        "<think>\n\n</think>\n\nred 7",
        THOUGHT,
    ),
    "empty thoughts, which the prompt opens": (
        TURNS.replace("m.content", "('<think>\n\n</think>\n\n' if m.role == 'assistant' else '') + m.content")
        + START.replace("assistant\n", "assistant\n<think>\n"),
        "\n</think>\n\nred 7",
        "hm\n</think>\n\nred 7",
    ),
    "empty thoughts, which the prompt opens after another question": (
        OTHER_QUESTION.replace(
            "m.role + '\n' +", "m.role + '\n' + ('<think></think>' if m.role == 'assistant' else '') +"
        )
        + START.replace("assistant\n", "assistant\n<think>\n"),
        "\n</think>\n\nred 7",
        "hm\n</think>\n\nred 7",
    ),
    "thoughts are opened": (OPENED, "\n</think>\n\nred 7", "hm\n</think>\n\nred 7"),
    "thoughts are opened, and dropped when finished": (
        DROPPED + START.replace("assistant\n", "assistant\n<think>\n"),
        "\n</think>\n\nred 7",
        "hm\n</think>\n\nred 7",
    ),
    "thoughts are opened by another tag": (
        OPENED.replace("<think>", "[THINK]"),
        "\n[/THINK]\n\nred 7",
        "hm\n[/THINK]\n\nred 7",
    ),
    "thoughts are closed": (
        TURNS + START.replace("assistant\n", "assistant\n<think>\n\n</think>\n\n"),
        "red 7",
        "red 7",
    ),
    "dropped when finished": (DROPPED + START, "red 7", THOUGHT),
    **{
        f"under {key}": (KEYED.replace("KEY", key), "red 7", "<think>hm</think>red 7")
        for key in ("reasoning_content", "reasoning", "thinking")
    },
    "in a channel": (
        CHANNELS,
        "<|box|>final<|im_sep|>red 7",
        "<|box|>note<|im_sep|>hm<|note_end|><|im_start|>assistant<|box|>final<|im_sep|>red 7",
    ),
    "no generation prompt": (TURNS, "<|im_start|>assistant\nred 7", f"<|im_start|>assistant\n{THOUGHT}"),
    "the last question is written otherwise": (OTHER_QUESTION + START, "red 7", THOUGHT),
    "a generation prompt that nobody asked for": (TURNS + "{{ '<|im_start|>assistant\n' }}", "red 7", THOUGHT),
    "white space behind the answer": (
        TURNS.replace("m.content +", "m.content + ' \n' +") + START,
        "red 7 \n",
        f"{THOUGHT} \n",
    ),
    "thoughts are opened, and closed when finished": (
        DROPPED.replace("m.role + '\n' +", "m.role + '\n' + ('</think>' if m.role == 'assistant' else '') +")
        + START.replace("assistant\n", "assistant\n<think>"),
        "\n</think>\n\nred 7",
        "hm\n</think>\n\nred 7",
    ),
    "the closing tag alone, always": (
        TURNS.replace("m.role + '\n' +", "m.role + '\n' + ('</think>' if m.role == 'assistant' else '') +")
        + START.replace("assistant\n", "assistant\n</think>"),
        "red 7",
        "red 7",
    ),
    "a closed block, always": (
        TURNS.replace("m.content", "('<think>\n\n</think>\n' if m.role == 'assistant' else '') + m.content")
        + START.replace("assistant\n", "assistant\n<think>\n\n</think>\n"),
        "red 7",
        "red 7",
    ),
    "as a part of the content": (
        TURNS.replace(
            "+ m.content + '<|im_end|>\n' }}",
            "}}{% if m.content is string %}{{ m.content }}{% else %}"
            "{% for p in m.content %}"
            "{{ '[THINK]' + p.thinking + '[/THINK]' if p.type == 'thinking' else p.text }}{% endfor %}"
            "{% endif %}{{ '<|im_end|>\n' }}",
        )
        + START,
        "red 7",
        "[THINK]hm[/THINK]red 7",
    ),
    "with labels": (
        KEYED.replace("'<think>' + m.KEY + '</think>'", "'Reasoning: ' + m.thinking + '\n'")
        .replace("m.KEY", "m.thinking")
        .replace("{{ m.content", "{{ ('Answer: ' if m.role == 'assistant' else '') + m.content"),
        "Answer: red 7",
        "Reasoning: hm\nAnswer: red 7",
    ),
}
SPELLINGS = {
    "in the text": THOUGHT,
    "on one line": "<think>hm</think>red 7",
    "with the closing tag alone": "hm\n</think>\n\nred 7",
    "under a key": Message(role="assistant", content="red 7", reasoning_content="hm"),
}
KNOW_NO_THOUGHTS = (
    *("as they are", "dropped when finished", "no generation prompt"),
    *("the last question is written otherwise", "a generation prompt that nobody asked for"),
    "white space behind the answer",
)
"""Where the template does not know thoughts, they are a part of the text, which stays as it is written."""


@pytest.mark.parametrize("kind", TARGETS)
def test_a_target_is_what_the_template_writes(with_template: Any, kind: str) -> None:
    template, plain, with_thoughts = TARGETS[kind]
    chat_format = with_template(template)
    assert target(chat_format, "red 7") == f"{plain}<|im_end|>"
    assert target(chat_format, THOUGHT) == f"{with_thoughts}<|im_end|>"


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", [kind for kind in TARGETS if kind not in KNOW_NO_THOUGHTS])
def test_every_spelling_of_thoughts_has_one_reading(with_template: Any, kind: str, spelling: str) -> None:
    chat_format = with_template(TARGETS[kind][0])
    assert target(chat_format, SPELLINGS[spelling]) == target(chat_format, THOUGHT)


@pytest.mark.parametrize("kind", [kind for kind in TARGETS if kind not in KNOW_NO_THOUGHTS])
def test_thoughts_that_never_end_are_refused(with_template: Any, kind: str) -> None:
    with pytest.raises(DataError, match="task a: the demonstration's thoughts never end"):
        with_template(TARGETS[kind][0]).encode_completion("<think>\nhm red 7", where="task a")


@pytest.mark.parametrize("kind", TARGETS)
def test_the_answer_is_found_in_what_was_learned(with_template: Any, kind: str) -> None:
    chat_format = with_template(TARGETS[kind][0])
    ids = chat_format.encode_completion("red 7")
    assert (chat_format.content(ids), chat_format.decode(ids), chat_format.thoughts(ids)) == ("red 7", "red 7", "")
    ids = chat_format.encode_completion(THOUGHT)
    closed = kind in ("thoughts are closed", "the closing tag alone, always", "a closed block, always")
    knows = kind not in KNOW_NO_THOUGHTS and not closed
    assert chat_format.decode(ids) == ("red 7" if closed else THOUGHT)
    assert chat_format.content(ids) == (THOUGHT if kind in KNOW_NO_THOUGHTS else "red 7")
    assert chat_format.thoughts(ids) == ("hm" if knows else "")


TAGS_AS_TEXT = ("explain <think> and </think> tags", "what </think> does", "Answer: 7", "Reasoning: a\nAnswer: 7")


@pytest.mark.parametrize(
    "answer", [*TAGS_AS_TEXT, "\n\nred", "  indented\n\n", "7 \n", "", "Zürich 漢 😀", "word " * 2000]
)
@pytest.mark.parametrize("kind", TARGETS)
def test_every_character_of_an_answer_comes_back(with_template: Any, kind: str, answer: str) -> None:
    """Also if it has tags of thoughts as text. A text with a closing tag alone needs thoughts, maybe empty, before."""
    chat_format = with_template(TARGETS[kind][0])
    if kind in KNOW_NO_THOUGHTS:
        if kind != "dropped when finished":
            assert chat_format.content(chat_format.encode_completion(answer)) == answer
        return
    assert chat_format.content(chat_format.encode_completion(f"<think>\nhm\n</think>\n\n{answer}")) == answer.lstrip(
        "\n"
    )
    is_plain = "</think>" not in answer or "<think>" in answer
    if is_plain and not (kind == "with labels" and answer.startswith("Reasoning")):
        assert chat_format.content(chat_format.encode_completion(answer)) == answer


@pytest.mark.parametrize("kind", ["thoughts are opened", "in a channel", "under thinking"])
def test_a_sample_that_never_closes_its_thoughts_has_no_answer(with_template: Any, kind: str) -> None:
    chat_format = with_template(TARGETS[kind][0])
    frame = {"thoughts are opened": "", "in a channel": "<|box|>note<|im_sep|>", "under thinking": "<think>"}[kind]
    ids = chat_format.template.tokens(f"{frame}hm red 7")
    assert chat_format.content(ids) == ""
    assert chat_format.decode(ids) == "<think>\nhm red 7"


def test_another_channel_is_no_part_of_the_answer(with_template: Any) -> None:
    chat_format = with_template(CHANNELS)
    ids = chat_format.template.tokens("<|box|>aside to=user<|im_sep|>red 7")
    assert chat_format.content(ids) == chat_format.decode(ids) == "red 7"


def test_thoughts_of_earlier_turns_stand_where_the_template_expects_them(with_template: Any) -> None:
    chat_format = with_template(KEYED.replace("KEY", "thinking"))
    asked = Message(role="user", content="Why?")
    for earlier in SPELLINGS.values():
        turn = Message(role="assistant", content=earlier) if isinstance(earlier, str) else earlier
        text = chat_format.tokenizer.decode(chat_format.encode_prompt((*ASKED, turn, asked)))
        assert "<|im_start|>assistant\n<think>hm</think>red 7<|im_end|>" in text


def test_thoughts_of_earlier_turns_have_the_tags_that_the_template_drops(with_template: Any) -> None:
    drops = DROPPED.replace("</think>", "</thought>") + START.replace("assistant\n", "assistant\n<thought>\n")
    chat_format = with_template(drops)
    asked = Message(role="user", content="Why?")
    for earlier in (THOUGHT, "<thought>\nhm\n</thought>\n\nred 7", "red 7"):
        turn = Message(role="assistant", content=earlier)
        text = chat_format.tokenizer.decode(chat_format.encode_prompt((*ASKED, turn, asked)))
        assert "<|im_start|>assistant\nred 7<|im_end|>" in text


@pytest.mark.parametrize("text", ["red 7", THOUGHT])
@pytest.mark.parametrize("kind", TARGETS)
def test_a_rendered_prompt_has_the_target_of_its_messages(with_template: Any, kind: str, text: str) -> None:
    chat_format = with_template(TARGETS[kind][0])
    rendered = chat_format.tokenizer.decode(chat_format.encode_prompt(ASKED))
    given = Example("e", ASKED, demonstration=text)
    already = Example("e", (Message(role="user", content=rendered),), demonstration=text, rendered_prompt=rendered)
    assert chat_format.encode_demonstration(already) == chat_format.encode_demonstration(given)


@pytest.mark.parametrize(
    ("end", "plain", "with_thoughts"),
    [
        ("<think>\n", "\n</think>\n\nred 7", "hm\n</think>\n\nred 7"),
        ("<think>\n\n</think>\n\n", "red 7", "red 7"),
        ("Sure: ", "red 7", THOUGHT),
    ],
)
def test_a_rendered_prompt_of_another_form_is_continued_as_it_ends(
    chat_format: ChatFormat, end: str, plain: str, with_thoughts: str
) -> None:
    rendered = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n" + end
    messages = (Message(role="user", content=rendered),)
    for text, expected in (("red 7", plain), (THOUGHT, with_thoughts)):
        example = Example("e", messages, demonstration=text, rendered_prompt=rendered)
        ids = chat_format.encode_demonstration(example).ids
        assert chat_format.tokenizer.decode(ids) == f"{expected}<|im_end|>"


def test_a_completion_that_is_rendered_too_stays_as_it_is(with_template: Any) -> None:
    chat_format = with_template(CHANNELS)
    rendered = chat_format.tokenizer.decode(chat_format.encode_prompt(ASKED))
    text = "<|box|>final<|im_sep|>red 7"
    example = Example("e", ASKED, demonstration=text, rendered_prompt=rendered)
    assert chat_format.tokenizer.decode(chat_format.encode_demonstration(example).ids) == f"{text}<|im_end|>"


def test_a_rendered_prompt_that_opens_the_thoughts_is_continued(chat_format: ChatFormat) -> None:
    rendered = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n"
    example = Example("e", (Message(role="user", content=rendered),), demonstration=THOUGHT, rendered_prompt=rendered)
    ids = chat_format.encode_demonstration(example).ids
    assert chat_format.tokenizer.decode(ids) == "hm\n</think>\n\nred 7<|im_end|>"


def test_a_tokenizer_that_begins_texts_with_a_space_adds_none_within_a_conversation(tmp_path: Path) -> None:
    """Tokenizers of the SentencePiece kind: the target's tokens are those of the whole conversation."""
    tokenizer = spaced_tokenizer(["<s>", "</s>", "[INST]", "[/INST]"])
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}"
        "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
    )
    chat_format = ChatFormat(tokenizer, frozenset({tokenizer.eos_token_id}))
    ids = [*chat_format.encode_prompt(ASKED), *chat_format.encode_completion("red 7", messages=ASKED)]
    conversation = [*ASKED, Message(role="assistant", content="red 7")]
    assert ids == tokenizer.apply_chat_template(conversation, return_dict=False)
    assert chat_format.content(chat_format.encode_completion("red 7", messages=ASKED)) == "red 7"
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "m.content + eos_token", "' ' + m.content + ' ' + eos_token"
    )
    chat_format = ChatFormat(tokenizer, frozenset({tokenizer.eos_token_id}))
    assert chat_format.template.facts.after_answer == " "
    assert chat_format.content(chat_format.encode_completion("red 7", messages=ASKED)) == "red 7"


def spaced_tokenizer(special: list[str]) -> PreTrainedTokenizerBase:
    words = [f"{space}{word}" for word in ("red", "7", "What", "is", "the", "capital", "?") for space in ("", "▁")]
    vocabulary = {word: i for i, word in enumerate(["<unk>", *words, "▁"])}
    whole = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    whole.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=whole, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.add_special_tokens({"additional_special_tokens": special[2:]})
    return tokenizer


def test_completion_ends_even_if_the_template_ends_no_turn(with_template: Any) -> None:
    chat_format = with_template("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}")
    assert chat_format.template.facts.turn_end_id is None
    assert chat_format.encode_completion("four")[-1] == chat_format.tokenizer.eos_token_id


def test_a_turn_that_ends_with_the_next_ones_beginning_ends_so(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ ('<|box|>' if m.role == 'user' else '<|im_sep|>') + m.content }}{% endfor %}"
    )
    box = tokenizer.convert_tokens_to_ids("<|box|>")
    chat_format = ChatFormat(tokenizer, frozenset({tokenizer.eos_token_id, box}))
    ids = chat_format.encode_completion("four")
    assert tokenizer.decode(ids) == "<|im_sep|>four<|box|>"
    assert tokenizer.decode(chat_format.encode_reply(ASKED, last_id=box)) == "What is the capital?"


def test_turn_end_is_that_of_the_template_not_of_the_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.eos_token = "<|endoftext|>"
    chat_format = ChatFormat(tokenizer, frozenset())
    assert chat_format.template.facts.turn_end_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_demonstration_that_ends_its_own_turn_is_refused(chat_format: ChatFormat) -> None:
    with pytest.raises(DataError, match=r"task a: the demonstration contains '<\|im_end\|>'"):
        chat_format.encode_completion("four<|im_end|>five", where="task a")


def test_decode_leaves_out_only_special_tokens(chat_format: ChatFormat) -> None:
    ids = chat_format.tokenizer("<|im_start|><think>a , b</think>")["input_ids"]
    assert chat_format.decode(ids) == "<think>a , b</think>"
    assert chat_format.decode([]) == ""


def test_a_prompt_that_does_not_fit_is_named() -> None:
    check_fits("t-1", [0] * 8, 8)
    with pytest.raises(
        PromptTooLong, match=r"example 't-1': the prompt has 9 tokens.*limit of 8.*max_prompt_length to 9"
    ):
        check_fits("t-1", [0] * 9, 8)


def test_chat_format_keeps_its_contract(chat_format: ChatFormat) -> None:
    """Prompt, completion and reply are, joined, the conversation as the template writes it."""
    reply = [Message(role="tool", content="42")]
    ids = [
        *chat_format.encode_prompt(MESSAGES),
        *chat_format.encode_completion(TEXT, messages=MESSAGES),
        *chat_format.encode_reply(reply),
    ]
    conversation = [*MESSAGES, Message(role="assistant", content=TEXT), *reply]
    assert ids == chat_format.encode_prompt(conversation)
    assert chat_format.decode(chat_format.encode_completion(TEXT)) == TEXT
    assert chat_format.decode(chat_format.encode_prefill(TEXT)) == TEXT


def test_a_prefill_goes_on_within_the_opened_thoughts(with_template: Any) -> None:
    chat_format = with_template(OPENED)
    prefill = chat_format.tokenizer.decode(chat_format.encode_prefill(f"{THOUGHT}\nNo:"))
    # The next answer begins as every answer does: within thoughts.
    assert prefill == "hm\n</think>\n\nred 7\nNo:<think>\n"
    assert chat_format.tokenizer.decode(chat_format.encode_prefill("<think>\nhm so far")) == "hm so far"


@pytest.mark.parametrize(
    ("template", "lost"),
    [
        (TURNS.replace("for m in messages", "for m in messages if m.role != 'system'") + START, "system"),
        (TURNS.replace("m.content", "(m.content if loop.last else '')") + START, "system"),
        (TURNS.replace("m.content", "m.content[:26]") + START, "user"),
    ],
)
def test_a_template_that_loses_a_message_is_refused(with_template: Any, template: str, lost: str) -> None:
    messages = (MESSAGES[0], Message(role="user", content="What is the capital of France?"))
    chat_format = with_template(template)
    with pytest.raises(DataError, match=f"task a: the chat template does not write the message of role '{lost}'"):
        chat_format.encode_prompt(messages, where="task a")


def test_a_message_that_stands_elsewhere_too_is_not_taken_for_written(with_template: Any) -> None:
    """A dropped system turn is a part of the question; and of two equal questions one is dropped."""
    messages = [Message(role="system", content="Be brief."), Message(role="user", content="Say: Be brief.")]
    with pytest.raises(DataError, match="does not write the message of role 'system'"):
        with_template(TURNS.replace("messages", "messages if m.role != 'system'") + START).encode_prompt(messages)
    found = 'found "Bonn"'
    echoed = [ASKED[0], Message(role="tool", content=found), Message(role="user", content=f"What is {found}?")]
    as_json = TURNS.replace("+ m.content +", "+ (m.content | tojson if m.role == 'tool' else m.content) +")
    assert with_template(as_json + START).encode_prompt(echoed)
    again = [ASKED[0], Message(role="assistant", content="Bonn"), ASKED[0]]
    with pytest.raises(DataError, match="does not write the message of role 'user'"):
        with_template(TURNS.replace("in messages", "in messages[-2:]") + START).encode_prompt(again)


def test_a_template_that_needs_content_in_parts_gets_parts(with_template: Any) -> None:
    in_parts = TURNS.replace("m.content", "m.content[0].text") + START
    loop = "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
    in_loops = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        + loop
        + "{{ '<|im_end|>\n' }}{% endfor %}"
        + START
    )
    for template in (in_parts, in_loops):
        chat_format = with_template(template)
        assert "What is the capital?<|im_end|>" in chat_format.tokenizer.decode(chat_format.encode_prompt(MESSAGES))
        assert target(chat_format, "red 7") == "red 7<|im_end|>"


def test_a_prompt_with_special_tokens_is_refused(chat_format: ChatFormat) -> None:
    rendered = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    example = Example("e", (Message(role="user", content=rendered),))
    with pytest.raises(DataError, match=r"a: the prompt contains '<\|im_start\|>', a special token.*`rendered_prompt`"):
        chat_format.encode_example(example, where="a")


def test_a_token_that_ends_a_turn_within_an_earlier_answer_is_refused(with_template: Any) -> None:
    chat_format = with_template(
        KEYED.replace("KEY", "thinking").replace("<think>", "[THINK]").replace("</think>", "[/THINK]")
    )

    def example(answer: str) -> Example:
        return Example("e", (*ASKED, Message(role="assistant", content=answer), *ASKED))

    with pytest.raises(DataError, match=r"a: the prompt contains '<\|im_end\|>'"):
        chat_format.encode_example(example("red<|im_end|>7"), where="a")
    text = chat_format.tokenizer.decode(chat_format.encode_example(example("[THINK]hm[/THINK]red")))
    assert "assistant\n[THINK]hm[/THINK]red<|im_end|>" in text


def test_a_rendered_prompt_stays_as_it_is(chat_format: ChatFormat) -> None:
    rendered = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    messages = (Message(role="user", content=rendered),)
    example = Example("e", messages, demonstration="four", rendered_prompt=rendered)
    decode = chat_format.tokenizer.decode
    assert decode(chat_format.encode_example(example)) == rendered
    demonstration = chat_format.encode_demonstration(example)
    assert (decode(demonstration.prompt_ids), decode(demonstration.ids)) == (rendered, "four<|im_end|>")
    assert chat_format.encode_teacher_prompt(example, messages) == demonstration.prompt_ids
    with pytest.raises(DataError, match="nothing can be added to a prompt that is rendered already"):
        chat_format.encode_teacher_prompt(example, [Message(role="user", content="Hint. " + rendered)])


def test_earlier_turns_are_trained_on_where_they_stand(chat_format: ChatFormat) -> None:
    turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four"), ("user", "five")]
    messages = tuple(Message(role=role, content=text) for role, text in turns)
    decode = chat_format.tokenizer.decode
    for trained, first in (((1, 3), "one"), ((3,), "three")):
        example = Example("e", messages, demonstration="six", trained_turns=trained)
        demonstration = chat_format.encode_demonstration(example)
        assert [*demonstration.prompt_ids, *demonstration.ids] == [
            *chat_format.encode_prompt(messages),
            *chat_format.encode_completion("six", messages=messages),
        ]
        assert decode(demonstration.prompt_ids).endswith(f"{first}<|im_end|>\n<|im_start|>assistant\n")
        assert demonstration.tool_mask is not None
        learned = [token for token, own in zip(demonstration.ids, demonstration.tool_mask, strict=True) if own]
        texts = [text for index, text in ((1, "two"), (3, "four")) if index in trained]
        assert decode(learned) == "".join(f"{text}<|im_end|>" for text in [*texts, "six"])


def test_an_earlier_turn_that_ends_with_no_token_has_no_words_of_others(with_template: Any) -> None:
    """The question after it ends with the token that ends the last answer."""
    chat_format = with_template(
        TURNS.replace("+ '<|im_end|>", "+ ('' if m.role == 'assistant' and not loop.last else '<|im_end|>') + '")
        + START
    )
    turns = [("user", "one"), ("assistant", "two"), ("user", "three")]
    messages = tuple(Message(role=role, content=text) for role, text in turns)
    found = chat_format.encode_demonstration(Example("e", messages, demonstration="four", trained_turns=(1,)))
    assert found.tool_mask is not None
    learned = [token for token, own in zip(found.ids, found.tool_mask, strict=True) if own]
    assert chat_format.tokenizer.decode(learned) == "twofour<|im_end|>"


def test_earlier_turns_that_the_template_changes_are_refused(with_template: Any) -> None:
    messages = tuple(Message(role=r, content=t) for r, t in (("user", "a"), ("assistant", "b"), ("user", "c")))
    example = Example("e", messages, demonstration="d", trained_turns=(1,))
    with pytest.raises(DataError, match="changes an earlier turn of the assistant"):
        with_template(DROPPED + START.replace("assistant\n", "assistant\n<think>\n")).encode_demonstration(example)


REPLIES = ['say "hi"', "two\nlines", "Zürich, 5 °C", "{'a': [1]}", "<b>bold</b>", "  spaces  "]


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize(
    "written",
    ["m.content", "m.content | tojson", "m.content | trim", "'<out>' + m.content + '</out>'"],
)
def test_a_reply_may_have_any_text_and_the_template_may_write_it_as_json(
    with_template: Any, written: str, reply: str
) -> None:
    turn = f"{{% if m.role == 'tool' %}}{{{{ {written} }}}}{{% else %}}{{{{ m.content }}}}{{% endif %}}"
    template = f"{{% for m in messages %}}{{{{ '<|im_start|>' + m.role }}}}\n{turn}<|im_end|>\n{{% endfor %}}" + START
    chat_format = with_template(template)
    text = chat_format.tokenizer.decode(chat_format.encode_reply([Message(role="tool", content=reply)]))
    assert text.startswith("\n<|im_start|>tool\n")
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_a_reply_that_the_template_drops_is_refused(with_template: Any) -> None:
    chat_format = with_template(TURNS.replace("messages", "messages if m.role != 'tool'") + START)
    with pytest.raises(DataError, match="e: the chat template does not write a reply of role 'tool'"):
        chat_format.encode_reply([Message(role="tool", content="42")], where="e")


def test_a_template_that_ends_only_the_last_turn_has_replies(with_template: Any) -> None:
    turns = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% endfor %}"
    chat_format = with_template(
        turns + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% else %}{{ '<|im_end|>' }}{% endif %}"
    )
    ids = chat_format.encode_completion("four", messages=ASKED)
    assert chat_format.tokenizer.decode(ids) == "four<|im_end|>"
    reply = chat_format.encode_reply([Message(role="user", content="why?")], last_id=ids[-1])
    assert chat_format.tokenizer.decode(reply) == "<|im_start|>user\nwhy?<|im_start|>assistant\n"


def test_a_template_that_ends_earlier_turns_with_another_token_has_replies(with_template: Any) -> None:
    chat_format = with_template(CHANNELS)
    ids = chat_format.encode_completion("four", messages=ASKED)
    reply = chat_format.encode_reply([Message(role="user", content="why?")], last_id=ids[-1])
    text = chat_format.tokenizer.decode(reply)
    assert text == "<|im_start|>user<|im_sep|>why?<|note_end|><|im_start|>assistant"


def test_tool_calls_are_written_by_the_template_or_refused(with_template: Any) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}
    turn = Message(role="assistant", content="", tool_calls=[call])
    calls = (
        "{% for c in m.tool_calls or [] %}{{ c.function.name + ' ' }}{{ c.function.arguments | tojson }}{% endfor %}"
    )
    knows = TURNS.replace("+ '<|im_end|>\n' }}", "}}" + calls + "{{ '<|im_end|>\n' }}") + START
    assert target(with_template(knows), turn) == 'weather {"city": "Bonn"}<|im_end|>'
    with pytest.raises(DataError, match="task a: the chat template does not write the tool calls"):
        with_template(TURNS + START).encode_completion(turn, where="task a")
    one = knows.replace(
        "{% for m", "{% for m in messages if m.tool_calls %}{{ raise_exception('One call.') }}{% endfor %}{% for m"
    )
    with pytest.raises(DataError, match="task a: the chat template refuses the demonstration: One call"):
        with_template(one).encode_completion(turn, where="task a")


def test_tools_reach_the_template_or_are_refused(with_template: Any) -> None:
    tools = ({"type": "function", "function": {"name": "weather", "parameters": {}}},)
    example = Example("e", ASKED, tools=tools)
    with pytest.raises(DataError, match="task a: the chat template does not write the tool 'weather'"):
        with_template(TURNS + START).encode_example(example, where="task a")
    for nameless in ({"type": "function", "function": {"description": "x"}}, {"function": "weather"}):
        with pytest.raises(DataError, match="task a: the chat template does not write the tool ''"):
            with_template(TURNS + START).encode_example(Example("e", ASKED, tools=(nameless,)), where="task a")
    named = Example("e", (Message(role="user", content="What is the weather?"),), tools=tools)
    with pytest.raises(DataError, match="task a: the chat template does not write the tool 'weather'"):
        with_template(TURNS + START).encode_example(named, where="task a")
    chat_format = with_template("{% for t in tools or [] %}{{ t.function.name }};{% endfor %}" + TURNS + START)
    assert chat_format.tokenizer.decode(chat_format.encode_example(example)).startswith("weather;")


def test_the_date_is_the_given_one_on_every_day(tokenizer: PreTrainedTokenizerBase) -> None:
    macro = "{% macro head(f) %}{{ 'On ' ~ strftime_now(f) }}{% endmacro %}"
    tokenizer.chat_template = "{{ strftime_now('%Y-%m-%d') }}" + macro + "{{ head('%d %B %Y') }}" + TURNS + START
    eos = frozenset({tokenizer.eos_token_id})
    chat_format = ChatFormat(tokenizer, eos, today=date(2024, 2, 29))
    assert tokenizer.decode(chat_format.encode_prompt(MESSAGES)).startswith("2024-02-29On 29 February 2024<")
    assert any("2024-02-29" in remark for remark in chat_format.template.remarks())
    assert ChatFormat(tokenizer, eos).encode_prompt(MESSAGES) != chat_format.encode_prompt(MESSAGES)


def test_the_date_is_the_given_one_in_every_form_and_in_a_template_for_tools(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    form = "%a %A %w %d %b %B %m %y %Y %j %U %W %c %x %X %u %V %G %D %F %T %R %e %h %C %-d %-m %H:%M:%S%z"
    dated = (
        "{{ strftime_now('"
        + form
        + "') }}"
        + "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
        + TURNS
        + START
    )
    tokenizer.chat_template = {"default": dated, "tool_use": "Tools. " + dated}
    day = date(2024, 2, 9)
    chat_format = ChatFormat(tokenizer, frozenset({tokenizer.eos_token_id}), today=day)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    expected = datetime.combine(day, time()).strftime(form)
    assert tokenizer.decode(chat_format.encode_prompt(MESSAGES)).startswith(f"{expected}<|im_start|>")
    assert tokenizer.decode(chat_format.encode_prompt(MESSAGES, tools=tools)).startswith(f"Tools. {expected}weather")

"""`holdfast.data.chat`: token ids of prompts and completions with the tokenizer's chat template."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from holdfast.data.chat import (
    ChatFormat,
    PromptTooLong,
    check_fits,
    decode,
    encode_completion,
    encode_prompt,
    turn_end_id,
)
from holdfast.data.example import Message
from holdfast.errors import DataError

MESSAGES = (Message(role="system", content="Be brief."), Message(role="user", content="What is the capital?"))
TEXT = "<reasoning>\nParis.\n</reasoning>"


@pytest.fixture
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_model)


def eos(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    return frozenset({tokenizer.eos_token_id})


def test_prompt_is_the_rendered_conversation(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = encode_prompt(tokenizer, MESSAGES)
    rendered = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is the capital?<|im_end|>\n"
    assert all(type(token) is int for token in ids)
    assert tokenizer.decode(ids) == rendered + "<|im_start|>assistant\n"


def test_template_arguments_reach_the_template(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = encode_prompt(tokenizer, MESSAGES, {"enable_thinking": False})
    assert tokenizer.decode(ids).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_a_refused_conversation_gives_one_line(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(DataError, match=r"^task a: the chat template refuses .*System role not supported"):
        encode_prompt(tokenizer, MESSAGES, where="task a")


@pytest.mark.parametrize("kwargs", [{}, {"enable_thinking": False}])
def test_completion_continues_the_prompt_and_ends_the_turn(
    tokenizer: PreTrainedTokenizerBase, kwargs: dict[str, bool]
) -> None:
    ids = encode_completion(tokenizer, TEXT, eos(tokenizer), kwargs)
    assert tokenizer.decode(ids) == TEXT + "<|im_end|>"
    assert ids.count(tokenizer.eos_token_id) == 1
    assert decode(tokenizer, ids, eos(tokenizer)) == TEXT


def test_completion_has_what_the_template_writes_before_the_text(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    ids = encode_completion(tokenizer, TEXT, eos(tokenizer))
    assert tokenizer.decode(ids) == f"<think>\n\n</think>\n\n{TEXT}<|im_end|>"


def test_completion_keeps_text_that_the_template_drops(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content.split('</think>')[-1] + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    ids = encode_completion(tokenizer, "<think>hm</think>four", eos(tokenizer))
    assert tokenizer.decode(ids) == "<think>hm</think>four<|im_end|>"


def test_completion_ends_even_if_the_template_ends_no_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    assert turn_end_id(tokenizer) is None
    assert encode_completion(tokenizer, "four", eos(tokenizer))[-1] == tokenizer.eos_token_id


def test_turn_end_is_that_of_the_template_not_of_the_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.eos_token = "<|endoftext|>"
    assert turn_end_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_demonstration_that_ends_its_own_turn_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataError, match=r"task a: the demonstration contains '<\|im_end\|>'"):
        encode_completion(tokenizer, "four<|im_end|>five", eos(tokenizer), where="task a")


def test_decode_leaves_out_only_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("<|im_start|><think>a , b</think>")["input_ids"]
    assert decode(tokenizer, ids, eos(tokenizer)) == "<think>a , b</think>"
    assert decode(tokenizer, [], eos(tokenizer)) == ""


def test_a_prompt_that_does_not_fit_is_named() -> None:
    check_fits("t-1", [0] * 8, 8)
    with pytest.raises(
        PromptTooLong, match=r"example 't-1': the prompt has 9 tokens.*limit of 8.*max_prompt_length to 9"
    ):
        check_fits("t-1", [0] * 9, 8)


def test_chat_format_keeps_its_contract(tokenizer: PreTrainedTokenizerBase) -> None:
    """Prompt, completion and reply are, joined, the conversation as the template writes it."""
    chat_format = ChatFormat(tokenizer, eos(tokenizer))
    reply = [Message(role="tool", content="42")]
    ids = [
        *chat_format.encode_prompt(MESSAGES),
        *chat_format.encode_completion(TEXT),
        *chat_format.encode_reply(reply),
    ]
    conversation = [*MESSAGES, Message(role="assistant", content=TEXT), *reply]
    assert ids == encode_prompt(tokenizer, conversation)
    assert chat_format.decode(chat_format.encode_completion(TEXT)) == TEXT
    assert chat_format.decode(chat_format.encode_text(TEXT)) == TEXT

"""`holdfast.data.chat`: the beginning of a right answer and its target in tokens, for each family of models."""

import re
from functools import cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from families import FAMILIES, Family
from holdfast.data.chat import ChatFormat
from holdfast.data.example import Example, Message
from holdfast.errors import DataError

BY_NAME = {family.name: family for family in FAMILIES}
WORDS = st.text("abc blü7:.\n-", min_size=1, max_size=12)


@cache
def chat_format(name: str) -> ChatFormat:
    family: Family = BY_NAME[name]
    tokenizer = family.tokenizer()
    return ChatFormat(tokenizer, frozenset(tokenizer.convert_tokens_to_ids(list(family.ends or (family.eos,)))))


def example(prefix: str | None, target: str, **more: str) -> Example:
    return Example("e", (Message(role="user", content="Which one?"),), gen_prefix=prefix, target=target, **more)


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=30, deadline=None)
@given(prefix=WORDS | st.just(""), target=WORDS)
def test_both_together_are_what_the_model_would_write(name: str, prefix: str, target: str) -> None:
    made = chat_format(name)
    if BY_NAME[name].strips_right:  # white space right behind the prompt cannot be written at all
        assume(not (prefix + target)[0].isspace())
    beginning, wanted = made.encode_forced(example(prefix, target))
    assert wanted
    prompt = made.encode_example(example(prefix, target))
    text = made.tokenizer.decode([*prompt, *beginning, *wanted], clean_up_tokenization_spaces=False)
    assert text.endswith(prefix + target)
    expected = made.template.tokens(text)
    if expected[: len(prompt)] != prompt:  # the first token would span the end of the prompt, which is given as it is
        expected = [*prompt, *made.template.tokens(text[len(made.tokenizer.decode(prompt)) :])]
    assert [*prompt, *beginning, *wanted] == expected
    # What is forced is a part of the prefix: nothing of the target is given away.
    forced = made.tokenizer.decode([*prompt, *beginning], clean_up_tokenization_spaces=False)
    assert text.startswith(forced.rstrip("�"))
    assert len(forced.rstrip("�")) <= len(text) - len(target)
    # A target that begins a word of its own leaves the whole prefix to the beginning.
    alone = made.encode_forced(example(prefix, f" {target.strip() or 'x'}"))[0]
    if not prefix or re.search(r"[a-z]$", prefix):
        assert made.tokenizer.decode([*prompt, *alone], clean_up_tokenization_spaces=False).endswith(prefix)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_right_answer_begins_with_both(name: str) -> None:
    """Training on the whole answer trains on these very tokens. They begin with what the template writes before it."""
    made = chat_format(name)
    beginning, wanted = made.encode_forced(example("The answer is", " red 7."))
    completion = made.encode_completion("The answer is red 7.", messages=example(None, "x").messages)
    assert completion[: len(beginning) + len(wanted)] == [*beginning, *wanted]
    assert made.tokenizer.decode(wanted) == " red 7."
    without = made.encode_forced(example(None, "The answer is red 7."))
    assert [*without[0], *without[1]] == [*beginning, *wanted]


@pytest.mark.parametrize("name", BY_NAME)
def test_a_rendered_prompt_is_continued_as_the_template_continues_it(name: str) -> None:
    made = chat_format(name)
    rendered = made.template.render(example(None, "x").messages, prompt=True)
    assert made.encode_forced(example("It is", " red.", rendered_prompt=rendered)) == made.encode_forced(
        example("It is", " red.")
    )
    plain = made.encode_forced(example("It is", " red.", rendered_prompt="Question: which? Answer:"))
    assert made.tokenizer.decode([*plain[0], *plain[1]]) == "It is red."


def test_a_token_that_spans_the_border_is_the_targets() -> None:
    """The space before a word is one token with it. Given the space alone, a model has to write a rarity."""
    made = chat_format("qwen2")
    word = next(text for text in map(made.tokenizer.decode, range(len(made.tokenizer))) if re.match(" [a-z]+$", text))
    whole = made.encode_forced(example("red", word))
    healed = made.encode_forced(example("red ", word[1:]))
    assert healed == whole
    assert made.tokenizer.decode(healed[1]) == word


def test_a_token_that_ends_a_turn_is_refused() -> None:
    with pytest.raises(DataError, match="which ends a turn"):
        chat_format("qwen2").encode_forced(example("It is", " red<|im_end|>"))

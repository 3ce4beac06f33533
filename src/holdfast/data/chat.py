"""Chat templates: from messages to token ids and back. Importable without torch.

`ChatFormat` is everything that holdfast asks of a tokenizer and its chat template. It makes four promises:

1. **Prompt.** `encode_prompt` gives the conversation up to the point at which the assistant begins to write.
2. **Completion.** `encode_completion` gives what follows a prompt if the assistant writes a given text. It ends with
   exactly one token that ends a turn, as a sampled completion does.
3. **Reply.** `encode_reply` gives what follows a sampled completion if somebody else replies: from the end of the
   assistant's turn up to the point at which the assistant writes again. The sampled tokens stay as they are.
4. **Text.** `decode` gives the text of a completion. Verifiers and environments see this text.

So a sampled completion and a demonstration of the same text have the same form, and an episode of several turns is one
sequence of tokens in which no sampled token is ever encoded again.

Chat templates differ, and each promise says what happens if a template does not fit:

- A template may refuse a conversation, e.g. one with a system message. This is a `DataError`.
- A template may write something before the assistant's text, e.g. an empty block of reasoning. It is part of the
  completion.
- A template may drop or change a part of the text, e.g. its reasoning, or may not end the turn with a token of
  `eos_ids`. Then the completion is the text's own tokens and the token that ends a turn.
- A template may drop or change earlier turns of the assistant. Then it has no replies: `encode_reply` is a `DataError`.

Nothing is ever cut to fit a length. `check_fits` refuses what is too long.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from holdfast.data.example import Message
from holdfast.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptTooLong(DataError):  # noqa: N818 - the name says it
    """A prompt that is longer than a setting allows.

    Args:
        example_id: the example that the prompt is made from.
        length: of the prompt, in tokens.
        limit: the longest prompt allowed, in tokens.
        what: which prompt, e.g. "prompt" or "teacher's prompt".
        setting: the training setting that sets the limit.
    """

    def __init__(
        self, example_id: str, length: int, limit: int, what: str = "prompt", setting: str = "max_prompt_length"
    ) -> None:
        self.example_id, self.length, self.limit = example_id, length, limit
        super().__init__(
            f"the {what} has {length} tokens, more than the limit of {limit}",
            where=f"example {example_id!r}",
            fix=f"raise train.{setting} to {length}, or drop such examples with train.long_prompts: drop",
        )


@dataclass(frozen=True)
class ChatFormat:
    """A model's chat format: its tokenizer, the tokens that end a turn, and the arguments of its chat template.

    The module's docstring states the contract.

    Args:
        tokenizer: with a chat template.
        eos_ids: the tokens that end a completion.
        chat_template_kwargs: passed to the chat template at every call, e.g. `enable_thinking`.
    """

    tokenizer: "PreTrainedTokenizerBase"
    eos_ids: Collection[int]
    chat_template_kwargs: Mapping[str, Any] | None = None

    def encode_prompt(self, messages: Sequence[Message], *, where: str = "") -> list[int]:
        """See the function `encode_prompt`."""
        return encode_prompt(self.tokenizer, messages, self.chat_template_kwargs, where=where)

    def encode_completion(self, text: str, *, where: str = "") -> list[int]:
        """See the function `encode_completion`."""
        return encode_completion(self.tokenizer, text, self.eos_ids, self.chat_template_kwargs, where=where)

    def encode_reply(self, messages: Sequence[Message], *, where: str = "") -> list[int]:
        """See the function `encode_reply`."""
        return encode_reply(self.tokenizer, messages, self.eos_ids, self.chat_template_kwargs, where=where)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text without the chat template, to continue a turn with."""
        return _tokens(self.tokenizer, text)

    def decode(self, ids: Sequence[int]) -> str:
        """See the function `decode`."""
        return decode(self.tokenizer, ids, self.eos_ids)


def check_fits(
    example_id: str,
    prompt_ids: Sequence[int],
    limit: int,
    what: str = "prompt",
    setting: str = "max_prompt_length",
) -> None:
    """Raise `PromptTooLong` if a prompt has more than `limit` tokens. See there for the arguments."""
    if len(prompt_ids) > limit:
        raise PromptTooLong(example_id, len(prompt_ids), limit, what, setting)


def encode_prompt(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    chat_template_kwargs: Mapping[str, Any] | None = None,
    *,
    where: str = "",
) -> list[int]:
    """Token ids of a conversation up to the point at which the assistant begins to write.

    Args:
        tokenizer: with a chat template.
        messages: the conversation.
        chat_template_kwargs: passed to the chat template.
        where: names the conversation in error messages.

    Raises:
        DataError: the template refuses the conversation, e.g. because it has no place for a system message.
    """
    try:
        ids = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_dict=False, **(chat_template_kwargs or {})
        )
    except TemplateError as error:
        raise DataError(
            f"the chat template refuses the conversation: {error}",
            where=where,
            fix="change the messages, or model.chat_template_kwargs",
        ) from error
    return list(ids)


def encode_completion(
    tokenizer: "PreTrainedTokenizerBase",
    text: str,
    eos_ids: Collection[int],
    chat_template_kwargs: Mapping[str, Any] | None = None,
    *,
    where: str = "",
) -> list[int]:
    """Token ids of an assistant's turn as the template writes it, up to and including the token that ends it.

    The turn is what the rendered conversation has after the generation prompt. If the template does not write the whole
    text there (some drop reasoning), or ends the turn with no token of `eos_ids`, the completion is the text's own
    tokens and the token that ends a turn.

    Args:
        tokenizer: with a chat template.
        text: what the assistant writes.
        eos_ids: tokens that end a completion (`Policy.eos_ids`).
        chat_template_kwargs: passed to the chat template.
        where: names the text in error messages.

    Raises:
        DataError: the text contains one of `eos_ids`. Sampling would end there, so the rest could never be learned.
    """
    text_ids = _tokens(tokenizer, text)
    inside = next((token for token in text_ids if token in eos_ids), None)
    if inside is not None:
        raise DataError(
            f"the demonstration contains {tokenizer.decode([inside])!r}, which ends a turn",
            where=where,
            fix="remove it from the text; it is added at the end",
        )
    turn = _rendered_turn(tokenizer, text, chat_template_kwargs)
    end = next((index for index, token in enumerate(turn) if token in eos_ids), None)
    if end is not None:
        return turn[: end + 1]
    last = turn_end_id(tokenizer, chat_template_kwargs)
    if last is None or last not in eos_ids:
        last = tokenizer.eos_token_id if tokenizer.eos_token_id in eos_ids else min(eos_ids)
    return [*text_ids, last]


def encode_reply(
    tokenizer: "PreTrainedTokenizerBase",
    reply: Sequence[Message],
    eos_ids: Collection[int],
    chat_template_kwargs: Mapping[str, Any] | None = None,
    *,
    where: str = "",
) -> list[int]:
    """Token ids of a reply to a sampled turn: from the end of that turn up to the point at which the assistant writes
    again.

    The sampled tokens are never encoded again, because encoding their text could give other tokens than were sampled.
    Instead, the template renders a stand-in for the sampled turn. What it writes after the stand-in is what it writes
    after any turn.

    Args:
        tokenizer: with a chat template.
        reply: what an environment answers, e.g. one message of a tool.
        eos_ids: tokens that end a completion; the last sampled token is one of them.
        chat_template_kwargs: passed to the chat template.
        where: names the reply in error messages.

    Raises:
        DataError: the template refuses such messages after an assistant's turn, or does not keep that turn as it is.
    """
    try:
        turn_last, turn_answered = (
            str(tokenizer.apply_chat_template(conversation, tokenize=False, **kwargs, **(chat_template_kwargs or {})))
            for conversation, kwargs in (
                ([_QUESTION, _STAND_IN], {}),
                ([_QUESTION, _STAND_IN, *reply], {"add_generation_prompt": True}),
            )
        )
    except TemplateError as error:
        raise DataError(
            f"the chat template refuses the environment's answer: {error}",
            where=where,
            fix="answer in a role that the template knows",
        ) from error
    # Only what comes after the turn must be equal in both conversations. What comes before it may depend on whether
    # the turn is the last one: some templates open only the last turn with a block of reasoning.
    _, turn_written, closing = turn_last.partition(_STAND_IN["content"])
    _, turn_kept, after_turn = turn_answered.partition(_STAND_IN["content"])
    reply_written = all(message["content"].strip() in after_turn for message in reply)
    if not turn_written or not turn_kept or not after_turn.startswith(closing) or not reply_written:
        raise DataError(
            "the chat template changes an assistant's turn when a reply follows it",
            where=where,
            fix="use a template that keeps earlier turns, or a task of one turn",
        )
    # The token that ends the turn was sampled. What the template writes after it, e.g. a newline, was not, so the
    # reply begins with it.
    end = next((index for index, token in enumerate(_tokens(tokenizer, closing)) if token in eos_ids), -1)
    return _tokens(tokenizer, after_turn)[end + 1 :]


def decode(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], eos_ids: Collection[int]) -> str:
    """The text of a completion, without the token that ends it and without other special tokens."""
    if ids and ids[-1] in eos_ids:
        ids = ids[:-1]
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def turn_end_id(
    tokenizer: "PreTrainedTokenizerBase", chat_template_kwargs: Mapping[str, Any] | None = None
) -> int | None:
    """The special token that the chat template writes after an assistant's text; None if it writes none.

    It need not be the tokenizer's `eos_token`: many base models ship a chat template that ends turns with another one.
    """
    text = "OK"
    try:
        rendered = _render(tokenizer, text, chat_template_kwargs)
    except TemplateError:
        return None
    special = {*tokenizer.all_special_ids, *(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)}
    for token in _tokens(tokenizer, rendered.rpartition(text)[2]):
        if token in special:
            return token
        if tokenizer.decode([token]).strip():
            break
    return None


_QUESTION = Message(role="user", content="Hello")

_STAND_IN = Message(role="assistant", content="turn 7261 of holdfast")
"""Stands for a sampled turn. The whole text occurs in no template, so it marks where the turn is when rendered."""


def _tokens(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _render(tokenizer: "PreTrainedTokenizerBase", text: str, kwargs: Mapping[str, Any] | None) -> str:
    conversation = [_QUESTION, Message(role="assistant", content=text)]
    return str(tokenizer.apply_chat_template(conversation, tokenize=False, **(kwargs or {})))


def _rendered_turn(tokenizer: "PreTrainedTokenizerBase", text: str, kwargs: Mapping[str, Any] | None) -> list[int]:
    """What the template writes after the generation prompt, or [] if that does not contain the whole text."""
    try:
        prompt = str(
            tokenizer.apply_chat_template([_QUESTION], add_generation_prompt=True, tokenize=False, **(kwargs or {}))
        )
        rendered = _render(tokenizer, text, kwargs)
    except TemplateError:
        return []
    if not rendered.startswith(prompt) or text.strip() not in rendered[len(prompt) :]:
        return []
    prompt_ids, ids = _tokens(tokenizer, prompt), _tokens(tokenizer, rendered)
    if ids[: len(prompt_ids)] == prompt_ids:
        return ids[len(prompt_ids) :]
    # A token spans the border between prompt and turn. At sampling the prompt is encoded alone, so the turn is too.
    return _tokens(tokenizer, rendered[len(prompt) :])

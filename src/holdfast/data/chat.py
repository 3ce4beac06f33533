"""From messages to token ids and back, by the tokenizer's own chat template. Importable without torch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from holdfast.data.example import Message
from holdfast.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptTooLong(DataError):  # noqa: N818 - the name says it
    """A prompt that does not fit; nothing is ever cut to make it fit.

    Args:
        example_id: the example that the prompt is made of.
        length: of the prompt, in tokens.
        limit: the longest prompt allowed, in tokens.
        what: which prompt, e.g. "prompt" or "teacher's prompt".
        setting: the training setting that limits it.
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
    """How what is said and its tokens go into each other: a model's tokenizer, its template, and what ends a turn."""

    tokenizer: "PreTrainedTokenizerBase"
    eos_ids: Collection[int]
    chat_template_kwargs: Mapping[str, Any] | None = None

    def text(self, ids: Sequence[int]) -> str:
        """See `decode`."""
        return decode(self.tokenizer, ids, self.eos_ids)

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text as it stands, within a turn."""
        return _tokens(self.tokenizer, text)

    def reply(self, messages: Sequence[Message], *, where: str = "") -> list[int]:
        """See `encode_reply`."""
        return encode_reply(self.tokenizer, messages, self.eos_ids, self.chat_template_kwargs, where=where)


def check_fits(
    example_id: str,
    prompt_ids: Sequence[int],
    limit: int,
    what: str = "prompt",
    setting: str = "max_prompt_length",
) -> None:
    """Raise `PromptTooLong` where a prompt has more tokens than `limit`, which is that of the training `setting`."""
    if len(prompt_ids) > limit:
        raise PromptTooLong(example_id, len(prompt_ids), limit, what, setting)


def encode_prompt(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    chat_template_kwargs: Mapping[str, Any] | None = None,
    *,
    where: str = "",
) -> list[int]:
    """Token ids of a conversation up to the point where the assistant begins to write.

    Raises:
        DataError: the template refuses the conversation, e.g. a system message that it has no place for.
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

    The turn is what the rendered conversation has after the generation prompt. Where the template writes something
    else there than the text (some drop reasoning) or ends the turn with no token of `eos_ids`, it is the text's own
    tokens and the turn's end.

    Args:
        eos_ids: tokens that end a completion (`Policy.eos_ids`).

    Raises:
        DataError: the text itself contains one of `eos_ids`, so training on it would teach only its first part.
    """
    own = _tokens(tokenizer, text)
    inside = next((token for token in own if token in eos_ids), None)
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
    return [*own, last]


def encode_reply(
    tokenizer: "PreTrainedTokenizerBase",
    reply: Sequence[Message],
    eos_ids: Collection[int],
    chat_template_kwargs: Mapping[str, Any] | None = None,
    *,
    where: str = "",
) -> list[int]:
    """Token ids of what answers an assistant's turn, from that turn's end to where the assistant writes again.

    What was sampled is never tokenized anew: these follow the sampled tokens, whose last one ended the turn.

    Raises:
        DataError: the template refuses such messages after an assistant's turn, or does not write that turn out.
    """
    try:
        before, after = (
            str(tokenizer.apply_chat_template(conversation, tokenize=False, **kwargs, **(chat_template_kwargs or {})))
            for conversation, kwargs in (
                ([_QUESTION, _SAID], {}),
                ([_QUESTION, _SAID, *reply], {"add_generation_prompt": True}),
            )
        )
    except TemplateError as error:
        raise DataError(
            f"the chat template refuses the environment's answer: {error}",
            where=where,
            fix="answer in a role that the template knows",
        ) from error
    # The words before a turn may depend on whether it is the last, as a block of reasoning does; those behind it not.
    (_, closed, closing), (_, found, rest) = before.partition(_SAID["content"]), after.partition(_SAID["content"])
    told = all(message["content"].strip() in rest for message in reply)
    if not closed or not found or not rest.startswith(closing) or not told:
        raise DataError(
            "the chat template does not write an answer behind an assistant's turn as it stands",
            where=where,
            fix="use a template that keeps earlier turns, or a task of one turn",
        )
    # The end of the assistant's turn was sampled; what the template writes behind it, such as a line end, was not.
    end = next((index for index, token in enumerate(_tokens(tokenizer, closing)) if token in eos_ids), -1)
    return _tokens(tokenizer, rest)[end + 1 :]


def decode(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], eos_ids: Collection[int]) -> str:
    """The text of a completion, without the token that ends it and without other special tokens."""
    if ids and ids[-1] in eos_ids:
        ids = ids[:-1]
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def turn_end_id(
    tokenizer: "PreTrainedTokenizerBase", chat_template_kwargs: Mapping[str, Any] | None = None
) -> int | None:
    """The special token that the chat template writes after an assistant's text; None where it writes none.

    Base models often ship a chat template whose turn end is not their `eos_token`.
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

_SAID = Message(role="assistant", content="turn 7261 of holdfast")
"""Words that no template has."""


def _tokens(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _render(tokenizer: "PreTrainedTokenizerBase", text: str, kwargs: Mapping[str, Any] | None) -> str:
    conversation = [_QUESTION, Message(role="assistant", content=text)]
    return str(tokenizer.apply_chat_template(conversation, tokenize=False, **(kwargs or {})))


def _rendered_turn(tokenizer: "PreTrainedTokenizerBase", text: str, kwargs: Mapping[str, Any] | None) -> list[int]:
    """What the template writes after the generation prompt, or [] where that is not the text in full."""
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
    return _tokens(tokenizer, rendered[len(prompt) :])

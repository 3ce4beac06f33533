"""Chat templates: from messages to token ids and back. Importable without torch.

`ChatFormat` is everything that holdfast asks of a tokenizer and its chat template. It makes four promises:

1. **Prompt.** `encode_prompt` gives the conversation as the template writes it, up to the point at which the assistant
   begins to write. Every message's content is in it.
2. **Completion.** `encode_completion` gives what the template writes after that prompt if the assistant answers. It
   ends with exactly one token that ends a turn, as a sampled completion does.
3. **Reply.** `encode_reply` gives what follows a sampled completion if somebody else replies: from the end of the
   assistant's turn up to the point at which the assistant writes again. The sampled tokens stay as they are.
4. **Text.** `content` gives the answer alone, without thoughts and without what the template writes around it.
   Verifiers and environments see this text. `decode` has the thoughts too. Reports, rules and teachers see this text.

So a sampled completion and a demonstration of the same text have the same form, and an episode of several turns is one
sequence of tokens in which no sampled token is ever encoded again.

Chat templates differ, and each promise says what happens if a template does not fit:

- A template may refuse a conversation or drop one of its messages, e.g. a system message. This is a `DataError`.
- A template may write something before the answer, e.g. an empty block of thoughts. It is part of the completion.
- A template may write thoughts in tags of its own. A demonstration's thoughts are written there, and a sample's are
  found there. `holdfast.data.thoughts` says how thoughts are written in data.
- A prompt may open the thoughts. A demonstration without thoughts then closes them at once. A sample that never closes
  them has no answer.
- A prompt may close the thoughts. Then those of a demonstration are left out.
- A template may drop or change a part of the answer, or write a finished turn otherwise than the beginning of one. Then
  the completion is the answer's own tokens in the template's frame, and the token that ends a turn.
- A template may drop or change earlier turns of the assistant, or drop the reply. Then `encode_reply` is a `DataError`.

Nothing is ever cut to fit a length. `check_fits` refuses what is too long.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from holdfast.data.chat_template import (
    ANSWER,
    QUESTION,
    ChatTemplate,
    missing_message,
    special_token_in,
    written,
)
from holdfast.data.completion_text import plain_text, thoughts_and_answer
from holdfast.data.example import Example, Message
from holdfast.data.thoughts import CLOSING, OPENING, closing_tag, join_thoughts, split_thoughts
from holdfast.errors import DataError

if TYPE_CHECKING:
    from holdfast.data.chat_template import PreTrainedTokenizerBase


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
class Demonstration:
    """A demonstration in tokens.

    Args:
        prompt_ids: the conversation before the first turn that is trained on.
        ids: everything after it, up to the end of the last turn.
        tool_mask: for each of `ids`, 1 if the assistant wrote it in a turn that is trained on, else 0; None for 1.
        text: the last turn's text.
    """

    prompt_ids: list[int]
    ids: list[int]
    tool_mask: list[int] | None
    text: str


@dataclass(frozen=True)
class ReadCompletion:
    """A completion, read.

    Args:
        content: the answer alone. Empty if the thoughts never end.
        thoughts: before it; "" if there are none, or if the template does not know thoughts.
        text: thoughts, as data has them, and answer.
    """

    content: str
    thoughts: str
    text: str


@dataclass(frozen=True)
class ChatFormat:
    """A model's chat format: its tokenizer, the tokens that end a turn, and the arguments of its chat template.

    The module's docstring states the contract.

    Args:
        tokenizer: with a chat template.
        eos_ids: the tokens that end a completion.
        chat_template_kwargs: passed to the chat template at every call, e.g. `enable_thinking`.
        today: the date that the chat template writes, if it writes one; None for the day of the call.
    """

    tokenizer: "PreTrainedTokenizerBase"
    eos_ids: Collection[int]
    chat_template_kwargs: Mapping[str, Any] | None = None
    today: date | None = None

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template."""
        return ChatTemplate(self.tokenizer, dict(self.chat_template_kwargs or {}), self.today)

    def encode_prompt(
        self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None, where: str = ""
    ) -> list[int]:
        """Token ids of a conversation up to the point at which the assistant begins to write.

        Args:
            messages: the conversation.
            tools: JSON schemas of the tools that the prompt names.
            where: names the conversation in error messages.

        Raises:
            DataError: the template refuses the conversation, or drops one of its messages or tools.
        """
        turns = self._earlier(messages)
        text = _rendered(
            lambda: self.template.render(turns, tools=tools, prompt=True),
            "the conversation",
            where,
            "change the messages, or model.chat_template_kwargs",
        )
        if lost := missing_message(messages, text):
            fix = "put its text into the user's turn" if lost["role"] == "system" else "use another template, or role"
            raise DataError(
                f"the chat template does not write the message of role {lost['role']!r} as it is", where=where, fix=fix
            )
        names = [_name(tool) for tool in tools or ()]
        bare = self.template.attempt(lambda: self.template.render(turns, prompt=True)) if names else None
        # A name may stand in a message too, so the tools must change what is written.
        lost_tool = next((name for name in names if name not in text or text == bare), None)
        if lost_tool is not None:
            raise DataError(
                f"the chat template does not write the tool {lost_tool!r}",
                where=where,
                fix="use a model whose template knows tools, or describe them in the prompt",
            )
        ids = self.template.tokens(text)
        if not ids:
            raise DataError("the prompt has no tokens", where=where, fix="write a prompt")
        return ids

    def encode_example(self, example: Example, *, where: str = "") -> list[int]:
        """Token ids of an example's own prompt. A rendered prompt stays as it is.

        Raises:
            DataError: as from `encode_prompt`; or a message has a special token of the model in its text. The model
                would read it as a part of the template.
        """
        if example.rendered_prompt is not None:
            return self.template.tokens(example.rendered_prompt)
        ends = {self.template.special[token] for token in self.eos_ids if token in self.template.special}
        if (token := special_token_in(self.template, example.messages, ends)) is not None:
            raise DataError(
                f"the prompt contains {token!r}, a special token of the model",
                where=where,
                fix="remove it; if the prompt is rendered already, put it into the column `rendered_prompt`",
            )
        return self.encode_prompt(example.messages, tools=example.tools, where=where)

    def encode_teacher_prompt(self, example: Example, messages: Sequence[Message], *, where: str = "") -> list[int]:
        """Token ids of another conversation about an example, e.g. one that shows its demonstration.

        Raises:
            DataError: as from `encode_prompt`; or the example's prompt is rendered already, so that nothing can be
                added to it.
        """
        if example.rendered_prompt is None:
            return self.encode_prompt(messages, tools=example.tools, where=where)
        if list(messages) == list(example.messages):
            return self.template.tokens(example.rendered_prompt)
        raise DataError(
            "nothing can be added to a prompt that is rendered already, but this recipe's teacher sees more than it",
            where=where,
            fix="give the prompt as text or messages, in `prompt`",
        )

    def encode_completion(
        self,
        answer: str | Message,
        *,
        messages: Sequence[Message] = (QUESTION,),
        tools: Sequence[Mapping[str, Any]] | None = None,
        where: str = "",
    ) -> list[int]:
        """Token ids of an assistant's turn as the template writes it, up to and including the token that ends it.

        Args:
            answer: what the assistant writes: text, maybe with thoughts, or a turn with calls of tools.
            messages: the conversation before it.
            tools: JSON schemas of the tools that the prompt names.
            where: names the text in error messages.

        Raises:
            DataError: the text contains one of `eos_ids`: sampling would end there, so the rest could never be learned.
                Or its thoughts never end. Or the template does not write its calls of tools.
        """
        turn = answer if not isinstance(answer, str) else Message(role="assistant", content=answer)
        self._check_text(join_thoughts(turn.get("reasoning_content"), turn["content"]), where)
        turn, own_text = self._in_frames(turn, where)
        messages = self._earlier(messages)
        prompt = self.template.attempt(lambda: self.template.render(messages, tools=tools, prompt=True)) or ""
        rendered = self.template.attempt(lambda: self.template.completion(prompt, messages, turn, tools) or "")
        text = own_text + self.template.facts.after_answer
        parts = [turn["content"], turn.get("reasoning_content", "")]
        parts += map(_name, turn.get("tool_calls", ()))
        # A template that writes an empty block of thoughts writes it beside those in the text.
        is_apart = self.template.facts.thoughts_in != "prompt" or self._split_text(turn["content"])[0] is None
        if prompt and rendered and is_apart and all(written(part, rendered) for part in parts):
            text = rendered
        elif turn.get("tool_calls"):
            fix = "use a model whose template knows tools, or write the call as text into `content`"
            _rendered(lambda: self.template.render([*messages, turn], tools=tools), "the demonstration", where, fix)
            what = "the chat template does not write the tool calls of the demonstration, or not the text beside them"
            raise DataError(what, where=where, fix=fix)
        return self._ended(self._tokens_after(prompt, text))

    def encode_demonstration(
        self, example: Example, *, prompt_ids: list[int] | None = None, where: str = ""
    ) -> Demonstration:
        """An example's prompt and demonstration, with the earlier turns that are trained on too.

        The example has a demonstration.

        Args:
            example: the example.
            prompt_ids: what `encode_example` gave for it, if that is known.
            where: names the example in error messages.

        Raises:
            DataError: as from `encode_example` and `encode_completion`; or the template changes an earlier turn that is
                to be trained on when another follows it.
        """
        if prompt_ids is None:
            prompt_ids = self.encode_example(example, where=where)
        text = example.demonstration or ""
        if example.rendered_prompt is not None:
            self._check_text(text, where)
            ids = self._tokens_after(
                example.rendered_prompt, self._after_rendered(example.rendered_prompt, text, where)
            )
            return Demonstration(prompt_ids, self._ended(ids), None, text)
        answer = example.demonstration_message or text
        ids = self.encode_completion(answer, messages=example.messages, tools=example.tools, where=where)
        if not example.trained_turns:
            return Demonstration(prompt_ids, ids, None, text)
        (_, first), *rest = self._earlier_turns(example, where)
        earlier, mask, before = list[int](), list[int](), first
        for trained, piece in rest:
            own_ids = self._tokens_after(before, piece)
            earlier += own_ids
            mask += [int(trained)] * len(own_ids)
            before += piece
        return Demonstration(self.template.tokens(first), earlier + ids, mask + [1] * len(ids), text)

    def encode_reply(self, reply: Sequence[Message], *, last_id: int | None = None, where: str = "") -> list[int]:
        """Token ids of a reply to a sampled turn: from the end of that turn up to the point at which the assistant
        writes again.

        The sampled tokens are never encoded again, because encoding their text could give other tokens than were
        sampled. Instead, the template renders a stand-in for the sampled turn. What it writes after the stand-in is
        what it writes after any turn.

        Args:
            reply: what an environment answers, e.g. one message of a tool.
            last_id: the sampled token that ended the turn.
            where: names the reply in error messages.

        Raises:
            DataError: the template refuses such messages after an assistant's turn, does not keep that turn, or does
                not write the reply.
        """
        text = _rendered(
            lambda: self.template.render([QUESTION, ANSWER, *reply], prompt=True),
            "the environment's answer",
            where,
            "answer in a role that the template knows",
        )
        _, kept, after = text.partition(ANSWER["content"])
        if not kept:
            raise DataError(
                "the chat template changes an assistant's turn when a reply follows it",
                where=where,
                fix="use a template that keeps earlier turns, or a task of one turn",
            )
        if lost := next((message for message in reply if not written(message["content"], after)), None):
            raise DataError(
                f"the chat template does not write a reply of role {lost['role']!r} as it is",
                where=where,
                fix="answer in the role user, or use a template that knows this role",
            )
        ids, facts = self.template.tokens(after), self.template.facts
        # The token that ends the turn was sampled. What the template writes after it, e.g. a newline, was not, so the
        # reply begins with it.
        closing = self.template.tokens(after[: _first_place(after, reply)])
        if facts.turn_end_id in closing:
            return ids[closing.index(facts.turn_end_id) + 1 :]
        return ids[1:] if ids[0] in {facts.earlier_end_id, last_id} else ids

    def encode_prefill(self, text: str) -> list[int]:
        """Token ids of a text with which the assistant's turn begins, to continue it with another answer.

        If the prompt opens thoughts, and the text closes them, they are opened again. So what follows has the form of
        every other completion.
        """
        own_text = self._in_frames(Message(role="assistant", content=text), "", is_begun=True)[1]
        if self._split_text(text)[1] is not None:
            own_text += self.template.facts.opened
        return self.template.tokens(own_text)

    def encode_forced(self, example: Example, *, where: str = "") -> tuple[list[int], list[int]]:
        """Token ids of the beginning of an example's right answer, and of the `target` that has to follow it.

        Both continue the prompt, and together they are the tokens of prefix and target written in one go, as the model
        would write them. The beginning has the tokens that the prefix alone has too. Where a token spans the border,
        as a space and the word after it often are one, it counts as the target's. No token ends the turn.

        The example has a target.

        Raises:
            DataError: the text contains a token that ends a turn.
        """
        target = example.target or ""
        self._check_text((example.gen_prefix or "") + target, where)
        prompt, begun = self._prompt_text(example), self._begun(example)
        whole, alone = self._tokens_after(prompt, begun + target), self._tokens_after(prompt, begun)
        shared = next((i for i, (a, b) in enumerate(zip(whole, alone)) if a != b), min(len(whole), len(alone)))
        return whole[:shared], whole[shared:]

    def _prompt_text(self, example: Example) -> str:
        if example.rendered_prompt is not None:
            return example.rendered_prompt
        return self.template.render(self._earlier(example.messages), tools=example.tools, prompt=True)

    def _begun(self, example: Example) -> str:
        """The beginning of an example's right answer as the assistant writes it, where the prompt expects it."""
        prefix, prompt = example.gen_prefix or "", example.rendered_prompt
        if prompt is None or self._ends_as_prompts_do(prompt):
            return self._in_frames(Message(role="assistant", content=prefix), "", is_begun=True)[1]
        return self._in_other_frames(prompt, prefix)

    def read(self, ids: Sequence[int]) -> ReadCompletion:
        """The answer of a completion, its thoughts, and both in one text.

        What the template writes around them, the token that ends the turn and other special tokens are left out.
        """
        thoughts, content = thoughts_and_answer(self.template, self._before_the_end(ids))
        text = f"{OPENING}\n{thoughts}" if content is None else join_thoughts(thoughts, content)
        return ReadCompletion(content or "", thoughts or "", text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a completion; see `read`."""
        return self.read(ids).text

    def content(self, ids: Sequence[int]) -> str:
        """The content of a completion; see `read`."""
        return self.read(ids).content

    def thoughts(self, ids: Sequence[int]) -> str:
        """The thoughts of a completion; see `read`."""
        return self.read(ids).thoughts

    def decode_episode(self, ids: Sequence[int]) -> str:
        """The text of all turns of an episode, with what the template writes between them, without special tokens."""
        return plain_text(self.template, self._before_the_end(ids))

    def _before_the_end(self, ids: Sequence[int]) -> Sequence[int]:
        return ids[:-1] if ids and ids[-1] in self.eos_ids else ids

    def _tokens_after(self, prompt: str, text: str) -> list[int]:
        """Token ids of a text that follows a prompt. They continue the prompt's own ids.

        Some tokenizers put a space before a text that stands alone, so both are encoded together. If a token spans the
        border between them, the text is encoded alone: when the model samples, the prompt is encoded alone too.
        """
        prompt_ids, ids = self.template.tokens(prompt), self.template.tokens(prompt + text)
        return ids[len(prompt_ids) :] if ids[: len(prompt_ids)] == prompt_ids else self.template.tokens(text)

    def _ended(self, ids: list[int]) -> list[int]:
        """Tokens up to the first that ends a turn. It is added if there is none."""
        end = next((index for index, token in enumerate(ids) if token in self.eos_ids), None)
        return ids[: end + 1] if end is not None else [*ids, self._end_id]

    def _after_rendered(self, prompt: str, text: str, where: str) -> str:
        """The text that follows a prompt that is rendered already, with thoughts where this prompt expects them."""
        facts = self.template.facts
        before = facts.before_answer.strip()
        if self._ends_as_prompts_do(prompt):
            if before and text.lstrip().startswith(before):
                return text  # it is rendered too
            return self._in_frames(Message(role="assistant", content=text), where)[1] + facts.after_answer
        return self._in_other_frames(prompt, text)

    def _ends_as_prompts_do(self, rendered_prompt: str) -> bool:
        """Whether a prompt that is rendered already ends as the template's own prompts end."""
        _, begun = self.template.render([QUESTION], prompt=True).split(QUESTION["content"])
        return bool(begun.strip()) and rendered_prompt.rstrip().endswith(begun.rstrip())

    def _in_other_frames(self, rendered_prompt: str, text: str) -> str:
        """An answer, with thoughts where a prompt that is not the template's expects them."""
        thoughts, answer = split_thoughts(text)
        if rendered_prompt.rstrip().endswith(OPENING):
            return f"{thoughts or ''}\n{CLOSING}\n\n{answer or ''}"
        return text if not rendered_prompt.rstrip().endswith(CLOSING) else answer or ""

    def _earlier(self, messages: Sequence[Message]) -> list[Message]:
        """Messages with the thoughts of assistants where the template expects them. Not all templates find tags."""
        kind = self.template.facts.thoughts_in

        def moves(turn: Message) -> bool:
            in_text = kind == "prompt" and not turn.get("reasoning_content")
            return turn["role"] == "assistant" and (kind == "template" or in_text)

        return [self._in_frames(turn, "", is_begun=True)[0] if moves(turn) else turn for turn in messages]

    @property
    def _end_id(self) -> int:
        facts, eos = self.template.facts, self.tokenizer.eos_token_id
        wanted = (facts.turn_end_id, facts.next_id if facts.turn_end_id is None else None, eos)
        return next((token for token in wanted if token is not None and token in self.eos_ids), min(self.eos_ids))

    def _check_text(self, text: str, where: str) -> None:
        inside = next((token for token in self.template.tokens(text) if token in self.eos_ids), None)
        if inside is not None:
            raise DataError(
                f"the demonstration contains {self.tokenizer.decode([inside])!r}, which ends a turn",
                where=where,
                fix="remove it from the text; it is added at the end",
            )

    def _in_frames(self, turn: Message, where: str, *, is_begun: bool = False) -> tuple[Message, str]:
        """A turn with its thoughts where the template expects them, and the turn's text in the template's frame.

        Args:
            is_begun: the turn is not finished, so its thoughts need not end.
        """
        facts = self.template.facts
        thoughts, answer = turn.get("reasoning_content"), turn["content"]
        if facts.thoughts_in == "text":
            text = join_thoughts(thoughts, answer)
            return _with_content(turn, text), facts.before_answer + text
        if not (thoughts or "").strip():
            thoughts, split = self._split_text(answer)
            if split is None and not is_begun:
                raise DataError(
                    "the demonstration's thoughts never end, so it has no answer",
                    where=where,
                    fix="close them with `</think>`, or remove the example",
                )
            if split is None:
                return turn, facts.before_thoughts + (thoughts or "")
            answer = split
        if facts.thoughts_in == "nowhere" or not (thoughts or "").strip():
            return _with_content(turn, answer), facts.before_answer + answer
        framed = facts.before_thoughts + (thoughts or "") + facts.between + answer
        if facts.thoughts_in == "template":
            return _with_content(turn, answer, thoughts), framed
        return _with_content(turn, facts.opened + framed), framed

    def _split_text(self, text: str) -> tuple[str | None, str | None]:
        """See `split_thoughts`. The template's own tags are read too."""
        facts = self.template.facts
        before, between = facts.before_thoughts.strip(), facts.between.strip()
        begun = text.lstrip().startswith(before) or (closing_tag(before) or " ") in between
        if begun and between and CLOSING not in between and between in text:
            thoughts, _, answer = text.partition(between)
            return thoughts.strip().removeprefix(before or "<think>").strip("\n"), answer.lstrip("\n")
        return split_thoughts(text)

    def _earlier_turns(self, example: Example, where: str) -> list[tuple[bool, str]]:
        """The rendered prompt in pieces, each with whether it is trained on. The first piece is not."""
        messages, tools = self._earlier(example.messages), example.tools
        whole, place = self.template.render(messages, tools=tools, prompt=True), 0
        pieces: list[tuple[bool, str]] = []
        facts = self.template.facts
        ends = [facts.turn_end_id, facts.earlier_end_id, facts.next_id if facts.turn_end_id is None else None]
        endings = [self.template.special[token] for token in ends if token is not None]
        for index in example.trained_turns:
            prompt = self.template.render(messages[:index], tools=tools, prompt=True)
            content = messages[index]["content"].strip()
            if not whole.startswith(prompt) or (start := whole.find(content, len(prompt))) < 0:
                raise DataError(
                    "the chat template changes an earlier turn of the assistant when another turn follows it",
                    where=where,
                    fix="train on the last turn only",
                )
            end = start + len(content)
            limit = end + _first_place(whole[end:], messages[index + 1 : index + 2])
            found = [at + len(text) for text in endings if (at := whole.find(text, end, limit)) >= 0]
            end = min(found, default=end)
            pieces += [(False, whole[place : len(prompt)]), (True, whole[len(prompt) : end])]
            place = end
        return [*pieces, (False, whole[place:])]


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


def _rendered(render: Callable[[], str], what: str, where: str, fix: str) -> str:
    """What a template gives. A template is a program of somebody else and may raise anything."""
    try:
        return render()
    except Exception as error:
        raise DataError(f"the chat template refuses {what}: {error}", where=where, fix=fix) from error


def _name(tool: Mapping[str, Any]) -> str:
    """The name of a tool or of the tool that a call names; "" if it has none."""
    function = tool.get("function", tool)
    return str(function.get("name", "")) if isinstance(function, Mapping) else ""


def _with_content(turn: Message, content: str, thoughts: str | None = None) -> Message:
    changed = turn.copy()
    changed["content"] = content
    changed.pop("reasoning_content", None)
    if thoughts is not None:
        changed["reasoning_content"] = thoughts
    return changed


def _first_place(text: str, messages: Sequence[Message]) -> int:
    """Where the first content of some messages is in a text; its length if there is none."""
    places = [text.find(content) for message in messages if (content := message["content"].strip())]
    return min((place for place in places if place >= 0), default=len(text))

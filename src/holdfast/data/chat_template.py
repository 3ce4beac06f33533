"""What a tokenizer's chat template does, found by rendering short conversations. Importable without torch.

A template is a program, so its properties are not read but tried: a question and an answer that occur in no template
are rendered, with and without thoughts, and `TemplateFacts` says where they stand in what came out.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal

from holdfast.data.example import Message
from holdfast.data.thoughts import THOUGHT_KEYS, closing_tag, join_thoughts
from holdfast.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as PreTrainedTokenizerBase

QUESTION = Message(role="user", content="question 5103 of holdfast")
ANSWER = Message(role="assistant", content="turn 7261 of holdfast")
"""Stands for an answer. The whole text occurs in no template, so it marks where the answer is when rendered."""
_THOUGHTS = "thought 4815 of holdfast"
_FOLLOWING = Message(role="user", content="question 9377 of holdfast")
_SYSTEM = Message(role="system", content="system 2048 of holdfast")
_RECENT = 16
"""Texts and renderings that a template remembers."""

DATE_CODES = "aAbBcCdDeFgGhHIjklmMnpPrRSTtuUVwWxXyYzZ"
"""Codes of `strftime` that a template may ask for."""

ThoughtsIn = Literal["template", "prompt", "text", "nowhere"]
"""Where an answer's thoughts belong. `template`: the template writes them, under a key of the message. `prompt`: the
prompt opens them or the template writes an empty block, and the template itself does not write them. `text`: the
template does not know them, so they are a part of the text. `nowhere`: the prompt closes them, so that an answer has
none."""


@dataclass(frozen=True)
class TemplateFacts:
    """What a template writes around an answer.

    Attributes:
        thoughts_in: where an answer's thoughts belong.
        before_answer: what the completion has before an answer without thoughts, e.g. an empty block of thoughts.
        before_thoughts: what it has before thoughts.
        between: what it has between thoughts and answer.
        after_answer: what it has between an answer and the token that ends the turn, e.g. a space.
        opened: what the prompt opens thoughts with, so that a completion begins within them; "" if it does not.
        continues: the rendered conversation continues the rendered prompt.
        turn_end_id: the token that ends the turn; None if the template ends it with no special token.
        earlier_end_id: the token that ends an earlier turn, if it is another one than `turn_end_id`.
        next_id: the token that follows an answer to which a user replies; None if it is no special token.
    """

    thoughts_in: ThoughtsIn
    before_answer: str
    before_thoughts: str
    between: str
    opened: str
    continues: bool
    after_answer: str
    turn_end_id: int | None
    earlier_end_id: int | None
    next_id: int | None


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template with its arguments.

    Args:
        tokenizer: with a chat template.
        kwargs: passed to the template at every call, e.g. `enable_thinking`.
        today: the date for templates that write one. None for the day of the call.
    """

    tokenizer: "PreTrainedTokenizerBase"
    kwargs: Mapping[str, Any]
    today: date | None = None

    def render(
        self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None, prompt: bool = False
    ) -> str:
        """The conversation as the template writes it.

        Args:
            messages: the conversation.
            tools: JSON schemas of tools.
            prompt: with the beginning of the assistant's next turn.

        Raises:
            jinja2.TemplateError: the template refuses the conversation.
        """
        day = self.today or date.today() if self.writes_the_date else None
        key = json.dumps((list(messages), tools, prompt, str(day)), default=repr)
        if (known := self._recent_texts.get(key)) is None:
            if len(self._recent_texts) >= _RECENT:
                self._recent_texts.clear()
            known = self._apply(messages, self._takes_parts, tools, prompt, self._takes_thought_parts)
            self._recent_texts[key] = known
        return known

    @cached_property
    def _recent_texts(self) -> dict[str, str]:
        """The last few renderings: an example's prompt is rendered alone, and again for its demonstration."""
        return {}

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, without any that the tokenizer adds by itself."""
        return list(self._recent_tokens(text))

    @cached_property
    def _recent_tokens(self) -> Callable[[str], Sequence[int]]:
        """Keeps the last few texts: a prompt is encoded alone, and again with what follows it."""

        def encode(text: str) -> tuple[int, ...]:
            return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

        return lru_cache(maxsize=_RECENT)(encode)

    @cached_property
    def special(self) -> dict[int, str]:
        """The special tokens."""
        added = {i: t.content for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
        return {**{i: str(self.tokenizer.convert_ids_to_tokens(i)) for i in self.tokenizer.all_special_ids}, **added}

    @cached_property
    def special_pattern(self) -> re.Pattern[str]:
        """Finds a special token in a text."""
        longest_first = sorted(filter(None, self.special.values()), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @cached_property
    def writes_the_date(self) -> bool:
        """Whether what the template writes depends on the day."""
        return "strftime_now" in str(self.tokenizer.chat_template)

    @cached_property
    def facts(self) -> TemplateFacts:
        """See `TemplateFacts`.

        Raises:
            ModelError: the template does not write a question and its answer. Then nothing could be learned.
        """
        return _facts(self)

    def completion(
        self,
        prompt: str,
        messages: Sequence[Message],
        answer: Message,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str | None:
        """What the template writes after a prompt if the assistant answers; None if that cannot be told.

        It cannot be told if the rendered conversation does not continue the rendered prompt. A prompt may end with
        more white space than the conversation has there.

        Args:
            prompt: as `render` gives it for these messages.
            messages: the conversation before the answer.
            answer: the assistant's turn.
            tools: JSON schemas of tools.
        """
        return _continuation(prompt, self.render([*messages, answer], tools=tools))

    def dated(self, tools: Sequence[Mapping[str, Any]] | None = None) -> str | None:
        """The template with a fixed date; None if it writes no date, or none is given.

        Templates get the date from a function, `strftime_now`. A macro of this name takes its place.

        Args:
            tools: JSON schemas of tools. Some tokenizers have another template for them.
        """
        if not self._date_macro:
            return None
        # transformers' templates drop a newline after a block
        return f"{self._date_macro}\n{self.tokenizer.get_chat_template(tools=list(tools) if tools else None)}"

    @cached_property
    def _date_macro(self) -> str:
        if self.today is None or not self.writes_the_date:
            return ""
        day = datetime.combine(self.today, time())
        codes = [f"%{pad}{code}" for code in DATE_CODES for pad in ("-", "")]
        replaced = "".join(f" | replace({code!r}, {day.strftime(code)!r})" for code in codes)
        return f"{{%- macro strftime_now(format) -%}}{{{{- format{replaced} -}}}}{{%- endmacro %}}"

    def remarks(self) -> list[str]:
        """What a user should know of how this template treats her data, in sentences."""
        facts, remarks = self.facts, []
        if not self._writes([_SYSTEM, QUESTION], _SYSTEM["content"]):
            remarks.append("It has no place for a system message; an example with one is refused.")
        header = facts.before_answer.strip()
        if header and self.render([QUESTION], prompt=True) == self.render([QUESTION]):
            remarks.append(f"It begins no turn of the assistant, so the model writes {header!r} itself.")
        remarks += {
            "template": ["It knows thoughts. Verifiers see the answer after them."],
            "prompt": ["The prompt opens the thoughts. A demonstration without thoughts closes them at once."]
            if facts.opened
            else ["It writes an empty block of thoughts. Those of a demonstration stand in it."],
            "text": [],
            "nowhere": ["The prompt closes the thoughts. Thoughts in demonstrations are left out."],
        }[facts.thoughts_in]
        if not facts.continues and facts.thoughts_in in ("template", "text"):
            remarks.append(
                "It writes a finished turn otherwise than the beginning of one. Completions are the answer's own text."
            )
        if facts.turn_end_id is None:
            remarks.append("It ends a turn with no special token. Completions end with the end-of-sequence token.")
        if self.writes_the_date:
            remarks.append(f"It writes the date. This run's date is {self.today or date.today()}, on every day.")
        return remarks

    @cached_property
    def _takes_parts(self) -> bool:
        """Whether a message's content must be a list of parts, as in templates for images and text."""
        return not self._writes(
            [QUESTION, ANSWER], QUESTION["content"], ANSWER["content"], parts=False
        ) and self._writes([QUESTION, ANSWER], QUESTION["content"], ANSWER["content"], parts=True)

    @cached_property
    def _takes_thought_parts(self) -> bool:
        """Whether thoughts must be a part of a message's content, as in Magistral's template."""
        turn = Message(role="assistant", content=ANSWER["content"], reasoning_content=_THOUGHTS)

        def rendered(thought_parts: bool) -> str:
            return (
                self.attempt(lambda: self._apply([QUESTION, turn], self._takes_parts, None, False, thought_parts)) or ""
            )

        by_key, by_part = rendered(False), rendered(True)
        is_text = "'type'" not in by_part and '"type"' not in by_part  # some templates write the list itself
        return _THOUGHTS not in by_key and _THOUGHTS in by_part and ANSWER["content"] in by_part and is_text

    def _writes(self, messages: Sequence[Message], *texts: str, parts: bool | None = None) -> bool:
        rendered = self.attempt(lambda: self._apply(messages, self._takes_parts if parts is None else parts))
        return rendered is not None and all(text in rendered for text in texts)

    def attempt(self, render: Callable[[], str]) -> str | None:
        """What a rendering gives, or None if the template refuses. A template may raise anything."""
        try:
            return render()
        except Exception:
            return None

    def _apply(
        self,
        messages: Sequence[Message],
        parts: bool,
        tools: Sequence[Mapping[str, Any]] | None = None,
        prompt: bool = False,
        thought_parts: bool = False,
    ) -> str:
        rendered = self.tokenizer.apply_chat_template(
            [_for_template(message, parts, thought_parts) for message in messages],
            tools=list(tools) if tools else None,
            chat_template=self.dated(tools),
            add_generation_prompt=prompt,
            tokenize=False,
            **self.kwargs,
        )
        return str(rendered)


def written(text: str, rendered: str, *, times: int = 1) -> bool:
    """Whether a rendering contains a text, up to white space around it. Templates may write it as JSON does.

    Args:
        times: how often it must be there.
    """
    text = text.strip()
    if not text or rendered.count(text) >= times:
        return True
    spellings = {text, *(json.dumps(text, ensure_ascii=ascii)[1:-1] for ascii in (False, True))}
    return sum(map(rendered.count, spellings)) >= times


def _for_template(message: Message, parts: bool, thought_parts: bool) -> dict[str, Any]:
    turn: dict[str, Any] = dict(message)
    content = [{"type": "text", "text": turn["content"]}]
    if thoughts := turn.get("reasoning_content"):
        turn |= dict.fromkeys(THOUGHT_KEYS, thoughts)  # each template reads one of them
        if thought_parts:
            return turn | {"content": [{"type": "thinking", "thinking": thoughts}, *content]}
    return turn | {"content": content} if parts else turn


_TAG = re.compile(r"<[^<>\s]+>|\[[A-Z_/]+\]")


def _shared(a: str, b: str) -> int:
    """How many characters two texts begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _continuation(prompt: str, whole: str) -> str | None:
    shared = _shared(prompt, whole)
    return whole[shared:] if not prompt[shared:].strip() else None


def _facts(template: ChatTemplate) -> TemplateFacts:
    prompt = template.attempt(lambda: template.render([QUESTION], prompt=True))
    whole = template.attempt(lambda: template.render([QUESTION, ANSWER]))
    for rendered, content, what in ((prompt, QUESTION, "a user's turn"), (whole, ANSWER, "an assistant's turn")):
        if rendered is None or content["content"] not in rendered:
            raise ModelError(
                f"the chat template does not write {what}",
                fix="use the chat template that the model was trained with",
            )
    assert prompt is not None
    assert whole is not None
    tokens = _turn_tokens(template, prompt, whole)
    after = whole.rpartition(ANSWER["content"])[2]
    after_answer = after if tokens[0] is None else after.partition(template.special[tokens[0]])[0]
    return TemplateFacts(*_frames(template, prompt, whole), after_answer, *tokens)


def _frames(template: ChatTemplate, prompt: str, whole: str) -> tuple[ThoughtsIn, str, str, str, str, bool]:
    """The first six fields of `TemplateFacts`."""
    plain = _continuation(prompt, whole)
    before_answer = None if plain is None else plain.partition(ANSWER["content"])[0]
    with_key = Message(role="assistant", content=ANSWER["content"], reasoning_content=_THOUGHTS)
    found, known = _around_thoughts(template, prompt, with_key)
    if _closes_thoughts(template, prompt):
        return "nowhere", before_answer or "", "", "", "", plain is not None
    if found is not None:
        before, between = found
        # A template that writes no empty thoughts, in a prompt that opens them: they end as others do.
        alone = before_answer if before_answer is not None else before + between
        opened = _opened_at_the_end(prompt) if not before.strip() else ""
        return "template", alone, before, between, opened, plain is not None
    rest = prompt[_parting(prompt, whole) :] if plain is None else ""
    # A tag that stands before the question too, or before a finished answer without its closing tag, is about turns and
    # not about thoughts, e.g. `<|im_start|>`.
    finished, asked = whole.partition(ANSWER["content"])[0], whole.partition(QUESTION["content"])[0]
    tags = [(tag, closing_tag(tag)) for tag in _TAG.findall(rest) if tag not in asked]
    opening = next((tag for tag, end in tags if end and (tag not in finished or end in finished)), None)
    if opening is not None:
        closing = closing_tag(opening) or ""
        in_text = Message(role="assistant", content=join_thoughts(_THOUGHTS, ANSWER["content"]))
        found, _ = _around_thoughts(template, prompt, in_text)
        between = found[1] if found is not None and closing in found[1] else f"\n{closing}\n\n"
        return "prompt", between, "", between, rest[rest.index(opening) :], False
    if known:
        return "nowhere", before_answer or "", "", "", "", plain is not None
    return *_beside_an_empty_block(prompt, before_answer or ""), plain is not None


def _beside_an_empty_block(prompt: str, before_answer: str) -> tuple[ThoughtsIn, str, str, str, str]:
    """The first five fields for a template that finds no thoughts. If it writes an empty block, that is their place."""
    block = re.fullmatch(rf"(.*?)({_TAG.pattern})?(\s*)({_TAG.pattern})(\s*)", before_answer, re.DOTALL)
    if block is None or block[4][1] != "/":
        return "text", before_answer, "", "", ""
    head, opening, space, closing, end = block.groups()
    if opening is not None and closing_tag(opening) == closing:
        half = len(space) // 2
        return "prompt", before_answer, head + opening + space[:half], space[half:] + closing + end, ""
    opened = _opened_at_the_end(prompt)
    if opened and not head and opening is None and closing_tag(opened) == closing:
        return "prompt", before_answer, "", before_answer, opened
    return "nowhere", before_answer, "", "", ""


def _opened_at_the_end(prompt: str) -> str:
    """The opening tag with which a prompt ends, with white space behind it; "" if it ends otherwise."""
    found = re.search(rf"({_TAG.pattern})\s*$", prompt)
    return found.group() if found and closing_tag(found[1]) else ""


def _closes_thoughts(template: ChatTemplate, prompt: str) -> bool:
    """Whether the beginning of the assistant's turn ends with a tag that closes thoughts, e.g. of an empty block."""
    asked = template.attempt(lambda: template.render([QUESTION])) or ""
    begun = prompt[_parting(prompt, asked) :]
    tags = _TAG.findall(begun)
    if not tags or tags[-1] in asked or not begun.rstrip().endswith(tags[-1]):
        return False
    return tags[-1][1] == "/" or tags[-1] in map(closing_tag, tags)


def _parting(a: str, b: str) -> int:
    """How many characters two texts begin with in common, without the beginning of a tag of the first."""
    shared = _shared(a, b)
    return next((tag.start() for tag in _TAG.finditer(a) if tag.start() < shared < tag.end()), shared)


def _around_thoughts(template: ChatTemplate, prompt: str, answer: Message) -> tuple[tuple[str, str] | None, bool]:
    """What stands before thoughts and between them and the answer, None if they do not continue the prompt; and whether
    the template writes them at all."""
    whole = template.attempt(lambda: template.render([QUESTION, answer])) or ""
    rest = _continuation(prompt, whole) or ""
    before, thoughts, after = rest.partition(_THOUGHTS)
    between, text, _ = after.partition(ANSWER["content"])
    return ((before, between) if thoughts and text else None), _THOUGHTS in whole


def _turn_tokens(template: ChatTemplate, prompt: str, whole: str) -> tuple[int | None, int | None, int | None]:
    """The last three fields of `TemplateFacts`."""
    answer = ANSWER["content"]
    last = _leading_special(template, whole.rpartition(answer)[2])
    replied = template.attempt(lambda: template.render([QUESTION, ANSWER, _FOLLOWING])) or ""
    following = replied.partition(answer)[2].partition(_FOLLOWING["content"])[0]
    later = _leading_special(template, following)
    # Written after the last answer and after an earlier one: the end of a turn, maybe after the end of a part of it.
    common = [a for a, b in zip(last, later, strict=False) if a == b]
    asked = template.attempt(lambda: template.render([QUESTION])) or ""
    if len(common) > 1 and asked == prompt:  # it may begin the next turn of the assistant behind every message
        common = common[:1]
    end = common[-1] if common else next(iter(last), None)
    opening = _leading_special(template, prompt[_shared(prompt, asked) :])
    # An earlier turn may end with another token than the last one. A token that begins the next turn is not its end: it
    # begins the assistant's turns too, or no other special token follows it at once.
    ends_earlier = bool(last) and end not in later and len(later) > 1 and later[0] not in opening[:1]
    return end, later[0] if ends_earlier else None, next(iter(later), None)


def _leading_special(template: ChatTemplate, text: str) -> list[int]:
    """The special tokens at the beginning of a text, white space between them left out."""
    found = []
    for token in template.tokens(text):
        if token in template.special:
            found.append(token)
        elif template.tokenizer.decode([token]).strip():
            break
    return found


def special_token_in(template: ChatTemplate, messages: Sequence[Message], ends: Collection[str] = ()) -> str | None:
    """The first special token that a message contains as text; None if none does.

    Turns of the assistant may have some, because a model may write thoughts or calls of tools with them.

    Args:
        ends: the tokens that a turn of the assistant must not have either, because they end it.
    """
    for message in messages:
        for found in template.special_pattern.findall(message["content"]):
            if message["role"] != "assistant" or found in ends:
                return str(found)
    return None


def missing_message(messages: Sequence[Message], rendered: str) -> Message | None:
    """The first message of a system, a user or a tool whose content a rendering does not have.

    A text that several messages have must be there as often.
    """
    others = [message for message in messages if message["role"] != "assistant"]
    texts = [message["content"].strip() for message in others]
    for message, text in zip(others, texts, strict=True):
        if text and not written(text, rendered, times=sum(each.count(text) for each in texts)):
            return message
    return None

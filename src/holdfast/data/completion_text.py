"""From the tokens of a completion to its thoughts and its answer. Importable without torch.

What the template writes around them is known from `TemplateFacts`. A model may write something else, so whatever is not
found where it should be is a part of the answer.
"""

import re
from collections.abc import Sequence

from holdfast.data.chat_template import ChatTemplate
from holdfast.data.thoughts import OPENING

_BEGIN, _END = "\ue000", "\ue001"
"""Stand around a special token, so that it is told from the same characters in other tokens."""


def plain_text(template: ChatTemplate, ids: Sequence[int]) -> str:
    """The text of some tokens without special tokens."""
    return str(template.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def thoughts_and_answer(template: ChatTemplate, ids: Sequence[int]) -> tuple[str | None, str | None]:
    """Thoughts and answer of a completion.

    Args:
        template: that the completion was sampled with.
        ids: its tokens, without the one that ends the turn.

    Returns:
        The thoughts, or None if there are none or the template does not know thoughts; the answer, or None if the
        thoughts never end.
    """
    thoughts, answer = _without_frames(template, ids)
    after = template.special_pattern.sub("", template.facts.after_answer)
    return thoughts, None if answer is None else answer.removesuffix(after)


def _without_frames(template: ChatTemplate, ids: Sequence[int]) -> tuple[str | None, str | None]:
    facts, marked = template.facts, _marked(template, ids)
    between = _marked_text(template, facts.between)
    if facts.thoughts_in in ("template", "prompt") and between.strip():
        opening = _marked_text(template, facts.before_thoughts).strip()
        begun = marked.lstrip()
        # Tags that are text may stand in an answer too, so the first one counts.
        cut = begun.rpartition if _BEGIN in between else begun.partition
        thoughts, found, answer = cut(between.strip())
        if found and (_BEGIN in opening or begun.startswith(opening) or opening not in thoughts):
            return _clean(thoughts.removeprefix(opening).removeprefix(OPENING)).strip(), _behind(between, answer)
        is_thought = begun.startswith(opening) if opening else True
        bare = _marked_text(template, facts.before_answer).strip()
        if is_thought and not (bare and begun.startswith(bare)):
            return _clean(begun.removeprefix(opening)).strip(), None
    before = _marked_text(template, facts.before_answer)
    if before and marked.startswith(before):
        return None, _clean(marked.removeprefix(before))
    if before.strip() and marked.lstrip().startswith(before.strip()):
        return None, _behind(before, marked.lstrip().removeprefix(before.strip()))
    # A frame such as `<|channel|>final<|message|>`: the model may have named another channel.
    last = re.search(f"{_BEGIN}[^{_BEGIN}]*{_END}$", before.strip())
    if last and last.group() in marked:
        return None, _behind(before, marked.rpartition(last.group())[2])
    return None, plain_text(template, ids)


def _marked(template: ChatTemplate, ids: Sequence[int]) -> str:
    """Text in which special tokens are marked."""
    special, text, run = template.special, "", list[int]()
    for token in [*ids, None]:
        if token is not None and token not in special:
            run.append(token)
            continue
        text += plain_text(template, run) if run else ""
        run = []
        if token is not None:
            text += f"{_BEGIN}{special[token]}{_END}"
    return text


def _marked_text(template: ChatTemplate, text: str) -> str:
    return _marked(template, template.tokens(text)) if text else ""


def _clean(text: str) -> str:
    return re.sub(f"{_BEGIN}.*?{_END}", "", text)


def _behind(frame: str, text: str) -> str:
    """An answer without the white space that ends the frame before it, or without newlines if it is another."""
    space = frame[len(frame.rstrip()) :]
    return _clean(text.removeprefix(space) if space and text.startswith(space) else text.lstrip("\n"))

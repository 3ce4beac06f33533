"""An assistant's thoughts and its answer, in one text. Importable without torch.

In holdfast's data, thoughts are written in one way, whatever the model's own tags are: `<think>`, a newline, the
thoughts, a newline, `</think>`, an empty line, the answer.
"""

import re

OPENING, CLOSING = "<think>", "</think>"

THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Keys of an assistant's turn that hold its thoughts, in data and in chat templates."""


def normal_form(thoughts: str, answer: str) -> str:
    """Thoughts and an answer in one text. Empty thoughts are an empty block."""
    return f"{OPENING}\n{thoughts}\n{CLOSING}\n\n{answer}"


def join_thoughts(thoughts: str | None, answer: str) -> str:
    """Thoughts and answer in one text; the answer alone if there are no thoughts."""
    if not (thoughts or "").strip():
        return answer
    return normal_form((thoughts or "").strip("\n"), answer)


def split_thoughts(text: str) -> tuple[str | None, str | None]:
    """Thoughts and answer of a text.

    - `<think>a</think>b`: the thoughts are a, the answer is b. So too without the opening tag, because many chat
      templates write it into the prompt. Only the first block is thoughts.
    - `<think>a`: thoughts that never end. There is no answer.
    - Any other text is an answer without thoughts. Tags within the text, after its first words, are not thoughts.

    Returns:
        The thoughts, or None if there are none; the answer, or None if the thoughts never end. Newlines around the
        thoughts and before the answer are left out.
    """
    before, tag, answer = text.partition(CLOSING)
    opened = before.lstrip().startswith(OPENING)
    if not tag:
        return (text.lstrip()[len(OPENING) :].strip("\n"), None) if opened else (None, text)
    if opened:
        before = before.lstrip()[len(OPENING) :]
    elif OPENING in before:
        return None, text
    return before.strip("\n"), answer.lstrip("\n")


def closing_tag(opening: str) -> str | None:
    """The tag that closes an opening tag such as `<think>`, `[THINK]` or `<|START_THINKING|>`; None if it is no tag."""
    if found := re.fullmatch(r"([<\[])(\|?)([^<>\[\]|/]+)(\|?)([>\]])", opening.strip()):
        left, bar, name, other_bar, right = found.groups()
        for begin, end in (("START", "END"), ("start", "end"), ("begin", "end"), ("BEGIN", "END")):
            if begin in name:
                return f"{left}{bar}{name.replace(begin, end)}{other_bar}{right}"
        if bar == other_bar == "":
            return f"{left}/{name}{right}"
    return None

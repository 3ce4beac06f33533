"""An assistant's thoughts: every spelling in which data has them. `holdfast.data.thoughts` has the normal form."""

from collections.abc import Mapping
from typing import Any

from holdfast.data.thoughts import CLOSING, OPENING, THOUGHT_KEYS
from holdfast.errors import DataError
from holdfast.tasks.readers.record import text


def thoughts_of(turn: Mapping[str, Any], name: str, where: str) -> str | None:
    """What a turn has under a key for thoughts; None if there is nothing.

    Raises:
        DataError: it is not text, or two keys have different thoughts.
    """
    found = {key: turn[key] for key in THOUGHT_KEYS if turn.get(key) not in (None, "")}
    texts = {key: text(value, f"{name}.{key}", where, may_be_empty=True).strip() for key, value in found.items()}
    different = sorted({thoughts for thoughts in texts.values() if thoughts})
    if len(different) > 1:
        what = f"`{name}` has different thoughts in {' and '.join(f'`{key}`' for key in texts)}"
        raise DataError(what, where=where, fix="keep one of them")
    return different[0] if different else None


def split_thoughts(content: str, name: str, where: str) -> tuple[str | None, str]:
    """The thoughts that a text has before its answer, and the answer. The thoughts are None if the text has no tags.

    If there is only a closing tag, all before it is thought: some chat templates write the opening tag themselves.
    Thoughts may be empty, which a text says by an empty block.

    Raises:
        DataError: the thoughts never end, so there is no answer; or there is a block of thoughts inside the answer.
    """
    begins = content.lstrip().startswith(OPENING)
    if CLOSING not in content:
        if begins:
            what = f"`{name}` opens its thoughts with {OPENING} and never closes them, so it has no answer"
            raise DataError(what, where=where, fix=f"write {CLOSING} and the answer, or remove the record")
        return None, content
    before, _, after = content.partition(CLOSING)
    thoughts = before.lstrip().removeprefix(OPENING) if begins else before
    if OPENING in thoughts or CLOSING in after:
        what = f"`{name}` has thoughts that are not before its answer"
        raise DataError(what, where=where, fix=f"put all thoughts into one {OPENING} block, and the answer behind it")
    # Spaces that indent the answer's first line belong to it.
    answer = after.lstrip("\r\n") if after[:1] in "\r\n" else after.lstrip()
    return thoughts.strip(), answer


def merged(content: str, thoughts: str | None, name: str, where: str) -> tuple[str | None, str]:
    """Thoughts and answer of a turn that may have thoughts under a key, in its text, or the same ones in both.

    Raises:
        DataError: as `split_thoughts`, or the text has other thoughts than the key.
    """
    written, answer = split_thoughts(content, name, where)
    if thoughts is None:
        return written, answer
    if written and written != thoughts:
        what = f"`{name}` has thoughts under a key and other thoughts in its text"
        raise DataError(what, where=where, fix="keep one of them")
    return thoughts, answer.lstrip("\r\n")

"""Verifiers: exact match for records with an `answer`, and user functions by name."""

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from holdfast.data.example import Example, Verdict
from holdfast.data.task import Verify, built_in
from holdfast.data.teacher_prompts import strip_thinking
from holdfast.errors import DataError
from holdfast.judging.here import load_here
from holdfast.tasks.readers.record import kind

_ENDS = re.compile(r"^[^\w$€£+-]+|[^\w%°]+$")
"""Marks around an answer that are no part of it."""


@built_in
def exact_match(example: Example, completion: str) -> Verdict:
    """Reward 1 if the completion is the answer, else 0.

    Thinking, differences in spacing and Unicode composition do not count. Case does; a task in which it should not
    needs its own verifier. If the answer is a list, each of its items is accepted. Numbers and booleans are compared as
    JSON writes them; 42 is also right if the answer is 42.0, as tables with empty cells have it. Feedback never depends
    on the answer.
    """
    answer = _normalized(strip_thinking(completion))
    if answer in accepted_answers(example.answer):
        return Verdict(1.0, answer=answer)
    if not answer:
        return Verdict(0.0, "There is no answer.", format_ok=False)
    return Verdict(0.0, "This answer is wrong.", answer=answer)


@built_in
def contains_answer(example: Example, completion: str) -> Verdict:
    """Reward 1 if the completion says the answer somewhere, else 0: whether other words have the same content.

    The answer is one of the example's `answer`s if these are text or numbers, otherwise its whole demonstration without
    thoughts. It must stand there as words: "4" is in neither "14", "-4" nor
    "4.5". Case, spacing and the marks at its ends do not count.
    """
    text = _normalized(strip_thinking(completion)).casefold()
    try:
        wanted = accepted_answers(example.answer)
    except DataError:
        wanted = frozenset({_normalized(strip_thinking(example.demonstration or ""))})
    for each in wanted:
        words = _ENDS.sub("", each.casefold()) or each.casefold()
        before = r"(?<![\w.,-])" if words[:1].isdigit() else r"(?<!\w)" if words[:1].isalnum() else ""
        after = r"(?!\w|[.,]\d)" if words[-1:].isalnum() else ""
        if words and re.search(before + re.escape(words) + after, text):
            return Verdict(1.0, answer=each)
    return Verdict(0.0, "The answer is not in this text.")


def accepted_answers(answer: Any) -> frozenset[str]:
    """The texts that exact match accepts for an example's `answer`.

    Raises:
        DataError: the answer is missing, or of a type that no completion can equal.
    """
    answers = answer if isinstance(answer, list) and answer else [answer]
    for each in answers:
        if not isinstance(each, str | int | float) or (isinstance(each, float) and not math.isfinite(each)):
            found = each if isinstance(each, float) else kind(each)
            raise DataError(
                f"its `answer` is not text, a number, or a list of them, but {found}",
                fix="name a verifier that can read it: `verifier: module:function`",
            )
    accepted = frozenset(_normalized(written) for each in answers for written in _written(each))
    if "" in accepted:
        raise DataError("its `answer` is empty, so only an empty completion would be right", fix="fill it in")
    return accepted


def _written(answer: str | int | float) -> Iterator[str]:
    """How an answer may be written."""
    yield answer if isinstance(answer, str) else json.dumps(answer)
    if isinstance(answer, float) and answer.is_integer():
        yield str(int(answer))


def load_verifier(name: str) -> Verify:
    """The verifier named `module:function`, imported here. See `load_here` for its errors."""
    verify: Verify = load_here(name, f"verifier {name!r}", "(example, completion)")
    return verify


def _normalized(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())

"""SciKnowEval multiple choice (arXiv 2406.09098), in the format of SDPO's experiments (arXiv 2601.20802).

A record has a `system` text that asks for a reasoning block and then an answer block, a `prompt` with lettered
options, and an `answer` letter.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from holdfast.data.example import Example, Verdict
from holdfast.data.task import built_in
from holdfast.data.teacher_prompts import strip_thinking
from holdfast.errors import DataError
from holdfast.tasks.files import (
    DEMONSTRATION_COLUMNS,
    BadRecords,
    FaultyRecord,
    Record,
    demonstration_text,
    published_examples,
)

_FORM = re.compile(r"<reasoning>.*\S.*</reasoning>\s*<answer>\s*[A-Z]\s*</answer>", re.DOTALL)


def sciknoweval_examples(
    found: Sequence[Record | FaultyRecord], where: str, bad_records: BadRecords = "refuse"
) -> list[Example]:
    """Records of SciKnowEval as examples.

    The demonstration is the record's `output_text`, `golden_response` (a list of lines) or `completion`. The published
    multiple-choice files have none of these. Then the demonstration is the answer block alone: the right letter in the
    requested format, without invented reasoning.

    Raises:
        DataError: a record is malformed, or its answer is not one letter.
    """
    return published_examples(found, _adapted, where, bad_records)


@built_in
def verify_sciknoweval(example: Example, completion: str) -> Verdict:
    """Reward 1 if the text after the last `<answer>` is the right letter, apart from spaces and the closing tag.

    Without an answer tag the reward is 0. Feedback says whether the format or the choice is wrong. It does not depend
    on which letter is right.
    """
    text = strip_thinking(completion)
    _, tag, tail = text.rpartition("<answer>")
    choice = tail.partition("</answer>")[0].strip()
    feedback = []
    if not tag:
        feedback.append("There is no answer block: it starts with <answer>.")
    elif not re.fullmatch(r"[A-Z]", choice):
        feedback.append("The answer block must hold the letter of the chosen option and nothing else.")
    elif "</answer>" not in tail:
        feedback.append("The answer block is not closed: it ends with </answer>.")
    format_ok = not feedback and _FORM.search(text) is not None
    if not feedback and not format_ok:
        feedback.append("There is no reasoning block before the answer block: it is <reasoning>...</reasoning>.")
    reward = float(bool(tag) and choice == example.answer)
    if re.fullmatch(r"[A-Z]", choice) and not reward:
        feedback.append("The chosen option is wrong.")
    return Verdict(reward, " ".join(feedback), choice or None, format_ok)


def _adapted(record: Record) -> Record:
    answer = record.values.get("answer")
    letter = answer.strip() if isinstance(answer, str) else ""
    if not re.fullmatch(r"[A-Z]", letter):
        raise DataError(
            f"`answer` is {answer!r}, not the letter of an option", where=record.where, fix="write one capital letter"
        )
    demonstration = demonstration_text(record)
    if demonstration is None:
        demonstration = f"<answer>\n{letter}\n</answer>"
    values = {k: v for k, v in record.values.items() if k not in DEMONSTRATION_COLUMNS}
    return replace(record, values={**values, "answer": letter, "completion": demonstration})

"""All artifacts in two models' answers, as plain data."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from holdfast.errors import DataError
from holdfast.measure.answers import Answer, PromptSet, by_prompt
from holdfast.measure.artifacts.growth import LEVEL, grown_ngrams
from holdfast.measure.artifacts.markers import leaks, share_with, task_markers
from holdfast.measure.artifacts.ngrams import Documents, Ngram, Unit, units_of_text
from holdfast.measure.artifacts.phrases import leaked_phrases, words
from holdfast.measure.artifacts.repetition import compare_quality
from holdfast.measure.artifacts.rounds import amplification

FOLLOWED = 10
"""Number of grown phrases that are followed over rounds."""

Encode = Callable[[str], Sequence[int]]

Decode = Callable[[Sequence[int]], str]


def artifact_report(
    a: Sequence[Answer],
    b: Sequence[Answer],
    prompts: PromptSet,
    *,
    between: Sequence[Sequence[Answer]] = (),
    phrases: Sequence[str] = (),
    encode: Encode | None = None,
    decode: Decode | None = None,
    level: float = LEVEL,
) -> dict[str, Any]:
    """Compare the answers of A and B to the same prompts.

    Args:
        between: answers of the models between A and B, in the order of training.
        phrases: phrases to search for, in addition to those of the teacher's prompts, and to follow over rounds.
        encode: text to token ids. If given, the units are token ids, otherwise words and punctuation marks.
        decode: token ids to text, to show them.
        level: false-discovery rate of each kind of test.

    Returns:
        `grown`, `leaks`, `phrases`, `quality` and, with models between, `rounds`; every share is a fraction of 1.

    Raises:
        DataError: the units are token ids, and an answer has none.
    """

    def units(answer: Answer) -> Sequence[Unit]:
        if encode is None:
            return units_of_text(answer.text)
        if answer.ids is None:
            raise DataError(f"the answer to {answer.prompt!r} has no token ids", fix="use words as units")
        return answer.ids

    sides = [by_prompt(answers) for answers in (a, *between, b)]
    documents: list[Documents] = [{p: [units(x) for x in answers] for p, answers in s.items()} for s in sides]
    shown = {
        task: [units_of_text(text) if encode is None else list(encode(text)) for text in texts]
        for task, texts in prompts.demonstrations.items()
    }
    every = _in_proportion(shown, Counter(prompts.task_of.values()))
    first, last = documents[0], documents[-1]
    growth = grown_ngrams(first, last, every, level=level)
    markers = task_markers(shown, level=level)
    texts = [{p: [x.text for x in answers] for p, answers in side.items()} for side in sides]
    report: dict[str, Any] = {
        "prompts": len(first),
        "answers_a": len(a),
        "answers_b": len(b),
        "demonstrations": len(every),
        "unit": "words" if encode is None else "tokens",
        "level": level,
        "tested": growth.tested,
        "significant": growth.significant,
        "grown": [each.as_json(decode) for each in growth.grown],
        "markers": {
            task: [{"ngram": list(m.ngram), "share": m.share, "z": m.z} for m in own] for task, own in markers.items()
        },
        "leaks": [leak.as_json(decode) for leak in leaks(markers, first, last, prompts.task_of)],
        "phrases": [phrase.as_json() for phrase in leaked_phrases(texts[0], texts[-1], phrases)],
        "quality": compare_quality(sides[0], sides[-1], units),
    }
    if between:
        followed = [(each["text"], documents, tuple(each["ngram"])) for each in report["grown"][:FOLLOWED]]
        lowered: list[Documents] = [
            {p: [words(text) for text in answers] for p, answers in side.items()} for side in texts
        ]
        followed += [(phrase, lowered, words(phrase)) for phrase in phrases]
        report["rounds"] = [
            {"text": text, **amplification(_counts(rounds, ngram), len(first)).as_json()}
            for text, rounds, ngram in followed
        ]
    return report


def _in_proportion(shown: Mapping[str, Sequence[Sequence[Unit]]], asked: Mapping[str, int]) -> list[Sequence[Unit]]:
    """The first demonstrations of each task, in proportion to the tasks' numbers of prompts.

    Otherwise an n-gram of a task with few demonstrations and many prompts would seem to exceed them.
    """
    per_prompt = min((len(texts) / asked[task] for task, texts in shown.items() if asked[task]), default=0.0)
    return [text for task, texts in shown.items() for text in texts[: math.ceil(per_prompt * asked[task])]]


def _counts(rounds: Sequence[Mapping[str, Sequence[Sequence[Unit]]]], ngram: Ngram) -> list[float]:
    """Number of prompts whose answers contain an n-gram, at each round."""
    return [sum(share_with(answers, [ngram]) for answers in documents.values()) for documents in rounds]

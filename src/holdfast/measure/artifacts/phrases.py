"""Phrases of the teacher in the student's answers.

A teacher that sees a demonstration or feedback may mention it. The student then learns to write "based on the example"
without an example (arXiv 2601.19897, section 5, masks the first tokens for this reason). The search is for n-grams of
the teacher's prompt templates, for ways to refer to their content, and for phrases that the user adds.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy.stats import false_discovery_control

from holdfast.data.teacher_prompts import (
    DEMONSTRATION_TEMPLATE,
    FEEDBACK_TEMPLATE,
    REPROMPT_TEMPLATE,
    SOLUTION_TEMPLATE,
)
from holdfast.measure.artifacts.families import families
from holdfast.measure.artifacts.markers import compared
from holdfast.measure.artifacts.ngrams import Ngram, presence, units_of_text

TEMPLATES = (DEMONSTRATION_TEMPLATE, REPROMPT_TEMPLATE, SOLUTION_TEMPLATE, FEEDBACK_TEMPLATE)

REFERENCES = (
    "based on the example",
    "following the example",
    "as in the example",
    "as shown in the example",
    "the example response",
    "the example above",
    "the given example",
    "the provided example",
    "based on the text",
    "the correct solution",
    "the provided solution",
    "the given solution",
    "the reference solution",
    "the reference answer",
    "according to the feedback",
    "based on the feedback",
    "my earlier attempt",
    "my previous attempt",
)
"""Ways to refer to a demonstration, a solution or feedback that only the teacher sees."""

SHORTEST, LONGEST = 3, 5
"""Number of words of a template's n-grams. Two consecutive words are not specific."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase in the answers: its share of answers, over prompts, and the exact one-sided sign test of B above A.

    `source` is "template", "reference" or "yours".
    """

    text: str
    source: str
    share_a: float
    share_b: float
    more: int
    fewer: int
    p: float
    q: float

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in Phrase.__slots__}


def words(text: str) -> Ngram:
    """The words of a text in lower case, without punctuation: templates and answers differ in both."""
    return tuple(str(unit).lower() for unit in units_of_text(text) if re.search(r"\w", str(unit)))


def template_phrases(templates: Sequence[str] = TEMPLATES) -> set[Ngram]:
    """The n-grams of templates. None spans a placeholder."""
    parts = [words(part) for template in templates for part in re.split(r"\{\w+\}", template)]
    sizes = range(SHORTEST, LONGEST + 1)
    return {part[i : i + n] for part in parts for n in sizes for i in range(max(0, len(part) - n + 1))}


def leaked_phrases(
    a: Mapping[str, Sequence[str]],
    b: Mapping[str, Sequence[str]],
    yours: Sequence[str] = (),
    templates: Sequence[str] = TEMPLATES,
) -> list[Phrase]:
    """Phrases of the teacher in B's answers, strongest evidence of growth first. Parts of a longer one are left out.

    Args:
        a, b: the texts of the answers to each prompt.
        yours: phrases to search for, in addition to those of the templates.
    """
    sources = dict.fromkeys(template_phrases(templates), "template")
    sources |= dict.fromkeys(map(words, REFERENCES), "reference") | dict.fromkeys(
        filter(None, map(words, yours)), "yours"
    )
    longest = max(map(len, sources))
    prompts = list(a)
    documents = [words(text) for side in (a, b) for prompt in prompts for text in side[prompt]]
    counted = presence(documents, longest)
    row_of = {ngram: row for row in range(counted.matrix.shape[0]) if (ngram := counted.ngram(row)) in sources}
    rows = []
    for ngram, row in row_of.items():
        dense = iter(counted.matrix[[row]].toarray()[0])
        share_a, share_b = (
            [sum(next(dense) for _ in side[prompt]) / len(side[prompt]) for prompt in prompts] for side in (a, b)
        )
        rows.append((ngram, compared(share_a, share_b)))
    if not rows:
        return []
    # A phrase that occurs in no answer cannot be significant, so the correction is over the phrases that occur.
    q = false_discovery_control([numbers["p"] for _, numbers in rows])
    scored = [
        (ngram, Phrase(" ".join(map(str, ngram)), sources[ngram], q=float(value), **numbers))
        for (ngram, numbers), value in zip(rows, q, strict=True)
        if numbers["share_b"] > 0
    ]
    scored.sort(key=lambda each: (each[1].p, -len(each[0])))
    groups = families([ngram for ngram, _ in scored], [phrase.share_b for _, phrase in scored])
    return [replace(scored[group.lead][1], text=" ".join(map(str, group.phrase))) for group in groups]

"""Answers that repeat themselves or are truncated."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from holdfast.measure.answers import Answer
from holdfast.measure.artifacts.ngrams import Unit
from holdfast.measure.statistics import paired_difference

LOOPING = 2.4
"""A text with a larger compression ratio counts as a loop. Threshold of Whisper (arXiv 2212.04356, section 4.5)."""


def compression_ratio(text: str) -> float:
    """Bytes of a text divided by its bytes after DEFLATE, without header and checksum; 1 for an empty text.

    Prose of a hundred words has about 2, shorter prose less. A loop has far more.
    """
    data = text.encode()
    if not data:
        return 1.0
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return len(data) / len(compressor.compress(data) + compressor.flush())


def repeated_share(units: Sequence[Unit], n: int = 4) -> float:
    """1 − distinct n-grams / all n-grams (seq-rep-n of Welleck et al., arXiv 1908.04319); 0 without n-grams."""
    count = len(units) - n + 1
    return 1 - len({tuple(units[i : i + n]) for i in range(count)}) / count if count > 0 else 0.0


def compare_quality(
    a: Mapping[str, Sequence[Answer]],
    b: Mapping[str, Sequence[Answer]],
    units: Callable[[Answer], Sequence[Unit]],
) -> dict[str, dict[str, Any]]:
    """Length, repetition and truncation of two models' answers to the same prompts.

    Each number is averaged over a prompt's answers. `a` and `b` are means over prompts. `difference`, `ci95` and `p`
    are of the paired t test over prompts (None below two). A number that is not known for every answer, such as whether
    it was truncated, is left out.
    """
    measures: dict[str, Callable[[Answer], float | None]] = {
        "length": lambda answer: float(len(units(answer))),
        "repeated_4grams": lambda answer: repeated_share(units(answer)),
        "compression_ratio": lambda answer: compression_ratio(answer.text),
        "looping": lambda answer: float(compression_ratio(answer.text) > LOOPING),
        "truncated": lambda answer: None if answer.truncated is None else float(answer.truncated),
    }
    compared = {}
    for name, measure in measures.items():
        values_a, values_b = ([[measure(answer) for answer in side[p]] for p in a] for side in (a, b))
        if any(value is None for prompt in (*values_a, *values_b) for value in prompt):
            continue
        means_a, means_b = ([sum(v or 0.0 for v in prompt) / len(prompt) for prompt in x] for x in (values_a, values_b))
        compared[name] = {
            "a": sum(means_a) / len(means_a),
            "b": sum(means_b) / len(means_b),
            **paired_difference(means_b, means_a).as_json(),
        }
    return compared

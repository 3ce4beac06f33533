"""Answers that repeat themselves or do not end."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from holdfast.measure.answers import Answer
from holdfast.measure.artifacts.ngrams import Unit
from holdfast.measure.statistics import paired_difference

LOOPING = 2.4
"""Compression ratio above which a text is taken to loop: the bound of Whisper's decoder (arXiv 2212.04356, 4.5)."""


def compression_ratio(text: str) -> float:
    """Bytes of a text over its bytes after DEFLATE, without header and checksum; 1 for an empty text.

    Ordinary prose of some hundred words has about 2, and less where it is shorter; a loop has far more.
    """
    data = text.encode()
    if not data:
        return 1.0
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return len(data) / len(compressor.compress(data) + compressor.flush())


def repeated_share(units: Sequence[Unit], n: int = 4) -> float:
    """1 − distinct n-grams / n-grams of an answer (seq-rep-n of Welleck et al., arXiv 1908.04319); 0 of none."""
    count = len(units) - n + 1
    return 1 - len({tuple(units[i : i + n]) for i in range(count)}) / count if count > 0 else 0.0


def compare_quality(
    a: Mapping[str, Sequence[Answer]],
    b: Mapping[str, Sequence[Answer]],
    units: Callable[[Answer], Sequence[Unit]],
) -> dict[str, dict[str, Any]]:
    """Length, repetition and truncation of two models' answers to the same prompts.

    Each measure is averaged over a prompt's answers; `a` and `b` are means over prompts, and `difference`, `ci95` and
    `p` those of the paired t test over prompts (None below two). A measure that some answer says nothing about, such
    as whether it was cut off, is left out.
    """
    measures: dict[str, Callable[[Answer], float | None]] = {
        "length": lambda answer: float(len(units(answer))),
        "repeated_4grams": lambda answer: repeated_share(units(answer)),
        "compression_ratio": lambda answer: compression_ratio(answer.text),
        "looping": lambda answer: float(compression_ratio(answer.text) > LOOPING),
        "truncated": lambda answer: None if answer.truncated is None else float(answer.truncated),
    }
    found = {}
    for name, measure in measures.items():
        values_a, values_b = ([[measure(answer) for answer in side[p]] for p in a] for side in (a, b))
        if any(value is None for prompt in (*values_a, *values_b) for value in prompt):
            continue
        means_a, means_b = ([sum(v or 0.0 for v in prompt) / len(prompt) for prompt in x] for x in (values_a, values_b))
        found[name] = {
            "a": sum(means_a) / len(means_a),
            "b": sum(means_b) / len(means_b),
            **paired_difference(means_b, means_a).as_json(),
        }
    return found

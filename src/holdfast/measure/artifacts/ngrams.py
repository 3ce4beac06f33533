"""Answers as sequences of units, and which n-grams occur in which answer.

Everything in this package counts answers, not occurrences: an n-gram is in an answer or not. An answer in a loop has a
word a thousand times and is still one answer. Counted by occurrence, it alone would make its words significant.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Unit = str | int
"""A word, a punctuation mark or a tag of a text; or a token id."""

Ngram = tuple[Unit, ...]

Documents = Mapping[str, Sequence[Sequence[Unit]]]
"""The answers to each prompt, by the prompt's id. An answer is a sequence of units."""

LONGEST = 5
"""Units of the longest n-gram that is counted. Longer phrases are joined from these."""

_CHARACTER = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"

_UNIT = re.compile(
    rf"""
    </?[\w:-]{{1,40}}/?> | <\|[^|<>\s]{{1,40}}\|>   # tags, such as <answer> and <|im_end|>
    | \\[A-Za-z]+                                   # \boxed
    | [{_CHARACTER}]                                # scripts without spaces: a character
    | [^\W{_CHARACTER}]+(?:['’][^\W{_CHARACTER}]+)* # words and numbers
    | \n+                                           # a line end, an empty line
    | [-=]+>                                        # arrows
    | (?P<mark>[^\w\s])(?P=mark)*                   # punctuation; equal marks in a row are one: **, ###
    """,
    re.VERBOSE,
)


def units_of_text(text: str) -> list[Unit]:
    """Words, tags, marks and line ends of a text, in order. Spaces are left out; several empty lines count as one."""
    return ["\n\n" if unit.startswith("\n\n") else unit for unit in (m[0] for m in _UNIT.finditer(text))]


def show(ngram: Sequence[Unit], decode: Callable[[Sequence[int]], str] | None = None) -> str:
    """An n-gram on one line: words with spaces between; token ids as text if `decode` is given."""
    ids = [unit for unit in ngram if isinstance(unit, int)]
    text = decode(ids) if decode is not None and ids else " ".join(str(unit) for unit in ngram)
    return text.replace("\n", "⏎")


@dataclass(frozen=True)
class Presence:
    """Which n-grams occur in which documents.

    Attributes:
        matrix: [V, D] of 0 and 1.
        order: [V], units in each n-gram.
    """

    matrix: sparse.csr_array
    order: NDArray[np.int64]
    _at: NDArray[np.int64]
    _stream: Sequence[Unit]

    def ngram(self, index: int) -> Ngram:
        """The n-gram of a row."""
        at = int(self._at[index])
        return tuple(self._stream[at : at + int(self.order[index])])


def presence(documents: Sequence[Sequence[Unit]], longest: int = LONGEST) -> Presence:
    """All n-grams of 1 to `longest` units in documents.

    An n-gram is numbered by the number of its first n − 1 units and its last unit. So each order takes one sort of
    integers. Nothing is hashed, so no two n-grams are confused.
    """
    stream: list[Unit] = [unit for document in documents for unit in document]
    numbers: dict[Unit, int] = {}
    units = np.array([numbers.setdefault(unit, len(numbers)) for unit in stream], dtype=np.int64)
    owner = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
    matrices, orders, firsts = [], [], []
    names = np.zeros(len(units), dtype=np.int64)
    for n in range(1, longest + 1):
        # Position i has the number of the n-gram that starts there. No n-gram starts at the last n − 1 positions.
        inside = np.flatnonzero(owner[: len(units) - n + 1] == owner[n - 1 :]) if len(units) >= n else units[:0]
        keys = names[inside] * len(numbers) + units[inside + n - 1]
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        names = np.zeros(len(units), dtype=np.int64)
        names[inside] = inverse
        matrix = sparse.coo_array(
            (np.ones(len(inside)), (inverse, owner[inside])), shape=(len(first), len(documents))
        ).tocsr()
        matrix.data[:] = 1.0
        matrices.append(matrix)
        orders.append(np.full(len(first), n))
        firsts.append(inside[first])
    return Presence(
        sparse.vstack(matrices, format="csr"), np.concatenate(orders), np.concatenate(firsts).astype(np.int64), stream
    )


@dataclass(frozen=True)
class PairedShares:
    """For each n-gram and prompt, the share of the prompt's answers by A and by B that contain it.

    The prompt is the unit of evidence. Several answers to one prompt are not independent, so they count as one.

    Attributes:
        presence: the n-grams of A's, B's and the other documents.
        a, b: [V, P].
        others: [V, E] of 0 and 1, for the other documents.
        prompts: prompt ids, in the order of the columns.
    """

    presence: Presence
    a: sparse.csr_array
    b: sparse.csr_array
    others: sparse.csr_array
    prompts: list[str]


def paired_shares(
    a: Documents, b: Documents, others: Sequence[Sequence[Unit]] = (), longest: int = LONGEST
) -> PairedShares:
    """Count the n-grams of two models' answers to the same prompts, and of other documents.

    Raises:
        ValueError: the two models have different prompts, or a prompt has no answer.
    """
    if set(a) != set(b):
        odd = sorted(set(a) ^ set(b))[0]
        raise ValueError(f"the two models have different prompts: only one has answers to {odd!r}")
    prompts = list(a)
    documents: list[Sequence[Unit]] = []
    weights = []
    for answers in (a, b):
        rows, columns, values = [], [], []
        for column, prompt in enumerate(prompts):
            if not answers[prompt]:
                raise ValueError(f"no answer to {prompt!r}")
            for answer in answers[prompt]:
                rows.append(len(documents))
                columns.append(column)
                values.append(1.0 / len(answers[prompt]))
                documents.append(answer)
        weights.append((rows, columns, values))
    answered = len(documents)
    counted = presence([*documents, *others], longest)
    shape = (len(documents) + len(others), len(prompts))
    share_a, share_b = (
        (counted.matrix @ sparse.coo_array((values, (rows, columns)), shape=shape).tocsr()).tocsr()
        for rows, columns, values in weights
    )
    return PairedShares(counted, share_a, share_b, counted.matrix[:, answered:], prompts)

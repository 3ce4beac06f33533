"""Format markers of one task in the answers to another task's prompts.

The demonstrations show what marks a task: n-grams that occur in many of the task's demonstrations and in few of any
other task's. Two models are then compared by how often these n-grams occur in answers to the other tasks' prompts. Such
a marker was the first sign of the collapse described in arXiv 2607.01763: `\\boxed` of the mathematics stage filled the
tool calls.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import betainc
from scipy.stats import false_discovery_control

from holdfast.measure.artifacts.families import contains, families
from holdfast.measure.artifacts.growth import LEVEL, PRIOR_PROMPTS, can_reach, log_odds, sign_test
from holdfast.measure.artifacts.ngrams import LONGEST, Documents, Ngram, Unit, presence, show

OWN_SHARE = 0.2
"""A marker occurs in at least this share of its task's demonstrations. Rarer n-grams are content, not format."""

OTHER_SHARE = 0.25
"""A marker's share in any other task's demonstrations is at most this fraction of its share in its own."""

MOST = 8
"""Largest number of markers of one task."""


@dataclass(frozen=True, slots=True)
class Marker:
    """An n-gram that is characteristic of a task, and the shares of demonstrations that contain it."""

    task: str
    ngram: Ngram
    share: float
    share_elsewhere: Mapping[str, float]
    z: float


@dataclass(frozen=True, slots=True)
class Leak:
    """A task's marker, or any of them (`ngram` None), in the answers to another task's prompts.

    `more` and `fewer` count prompts on which B's answers contain it more often than A's, and less often. p is of the
    exact one-sided sign test over prompts. q is its false-discovery rate over all tested leaks.
    """

    task: str
    ngram: Ngram | None
    on: str
    share_demonstrations: float | None
    share_a: float
    share_b: float
    more: int
    fewer: int
    p: float
    q: float

    def as_json(self, decode: Callable[[Sequence[int]], str] | None = None) -> dict[str, Any]:
        """Plain data, with the n-gram as text and as units."""
        plain = {name: getattr(self, name) for name in Leak.__slots__}
        ngram = None if self.ngram is None else list(self.ngram)
        return plain | {"ngram": ngram, "text": None if self.ngram is None else show(self.ngram, decode)}


def task_markers(
    demonstrations: Mapping[str, Sequence[Sequence[Unit]]], *, longest: int = LONGEST, level: float = LEVEL
) -> dict[str, list[Marker]]:
    """The markers of each task, strongest evidence first. None if fewer than two tasks have demonstrations.

    An n-gram's p value is exact. It is about how many of the demonstrations that contain the n-gram are the task's own,
    if every demonstration is equally likely to contain it.
    """
    demonstrations = {task: documents for task, documents in demonstrations.items() if documents}
    if len(demonstrations) < 2:
        return {task: [] for task in demonstrations}
    present = presence([document for documents in demonstrations.values() for document in documents], longest)
    ends = np.cumsum([len(documents) for documents in demonstrations.values()])
    counts = np.stack([np.asarray(part.sum(axis=1)) for part in _columns(present.matrix, ends)])
    sizes = np.array([len(documents) for documents in demonstrations.values()], dtype=float)
    shares = counts / sizes[:, None]
    by_order = np.zeros((len(counts), int(present.order.max()) + 1))
    for index, row in enumerate(counts):
        by_order[index] = np.bincount(present.order, weights=row, minlength=by_order.shape[1])
    markers: dict[str, list[Marker]] = {}
    for index, task in enumerate(demonstrations):
        others = np.arange(len(counts)) != index
        own, rest = counts[index], counts[others].sum(0)
        expected = sizes[index] / sizes.sum()
        can = np.flatnonzero(can_reach(own + rest, level, expected))
        if not len(can):
            markers[task] = []
            continue
        q = false_discovery_control(betainc(own[can], rest[can] + 1.0, expected))
        order = present.order[can]
        scale = PRIOR_PROMPTS / sizes.sum()
        prior, prior_total = scale * (own + rest)[can], scale * by_order.sum(0)[order]
        n_own, n_rest = by_order[index][order], by_order[others].sum(0)[order]
        _, z = log_odds(own[can], n_own, rest[can], n_rest, prior, prior_total)
        # This comes after the test, which does not see these shares: selection by them would create significance.
        characteristic = (shares[index] >= OWN_SHARE) & (shares[others].max(0) <= OTHER_SHARE * shares[index])
        kept = np.flatnonzero((q <= level) & characteristic[can])
        kept = kept[np.argsort(-z[kept], kind="stable")]
        ngrams = [present.ngram(can[i]) for i in kept]
        groups = families(ngrams, support=[float(own[can[i]]) for i in kept])[:MOST]
        markers[task] = [
            Marker(
                task=task,
                ngram=ngrams[group.lead],
                share=float(shares[index, can[kept[group.lead]]]),
                share_elsewhere={
                    other: float(shares[k, can[kept[group.lead]]])
                    for k, other in enumerate(demonstrations)
                    if other != task
                },
                z=float(z[kept[group.lead]]),
            )
            for group in groups
        ]
    return markers


def _columns(matrix: Any, ends: Any) -> list[Any]:
    """A sparse matrix cut into blocks of columns that end at `ends`."""
    columns = matrix.tocsc()
    return [columns[:, start:end] for start, end in zip([0, *ends[:-1]], ends)]


def leaks(
    markers: Mapping[str, Sequence[Marker]], a: Documents, b: Documents, task_of: Mapping[str, str]
) -> list[Leak]:
    """Markers of each task in B's answers to the other tasks' prompts, strongest evidence of growth first.

    For each pair of tasks there is also an entry with `ngram` None: it counts answers with any of the task's markers.

    Args:
        task_of: the task of each prompt.
    """
    prompts: dict[str, list[str]] = {}
    for prompt in b:
        prompts.setdefault(task_of[prompt], []).append(prompt)
    results = []
    for task, own in markers.items():
        for on, asked in prompts.items():
            if on == task or not own:
                continue
            wanted: list[tuple[Marker | None, list[Ngram]]] = [(marker, [marker.ngram]) for marker in own]
            for marker, ngrams in [(None, [marker.ngram for marker in own]), *wanted]:
                share_a, share_b = ([share_with(side[prompt], ngrams) for prompt in asked] for side in (a, b))
                results.append(
                    Leak(
                        task=task,
                        ngram=marker.ngram if marker else None,
                        on=on,
                        share_demonstrations=marker.share_elsewhere.get(on) if marker else None,
                        q=1.0,
                        **compared(share_a, share_b),
                    )
                )
    if results:
        q = false_discovery_control([leak.p for leak in results])
        results = [replace(leak, q=float(value)) for leak, value in zip(results, q, strict=True)]
    return sorted(
        (leak for leak in results if leak.share_b > 0), key=lambda leak: (leak.p, leak.share_a - leak.share_b)
    )


def share_with(answers: Sequence[Sequence[Unit]], ngrams: Sequence[Ngram]) -> float:
    """The share of answers that contain any of some n-grams."""
    return sum(any(contains(tuple(answer), ngram) for ngram in ngrams) for answer in answers) / len(answers)


def compared(share_a: Sequence[float], share_b: Sequence[float]) -> dict[str, Any]:
    """Shares over prompts, numbers of prompts on which A and B differ, and the sign test's p for B above A."""
    differences = np.subtract(share_b, share_a)
    gained, lost = np.maximum(differences, 0).sum(), np.maximum(-differences, 0).sum()
    return {
        "share_a": float(np.mean(share_a)),
        "share_b": float(np.mean(share_b)),
        "more": int((differences > 0).sum()),
        "fewer": int((differences < 0).sum()),
        "p": float(sign_test(gained, lost)),
    }

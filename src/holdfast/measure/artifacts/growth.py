"""Which n-grams grow in B's answers, compared with A's and with the demonstrations.

An n-gram has grown if two things are true at once:

- It occurs in the answers to more prompts than before. The test is the exact one-sided sign test over prompts. It needs
  no large numbers and pairs answers to the same prompt. If B's answers are longer, the null hypothesis gives B a share
  of the differing prompts in proportion to length. This is right for rare n-grams; the second test covers frequent
  ones.
- It is a larger part of the text. Its log-odds among the n-grams of its length, after Monroe, Colaresi & Quinn
  (Political Analysis 16, 2008), increased, with the linearized variance over paired prompts. Without this test,
  everything would grow in answers that only became longer.

The p value is the larger of the two (an intersection–union test). Benjamini–Hochberg, over all n-grams that could
become significant at all, turns it into q. Results are ranked by Monroe's z: the log-odds ratio divided by its
model-based standard deviation. The prior is informative: it expects the text of both models together.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import betainc, ndtr
from scipy.stats import false_discovery_control

from holdfast.measure.artifacts.families import families
from holdfast.measure.artifacts.ngrams import LONGEST, Documents, Ngram, PairedShares, Unit, paired_shares, show

Vector = NDArray[np.float64]

LEVEL = 0.05
"""Expected share of false results among the named n-grams."""

PRIOR_PROMPTS = 10.0
"""Weight of the prior, in prompts with the average text of both models."""

_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Grown:
    """An n-gram that grew, and the n-grams that grew with it as parts of the same phrase.

    Shares are over prompts, of the answers that contain it. `more` and `fewer` count the prompts on which B's answers
    contain it more often than A's, and less often. `q` compares with A, and `q_beyond` with A and the demonstrations at
    once (None without demonstrations). `phrase` is the longest phrase around the n-gram that occurs nearly as often.
    """

    ngram: Ngram
    phrase: Ngram
    share_a: float
    share_b: float
    share_demonstrations: float | None
    more: int
    fewer: int
    log_odds: float
    z: float
    p: float
    q: float
    q_beyond: float | None
    also: tuple[Ngram, ...]
    examples: tuple[str, ...]

    def as_json(self, decode: Callable[[Sequence[int]], str] | None = None) -> dict[str, Any]:
        """Plain data, with n-grams as text and as units."""
        plain = asdict(self)
        plain |= {"text": show(self.phrase, decode), "ngram": list(self.ngram), "phrase": list(self.phrase)}
        return plain | {"also": [show(each, decode) for each in self.also], "examples": list(self.examples)}


@dataclass(frozen=True, slots=True)
class Growth:
    """What grew, strongest evidence first. `tested` n-grams could become significant, and `significant` ones did."""

    grown: list[Grown]
    tested: int
    significant: int
    level: float


def log_odds(y: Vector, n: Vector, y_a: Vector, n_a: Vector, prior: Vector, prior_total: Vector) -> tuple[Vector, ...]:
    """Log-odds ratio of B to A with a Dirichlet prior, and its z (Monroe et al. 2008, equations 16, 19, 22).

    Args:
        y, y_a: counts of each word in B and A [V].
        n, n_a: all words of B and A.
        prior, prior_total: pseudo-counts of each word, and their sum.

    Returns:
        delta [V] and z [V]. The variance includes the terms of the complement, which vanish for a large vocabulary.
    """
    # The bounds matter only for a word that occurs in neither text, or that is the only word of one.
    top, rest = np.maximum(y + prior, 1e-6), np.maximum(n + prior_total - y - prior, 0.5)
    top_a, rest_a = np.maximum(y_a + prior, 1e-6), np.maximum(n_a + prior_total - y_a - prior, 0.5)
    delta = np.log(top / rest) - np.log(top_a / rest_a)
    return delta, delta / np.sqrt(1 / top + 1 / rest + 1 / top_a + 1 / rest_a)


def sign_test(more: NDArray[Any], fewer: NDArray[Any], expected: NDArray[Any] | float = 0.5) -> Vector:
    """Exact one-sided p values: the probability of `more` or more successes in `more + fewer` trials.

    Counts may be fractions if prompts have several answers: the incomplete beta function continues the binomial tail.
    That is conservative, because a mean over answers varies less than a single answer.

    Args:
        expected: probability of a success.
    """
    more, fewer = np.asarray(more, dtype=float), np.asarray(fewer, dtype=float)
    return np.where(more > 0, betainc(np.where(more > 0, more, 1.0), fewer + 1.0, expected), 1.0)


def can_reach(differing: NDArray[Any], level: float = LEVEL, expected: NDArray[Any] | float = 0.5) -> NDArray[np.bool_]:
    """Which n-grams could become significant, given the number of prompts on which A and B differ.

    With d such prompts, the smallest p of the sign test is `expected`^d, in either direction. n-grams that cannot reach
    level/K are left out, with K the number that can (Tarone 1990; Gilbert 2005). This adds no false discoveries, and
    the others need no correction for thousands of n-grams that occur once.

    Args:
        differing: number of prompts on which A and B differ, by n-gram [V].
    """
    smallest = np.power(expected, np.asarray(differing, dtype=float))
    # The smallest K for which no more than K of them can reach level/K.
    ks = np.arange(1, len(smallest) + 2)
    reach = np.searchsorted(np.sort(smallest), level / ks, side="right")
    k = int(ks[np.argmax(reach <= ks)])
    return np.asarray(smallest <= level / k)


@dataclass(frozen=True, slots=True)
class Votes:
    """On which prompts A and B differ, for each n-gram [V].

    Attributes:
        more, fewer: number of prompts on which B's answers contain it more often than A's, and less often.
        gained, lost: the same, weighted by the difference of shares. Equal to `more` and `fewer` if each prompt has one
            answer.
    """

    more: NDArray[np.int64]
    fewer: NDArray[np.int64]
    gained: Vector
    lost: Vector

    @classmethod
    def of(cls, a: sparse.csr_array, b: sparse.csr_array) -> Self:
        """Votes of shares [V, P]."""
        difference = (b - a).tocsr()
        rows = np.repeat(np.arange(difference.shape[0]), np.diff(difference.indptr))
        sums: list[NDArray[Any]] = []
        for sign in (1, -1):
            size = np.where(sign * difference.data > _SAME, sign * difference.data, 0.0)
            sums.append(np.bincount(rows[size > 0], minlength=difference.shape[0]))
            sums.append(np.bincount(rows, weights=size, minlength=difference.shape[0]))
        return cls(sums[0], sums[2], sums[1], sums[3])


def grown_ngrams(
    a: Documents,
    b: Documents,
    demonstrations: Sequence[Sequence[Unit]] | None = None,
    *,
    longest: int = LONGEST,
    level: float = LEVEL,
) -> Growth:
    """The n-grams that grew in B's answers compared with A's, as the module defines it.

    Args:
        a, b: answers to the same prompts.
        demonstrations: demonstrations of the prompts' tasks, not necessarily for the same prompts.
        longest: units of the longest n-gram.
        level: false-discovery rate.

    Raises:
        ValueError: the two models have different prompts, or a prompt has no answer.
    """
    shares = paired_shares(a, b, demonstrations or (), longest)
    if not len(shares.presence.order):
        return Growth([], 0, 0, level)  # every answer is empty
    votes = Votes.of(shares.a, shares.b)
    weights = _Weights(shares)
    expected = weights.expected_votes()
    can = np.flatnonzero(can_reach(votes.gained + votes.lost, level, expected))
    if not len(can):
        return Growth([], 0, 0, level)
    delta, z = log_odds(*weights.counts(can))
    more_often = sign_test(votes.gained[can], votes.lost[can], expected[can])
    p = np.maximum(more_often, ndtr(-delta / weights.paired_deviation(can)))
    q = false_discovery_control(p)
    q_beyond: Vector | None = None
    if demonstrations:
        beyond = ndtr(-log_odds(*weights.against_demonstrations(can))[1])
        q_beyond = false_discovery_control(np.maximum(p, beyond))
    kept = np.flatnonzero((q <= level) & (delta > 0))
    kept = kept[np.argsort(-z[kept], kind="stable")]
    ngrams = [shares.presence.ngram(can[i]) for i in kept]
    grown = []
    for family in families(ngrams, support=[float(weights.y_b[can[i]]) for i in kept]):
        i = kept[family.lead]
        row = can[i]
        grown.append(
            Grown(
                ngram=ngrams[family.lead],
                phrase=family.phrase,
                share_a=float(weights.y_a[row]) / len(shares.prompts),
                share_b=float(weights.y_b[row]) / len(shares.prompts),
                share_demonstrations=float(weights.y_d[row]) / len(demonstrations) if demonstrations else None,
                more=int(votes.more[row]),
                fewer=int(votes.fewer[row]),
                log_odds=float(delta[i]),
                z=float(z[i]),
                p=float(p[i]),
                q=float(q[i]),
                q_beyond=None if q_beyond is None else float(q_beyond[i]),
                also=tuple(ngrams[other] for other in family.members if other != family.lead),
                examples=_examples(shares, row),
            )
        )
    return Growth(grown, len(can), len(kept), level)


def _examples(shares: PairedShares, row: int, count: int = 3) -> tuple[str, ...]:
    """Some prompts whose answers by B contain an n-gram more often than A's."""
    difference = (shares.b[[row]] - shares.a[[row]]).toarray()[0]
    return tuple(shares.prompts[i] for i in np.flatnonzero(difference > _SAME)[:count])


class _Weights:
    """Sums over prompts for A's and B's answers. Each order of n-gram has its own vocabulary."""

    def __init__(self, shares: PairedShares) -> None:
        self.shares = shares
        self.order = shares.presence.order
        self.y_a, self.y_b = np.asarray(shares.a.sum(axis=1)), np.asarray(shares.b.sum(axis=1))
        orders = int(self.order.max()) + 1
        # [order, P]: number of distinct n-grams in the answers to a prompt.
        by_order = sparse.coo_array(
            (np.ones(len(self.order)), (self.order, np.arange(len(self.order)))), shape=(orders, len(self.order))
        ).tocsr()
        self.length_a, self.length_b = (by_order @ shares.a).toarray(), (by_order @ shares.b).toarray()
        self.y_d = np.asarray(shares.others.sum(axis=1))
        self.n_d = by_order @ self.y_d
        self.prompts = len(shares.prompts)
        scale = PRIOR_PROMPTS / (2 * self.prompts)
        self.prior = scale * (self.y_a + self.y_b)
        self.prior_total = scale * (self.length_a.sum(1) + self.length_b.sum(1))

    def expected_votes(self) -> Vector:
        """Probability that a differing prompt is in favor of B, if only the length of the answers grew [V]."""
        n_a, n_b = self.length_a.sum(1), self.length_b.sum(1)
        return np.asarray(np.maximum(0.5, n_b / np.maximum(n_a + n_b, 1e-12))[self.order])

    def counts(self, rows: NDArray[np.int64]) -> tuple[Vector, ...]:
        """The arguments of `log_odds` for B compared with A."""
        order = self.order[rows]
        n_b, n_a = self.length_b.sum(1)[order], self.length_a.sum(1)[order]
        return self.y_b[rows], n_b, self.y_a[rows], n_a, self.prior[rows], self.prior_total[order]

    def against_demonstrations(self, rows: NDArray[np.int64]) -> tuple[Vector, ...]:
        """The arguments of `log_odds` for B compared with the demonstrations. The prior is of these two."""
        order, documents = self.order[rows], self.shares.others.shape[1]
        y_b, n_b = self.y_b[rows], self.length_b.sum(1)[order]
        y_d, n_d = self.y_d[rows], self.n_d[order]
        scale = PRIOR_PROMPTS / 2
        prior = scale * (y_b / self.prompts + y_d / documents)
        return y_b, n_b, y_d, n_d, prior, scale * (n_b / self.prompts + n_d / documents)

    def paired_deviation(self, rows: NDArray[np.int64]) -> Vector:
        """Standard deviation of the log-odds ratio over paired prompts, by the delta method.

        A prompt's influence on the ratio is c_B·x_B − d_B·l_B − c_A·x_A + d_A·l_A. Here x is 1 if the n-gram is in the
        prompt's answer, l is the number of n-grams in it, and c and d are the derivatives of the log-odds by their
        sums.
        """
        y_b, n_b, y_a, n_a, prior, prior_total = self.counts(rows)
        d_b = 1 / np.maximum(n_b + prior_total - y_b - prior, 0.5)
        d_a = 1 / np.maximum(n_a + prior_total - y_a - prior, 0.5)
        c_b, c_a = 1 / (y_b + prior) + d_b, 1 / (y_a + prior) + d_a
        a, b = self.shares.a[rows], self.shares.b[rows]
        order = self.order[rows]
        l_a, l_b = self.length_a, self.length_b

        def with_length(x: sparse.csr_array, length: NDArray[Any]) -> Vector:
            return np.asarray((x @ length.T)[np.arange(len(rows)), order])

        def of_lengths(first: NDArray[Any], second: NDArray[Any]) -> Vector:
            return np.asarray((first * second).sum(1)[order])

        total = (
            c_b**2 * (b * b).sum(axis=1)
            + c_a**2 * (a * a).sum(axis=1)
            - 2 * c_a * c_b * (a * b).sum(axis=1)
            + d_b**2 * of_lengths(l_b, l_b)
            + d_a**2 * of_lengths(l_a, l_a)
            - 2 * d_a * d_b * of_lengths(l_a, l_b)
            - 2 * c_b * (d_b * with_length(b, l_b) - d_a * with_length(b, l_a))
            + 2 * c_a * (d_b * with_length(a, l_b) - d_a * with_length(a, l_a))
        )
        mean = (c_b * y_b - d_b * n_b - c_a * y_a + d_a * n_a) / self.prompts
        return np.sqrt(np.maximum(total - self.prompts * mean**2, 1e-12))

"""Negative log-likelihood (NLL) of right answers: of a set, and its change between two evaluations.

**Demonstrations**, in nats per token. Lower is better. It is graded and has no sampling noise. It is the only number of
a set that nothing judges. A set's NLL is the sum over all tokens of its demonstrations, divided by their number.

**Forced answers.** The beginning of a right answer is forced on the model, and the target is what has to follow. The
probability of the target, exp(−NLL of all its tokens), says what the model knows, whatever its way of answering. A
set's probability is the mean over items.

A change is paired: both evaluations score the same tokens of the same items. Its 95% interval is a t interval over
items.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeGuard

from holdfast.measure.response import PerToken, per_token
from holdfast.measure.scores import Json
from holdfast.measure.statistics import Interval, mean_interval, t_interval

ItemNll = Mapping[str, Any]
"""An item's demonstration, or its target: `nll` in nats per token, and its number of `tokens`."""

NO_CHANGE = 1e-4
"""A change below this many nats per token, or of this probability, is taken for rounding. No interval shows it."""

LikelihoodOutcome = Literal["fell", "rose", "not shown"]


@dataclass(frozen=True, slots=True)
class LikelihoodChange:
    """The change of a set's NLL, or of its probability of the right answer.

    Attributes:
        before, after: over the items that both evaluations have; NLL in nats per token.
        change: after − before. A negative change of the NLL means that the demonstrations have become more probable.
        ci95: 95% interval of the change over items; None with one item.
        n: items.
    """

    before: float
    after: float
    change: float
    ci95: Interval | None
    n: int

    @property
    def outcome(self) -> LikelihoodOutcome:
        """What the interval shows: it is below 0, above 0, or neither."""
        return outcome(self.change, self.ci95)

    def as_json(self) -> Json:
        return asdict(self) | {"ci95": None if self.ci95 is None else list(self.ci95), "outcome": self.outcome}


def outcome(change: float, ci95: Sequence[float] | None) -> LikelihoodOutcome:
    """What a change and its interval show."""
    if ci95 is None or abs(change) < NO_CHANGE:
        return "not shown"
    return "fell" if ci95[1] < 0 else "rose" if ci95[0] > 0 else "not shown"


def set_nll(items: Sequence[ItemNll | None]) -> PerToken | None:
    """NLL of a set per token, with its standard error over items; None if no item has a demonstration."""
    known = [item for item in items if _is_known(item)]
    if not known:
        return None
    return _per_token([_sum(item) for item in known], [item["tokens"] for item in known])


def nll_change(before: Sequence[ItemNll | None], after: Sequence[ItemNll | None]) -> LikelihoodChange | None:
    """The change over the items that both evaluations have, in the same order; None if there are none."""
    pairs = _pairs(before, after)
    if not pairs:
        return None
    tokens = [a["tokens"] for a, _ in pairs]
    first, last = ([_sum(pair[side]) for pair in pairs] for side in (0, 1))
    change = _per_token([b - a for a, b in zip(first, last, strict=True)], tokens)
    ci95 = None if change.se is None else t_interval(change.mean, change.se, len(pairs))
    return LikelihoodChange(
        math.fsum(first) / sum(tokens), math.fsum(last) / sum(tokens), change.mean, ci95, len(pairs)
    )


def forced_answers(items: Sequence[ItemNll | None]) -> Json | None:
    """What is reported of a set's targets after their forced beginnings; None if no item has a target.

    Returns:
        `nll`: mean over items of the NLL of the whole target, in nats; `nll_se`. `nll_per_token`: the sum over all
        tokens, divided by their number. `probability`: mean over items of exp(−NLL); `probability_se`. `n`: items. The
        standard errors are over items, and None with one item.
    """
    known = [item for item in items if _is_known(item)]
    if not known:
        return None
    sums = mean_interval([_sum(item) for item in known])
    probabilities = mean_interval([_probability(item) for item in known])
    return {
        "nll": sums.mean,
        "nll_se": _error(sums.sd, len(known)),
        "nll_per_token": math.fsum(_sum(item) for item in known) / sum(item["tokens"] for item in known),
        "probability": probabilities.mean,
        "probability_se": _error(probabilities.sd, len(known)),
        "n": len(known),
    }


def probability_change(before: Sequence[ItemNll | None], after: Sequence[ItemNll | None]) -> LikelihoodChange | None:
    """The change of the mean probability of the right answer over the items that both evaluations have; None if there
    are none."""
    pairs = [(_probability(a), _probability(b)) for a, b in _pairs(before, after)]
    if not pairs:
        return None
    first, last = ([pair[side] for pair in pairs] for side in (0, 1))
    change = mean_interval([b - a for a, b in pairs])
    assert change.mean is not None
    return LikelihoodChange(
        math.fsum(first) / len(pairs), math.fsum(last) / len(pairs), change.mean, change.ci95, len(pairs)
    )


def _pairs(before: Sequence[ItemNll | None], after: Sequence[ItemNll | None]) -> list[tuple[ItemNll, ItemNll]]:
    """The items that both evaluations have, with the same tokens."""
    return [
        (a, b)
        for a, b in zip(before, after, strict=True)
        if _is_known(a) and _is_known(b) and a["tokens"] == b["tokens"]
    ]


def _probability(item: ItemNll) -> float:
    return math.exp(-max(0.0, _sum(item)))


def _error(sd: float | None, n: int) -> float | None:
    return None if sd is None else sd / math.sqrt(n)


def _is_known(item: ItemNll | None) -> TypeGuard[ItemNll]:
    """Whether an item has a number. A number that is not finite is null in a file."""
    return item is not None and item["nll"] is not None and math.isfinite(item["nll"])


def _sum(item: ItemNll) -> float:
    return float(item["nll"] * item["tokens"])


def _per_token(sums: Sequence[float], tokens: Sequence[int]) -> PerToken:
    return per_token({str(i): [v] for i, v in enumerate(sums)}, {str(i): [n] for i, n in enumerate(tokens)})

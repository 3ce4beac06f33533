"""Negative log-likelihood (NLL) of demonstrations, in nats per token: of a set, and its change between two evaluations.

Lower is better. It is graded and has no sampling noise. It is the only number of a set that nothing judges. A set's NLL
is the sum over all tokens of its demonstrations, divided by their number. A change is paired: both evaluations score
the same tokens of the same items. Its 95% interval is a t interval over items.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeGuard

from holdfast.measure.response import PerToken, per_token
from holdfast.measure.scores import Json
from holdfast.measure.statistics import Interval, t_interval

ItemNll = Mapping[str, Any]
"""An item's demonstration: `nll` in nats per token, and its number of `tokens`."""

NO_CHANGE = 1e-4
"""A change below this many nats per token is taken for rounding. No interval shows it."""

Outcome = Literal["fell", "rose", "not shown"]


@dataclass(frozen=True, slots=True)
class NllChange:
    """The change of a set's NLL.

    Attributes:
        before, after: NLL over the items that both evaluations have, in nats per token.
        change: after − before. Negative means that the demonstrations have become more probable.
        ci95: 95% interval of the change over items; None with one item.
        n: items.
    """

    before: float
    after: float
    change: float
    ci95: Interval | None
    n: int

    @property
    def outcome(self) -> Outcome:
        """What the interval shows: it is below 0, above 0, or neither."""
        return outcome(self.change, self.ci95)

    def as_json(self) -> Json:
        return asdict(self) | {"ci95": None if self.ci95 is None else list(self.ci95), "outcome": self.outcome}


def outcome(change: float, ci95: Sequence[float] | None) -> Outcome:
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


def nll_change(before: Sequence[ItemNll | None], after: Sequence[ItemNll | None]) -> NllChange | None:
    """The change over the items that both evaluations have, in the same order; None if there are none."""
    pairs = [
        (a, b)
        for a, b in zip(before, after, strict=True)
        if _is_known(a) and _is_known(b) and a["tokens"] == b["tokens"]
    ]
    if not pairs:
        return None
    tokens = [a["tokens"] for a, _ in pairs]
    first, last = ([_sum(pair[side]) for pair in pairs] for side in (0, 1))
    change = _per_token([b - a for a, b in zip(first, last, strict=True)], tokens)
    ci95 = None if change.se is None else t_interval(change.mean, change.se, len(pairs))
    return NllChange(math.fsum(first) / sum(tokens), math.fsum(last) / sum(tokens), change.mean, ci95, len(pairs))


def _is_known(item: ItemNll | None) -> TypeGuard[ItemNll]:
    """Whether an item has a number. A number that is not finite is null in a file."""
    return item is not None and item["nll"] is not None and math.isfinite(item["nll"])


def _sum(item: ItemNll) -> float:
    return float(item["nll"] * item["tokens"])


def _per_token(sums: Sequence[float], tokens: Sequence[int]) -> PerToken:
    return per_token({str(i): [v] for i, v in enumerate(sums)}, {str(i): [n] for i, n in enumerate(tokens)})

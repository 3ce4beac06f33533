"""Is a lost skill gone or hidden? What a short repair brings back, in numbers.

A model that lost a skill is trained for a few steps on the base's own right answers to some items of the skill's suite.
Other items test it. What comes back at once was hidden: the model still had it and no longer showed it. The base gets
the same repair, and is the ceiling: what it gains is not recovery.

A repair that is long enough teaches any skill again. Nothing here says how much of what came back was taught: that
would need a model that never had the skill. So the repair is short, and its steps and rate are part of the result.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from holdfast.measure.paired_items import PairedItems, compare_paired

RecoveryOutcome = Literal["not lost", "hidden", "partly hidden", "not recovered", "not shown"]

MEANINGS: dict[RecoveryOutcome, str] = {
    "not lost": "no loss is shown on these items",
    "hidden": "it came back, and no difference from the base is left",
    "partly hidden": "a part came back, and the model is still below the base",
    "not recovered": "no gain is shown, and the model is still below the base: gone, or too deep for this repair",
    "not shown": "too few items to say",
}


@dataclass(frozen=True, slots=True)
class BeforeAndAfter:
    """Scores of the test items, one each, before and after the repair."""

    before: Sequence[float]
    after: Sequence[float]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a repair brought back on one suite. All comparisons are paired over the same test items.

    Attributes:
        lost: the model before the repair compared with the base before.
        recovered: the model after the repair compared with before.
        left: the model after the repair compared with the base after the same repair.
        base_gain: the base after the repair compared with before.
        share: recovered divided by lost, of the means; None unless a loss is shown.
    """

    lost: PairedItems
    recovered: PairedItems
    left: PairedItems
    base_gain: PairedItems
    share: float | None

    @property
    def outcome(self) -> RecoveryOutcome:
        """What the intervals show. Each is at the 95% level, without a correction for several suites."""
        if self.lost.verdict != "worse":
            return "not lost"
        if self.recovered.verdict == "better":
            return "partly hidden" if self.left.verdict == "worse" else "hidden"
        return "not recovered" if self.left.verdict == "worse" else "not shown"

    def as_json(self) -> dict[str, Any]:
        compared = {name: _plain(getattr(self, name)) for name in ("lost", "recovered", "left", "base_gain")}
        return compared | {"share": self.share, "outcome": self.outcome, "meaning": MEANINGS[self.outcome]}


def recovery(base: BeforeAndAfter, model: BeforeAndAfter) -> Recovery:
    """Compare a model's repair with the base's.

    Raises:
        ValueError: the four lists have no scores, or not the same number of them.
    """
    lost = compare_paired(model.before, base.before)
    recovered = compare_paired(model.after, model.before)
    left = compare_paired(model.after, base.after)
    share = -recovered.difference / lost.difference if lost.verdict == "worse" else None
    return Recovery(lost, recovered, left, compare_paired(base.after, base.before), share)


def _plain(compared: PairedItems) -> dict[str, Any]:
    return asdict(compared) | {"ci95": list(compared.ci95)}

"""The gate: does a candidate hold on to what its base could do, set by set? Torch-free.

Each set gets one of three verdicts, from the paired tests of
`holdfast.measure.item_tests` at a margin of so many points:

- `holds`: it is shown that the true score has not fallen by more than the margin.
- `fell`: it is shown that it has.
- `not decided`: neither; the items are too few for so small a margin.

Each of the first two families of tests is corrected over the sets by Holm's method, so that the chance that any set is
said to have fallen that has not is at most 5%, and the same for any that is said to hold and does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from holdfast.errors import RunError
from holdfast.evaluate.standalone import Evaluation
from holdfast.measure.item_tests import POWER, ItemComparison, compare_items
from holdfast.measure.statistics import LEVEL, holm
from holdfast.summary.verdict import ALPHA, points

MARGIN = 2.0
"""The default margin, in points."""

GateOutcome = Literal["holds", "fell", "not decided"]


@dataclass(frozen=True, slots=True)
class SetVerdict:
    """One set at the gate.

    Attributes:
        name: of the task or suite.
        outcome: the verdict.
        items: the comparison on the set's items.
        p_fell: of a fall beyond the margin, corrected over the sets.
        p_holds: of holding, corrected over the sets.
        detectable: the smallest true fall that would have been found with a chance of 80%, at the strictest level that
            the correction may ask for; None where not even a fall to nothing would have been.
        items_needed: how many items would show that the set holds, if in truth nothing has changed; None at margin 0.
    """

    name: str
    outcome: GateOutcome
    items: ItemComparison
    p_fell: float
    p_holds: float
    detectable: float | None
    items_needed: int | None

    def as_json(self) -> dict[str, Any]:
        c = self.items
        return {
            "name": self.name,
            "outcome": self.outcome,
            "n": c.n,
            "base": c.base,
            "candidate": c.candidate,
            "change": c.change,
            "ci95": list(c.ci95),
            "better": c.better,
            "worse": c.worse,
            "test": c.test,
            "p_fell": c.p_fell,
            "p_holds": c.p_holds,
            "p_fell_holm": self.p_fell,
            "p_holds_holm": self.p_holds,
            "detectable_fall": self.detectable,
            "items_needed": self.items_needed,
        }

    def sentence(self, margin: float) -> str:
        """The verdict in words; the margin is a fraction of 1."""
        c, beyond = self.items, f"{points(margin)} points"
        low, high = map(signed_points, c.ci95)
        seen = f"{signed_points(c.change)} points (95% interval {low} to {high}, {c.n} items)"
        if self.outcome == "fell":
            return f"{self.name} fell by more than {beyond}: {seen}, Holm's p {self.p_fell:.2g}."
        if self.outcome == "holds":
            return f"{self.name} holds: {seen}; a fall beyond {beyond} is ruled out, Holm's p {self.p_holds:.2g}."
        text = f"{self.name} is not decided: {seen}; "
        if self.detectable is None:
            text += f"not even a fall of all {points(c.base)} points would have been found with a chance of {POWER:.0%}"
        else:
            text += f"a fall of {points(self.detectable)} points or more would have been found with a chance of"
            text += f" {POWER:.0%}"
        if self.items_needed is None:
            return text + "."
        return text + f"; if nothing has changed, some {self.items_needed:,} items would show it."


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """All sets at the gate.

    Attributes:
        margin: the largest fall that is accepted, as a fraction of 1.
        strict: whether a set that is not decided is refused too.
        sets: the verdict on each, in the order of the base's evaluation.
    """

    margin: float
    strict: bool
    sets: Sequence[SetVerdict]

    @property
    def passed(self) -> bool:
        """Whether the candidate is let through."""
        refused = {"fell", "not decided"} if self.strict else {"fell"}
        return not any(each.outcome in refused for each in self.sets)

    def named(self, outcome: GateOutcome) -> list[str]:
        """Names of the sets with this verdict."""
        return [each.name for each in self.sets if each.outcome == outcome]

    def sentence(self) -> str:
        """The gate's verdict in one sentence."""
        counts = {outcome: len(self.named(outcome)) for outcome in ("fell", "holds", "not decided")}
        told = ", ".join(f"{n} {'hold' if o == 'holds' and n > 1 else o}" for o, n in counts.items() if n)
        verdict = "passes" if self.passed else "is refused"
        strictly = ", and what is not decided is refused" if self.strict and counts["not decided"] else ""
        sets = f"{len(self.sets)} set{'' if len(self.sets) == 1 else 's'}"
        return f"The candidate {verdict}: of {sets} {told}, at a margin of {points(self.margin)} points{strictly}."

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "margin": self.margin,
            "strict": self.strict,
            "level": LEVEL,
            "power": POWER,
            "sentence": self.sentence(),
            "sets": [each.as_json() | {"sentence": each.sentence(self.margin)} for each in self.sets],
        }


def judge(base: Evaluation, candidate: Evaluation, margin: float = MARGIN, *, strict: bool = False) -> GateVerdict:
    """Judge a candidate by its base, on every set that the base was evaluated on.

    Args:
        base: an evaluation with a score per item under "items".
        candidate: an evaluation of the same items.
        margin: the largest fall that is accepted, in points.
        strict: whether a set that is not decided is refused too.

    Raises:
        RunError: the two were not evaluated on the same items, or a score is no score.
    """
    fraction = margin / 100
    scores = {name: _paired_scores(name, base, candidate) for name in _shared_sets(base, candidate)}
    compared = {name: compare_items(*pair, fraction) for name, pair in scores.items()}
    fell = holm([each.p_fell for each in compared.values()])
    holds = holm([each.p_holds for each in compared.values()])
    strictest = ALPHA / len(compared)
    return GateVerdict(
        fraction,
        strict,
        [
            SetVerdict(
                name,
                "fell" if p_fell <= ALPHA else "holds" if p_holds <= ALPHA else "not decided",
                each,
                p_fell,
                p_holds,
                each.detectable_fall(fraction, strictest),
                each.items_needed(fraction, strictest),
            )
            for (name, each), p_fell, p_holds in zip(compared.items(), fell, holds, strict=True)
            if p_fell is not None and p_holds is not None
        ],
    )


def _shared_sets(base: Evaluation, candidate: Evaluation) -> list[str]:
    names, others = list(base.get("items") or ()), candidate.get("items") or ()
    if not names:
        raise RunError("the base's evaluation holds no scores of items", fix="evaluate it with `holdfast eval --json`")
    missing = [name for name in names if name not in others]
    if missing:
        raise RunError(
            f"the candidate was not evaluated on {', '.join(missing)}", fix="evaluate both with the same configuration"
        )
    return names


def _paired_scores(name: str, base: Evaluation, candidate: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    try:
        a, b = (np.asarray(each["items"][name], dtype=float) for each in (base, candidate))
    except (TypeError, ValueError):
        raise RunError("its items are not a list of scores", where=f"set {name!r}") from None
    fix = "evaluate both with the same configuration and version"
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise RunError(f"the base has {a.size} items and the candidate {b.size}", where=f"set {name!r}", fix=fix)
    if not (np.isfinite([a, b]).all() and min(a.min(), b.min()) >= 0):
        raise RunError("an item's score is not a number of 0 or more", where=f"set {name!r}")
    shown = [{s["id"]: s.get("prompt") for s in each.get("samples", {}).get(name, ())} for each in (base, candidate)]
    other = [item for item, prompt in shown[0].items() if shown[1].get(item, prompt) != prompt]
    if other:
        raise RunError(f"item {other[0]!r} asks something else of the two", where=f"set {name!r}", fix=fix)
    return a, b


def signed_points(fraction: float) -> str:
    """A change as percentage points with its sign and one decimal."""
    return f"{round(100 * fraction, 1) + 0.0:+.1f}"

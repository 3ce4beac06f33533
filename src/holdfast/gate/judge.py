"""Judge a candidate against its base, set by set: has it lost more than an accepted margin? Needs no torch.

Each set gets one of three outcomes, from the paired tests of `holdfast.measure.item_tests` at a margin in points:

- `holds`: the true score has not dropped by more than the margin. This is shown.
- `fell`: the true score has dropped by more than the margin. This is shown.
- `inconclusive`: neither is shown. The set has too few items for so small a margin.

A set on which the base is not above chance has `nothing to lose` (`holdfast.measure.chance`). It does not decide, and
does not make the correction stricter.

A set that nothing judges has no score, so it is `not judged`. The change of its demonstrations' NLL is shown, and does
not decide. If nothing is judged at all, there is no verdict.

Both families of tests are corrected over the sets by Holm's method. So the probability that any set wrongly gets the
verdict `fell` is at most 5%, and the same is true of the verdict `holds`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from holdfast.errors import RunError
from holdfast.evaluation.standalone import EvaluationJson
from holdfast.measure.chance import is_above_chance
from holdfast.measure.item_tests import POWER, ItemComparison, compare_items
from holdfast.measure.likelihood import LikelihoodChange, nll_change
from holdfast.measure.statistics import LEVEL, holm
from holdfast.summary.words import ALPHA, count, points, signed_nats, signed_points

MARGIN = 2.0
"""The default margin, in points."""

GateOutcome = Literal["holds", "fell", "inconclusive", "nothing to lose"]


@dataclass(frozen=True, slots=True)
class SetVerdict:
    """The verdict on one set.

    Attributes:
        name: of the task or suite.
        outcome: what is shown.
        items: the comparison on the set's items.
        p_fell: p value of a drop beyond the margin, Holm-adjusted over the sets. None for a set with nothing to lose.
        p_holds: p value of no drop beyond the margin, in the same way.
        detectable: the smallest true drop that is detected with 80% power, as a fraction of 1, at the strictest level
            that the correction may use. None if even a drop to a score of 0 has less power.
        items_needed: items that would show with 80% power that the set holds if nothing has changed. None at margin 0.
    """

    name: str
    outcome: GateOutcome
    items: ItemComparison
    p_fell: float | None
    p_holds: float | None
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
        """The verdict in words.

        Args:
            margin: as a fraction of 1.
        """
        c, allowed = self.items, f"{points(margin)} points"
        low, high = map(signed_points, c.ci95)
        change = f"{signed_points(c.change)} points (95% CI {low} to {high}, {c.n} items)"
        if self.outcome == "nothing to lose":
            return f"{self.name} has nothing to lose, so it does not decide: the base is not above chance. {change}."
        if self.outcome == "fell":
            return f"{self.name} fell by more than {allowed}: {change}, Holm-adjusted p {self.p_fell:.2g}."
        if self.outcome == "holds":
            p = f"Holm-adjusted p {self.p_holds:.2g}"
            return f"{self.name} holds: {change}. A drop of more than {allowed} is ruled out, {p}."
        if self.detectable is None:
            detects = f"it cannot detect any drop with {POWER:.0%} power, not even one to a score of 0"
        else:
            detects = f"with {POWER:.0%} power it detects only drops of {points(self.detectable)} points or more"
        text = f"{self.name} is inconclusive: {change}. This set is too small: {detects}."
        if self.items_needed is None:
            return text
        return (
            f"{text} About {self.items_needed:,} items would be needed to rule out a drop of more than {allowed} with "
            f"{POWER:.0%} power, if nothing has changed."
        )


@dataclass(frozen=True, slots=True)
class UnjudgedSet:
    """A set that nothing judges: the NLL of its demonstrations under both models.

    Attributes:
        name: of the task or suite.
        nll: the change over the items; None if it was not measured for both.
    """

    name: str
    nll: LikelihoodChange | None

    def as_json(self) -> dict[str, Any]:
        numbers = None if self.nll is None else self.nll.as_json()
        return {"name": self.name, "nll": numbers, "sentence": self.sentence()}

    def sentence(self) -> str:
        """The change in words."""
        start = f"{self.name} is not judged, so it does not decide"
        if (c := self.nll) is None:
            return f"{start}."
        interval = "" if c.ci95 is None else f"95% CI {signed_nats(c.ci95[0])} to {signed_nats(c.ci95[1])}, "
        shown = {"fell": ". They are more probable", "rose": ". They are LESS probable", "not shown": ""}[c.outcome]
        return (
            f"{start}: NLL of its demonstrations {c.before:.3f} to {c.after:.3f} nats per token "
            f"(change {signed_nats(c.change)}, {interval}{count(c.n, 'item')}){shown}."
        )


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """The verdict on a candidate.

    Attributes:
        margin: the largest drop that is accepted, as a fraction of 1.
        strict: whether an inconclusive set is refused too.
        sets: the verdict on each set, in the order of the base's evaluation.
        unjudged: the sets that nothing judges. They do not decide.
    """

    margin: float
    strict: bool
    sets: Sequence[SetVerdict]
    unjudged: Sequence[UnjudgedSet] = ()

    @property
    def passed(self) -> bool:
        """Whether the candidate passes the gate."""
        return not any(each.outcome in self.refused_outcomes for each in self.sets)

    @property
    def refused_outcomes(self) -> frozenset[GateOutcome]:
        """Outcomes that no set of a passing candidate has."""
        return frozenset({"fell", "inconclusive"}) if self.strict else frozenset({"fell"})

    def names_of(self, outcome: GateOutcome) -> list[str]:
        """Names of the sets with this outcome."""
        return [each.name for each in self.sets if each.outcome == outcome]

    def sentence(self) -> str:
        """The verdict in words."""
        outcomes: tuple[GateOutcome, ...] = ("fell", "holds", "inconclusive", "nothing to lose")
        fell, holds, inconclusive, empty = (len(self.names_of(outcome)) for outcome in outcomes)
        counts = [
            f"{fell} fell" if fell else "",
            f"{holds} hold{'s' if holds == 1 else ''}" if holds else "",
            f"{inconclusive} {'is' if inconclusive == 1 else 'are'} inconclusive" if inconclusive else "",
            f"{empty} {'has' if empty == 1 else 'have'} nothing to lose" if empty else "",
        ]
        sets = f"{len(self.sets)} set{'' if len(self.sets) == 1 else 's'}"
        verdict = f"The candidate {'passes' if self.passed else 'is refused'}"
        counted = (
            f"{verdict}: of {sets} {', '.join(filter(None, counts))}, at a margin of {points(self.margin)} points."
        )
        return counted + (" Inconclusive sets are refused too." if self.strict and inconclusive else "")

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "margin": self.margin,
            "strict": self.strict,
            "level": LEVEL,
            "power": POWER,
            "sentence": self.sentence(),
            "sets": [each.as_json() | {"sentence": each.sentence(self.margin)} for each in self.sets],
            "not_judged": [each.as_json() for each in self.unjudged],
        }


def judge(
    base: EvaluationJson, candidate: EvaluationJson, margin: float = MARGIN, *, strict: bool = False
) -> GateVerdict:
    """Judge a candidate against its base, on every set that the base was evaluated on.

    Args:
        base: an evaluation with a score per item under "items".
        candidate: an evaluation of the same items.
        margin: the largest drop that is accepted, in points.
        strict: whether an inconclusive set is refused too.

    Raises:
        RunError: the two were evaluated on different items, a score is not a number of 0 or more, or the base has
            nothing to lose on any set.
    """
    fraction = margin / 100
    scores = {name: _paired_scores(name, base, candidate) for name in _shared_sets(base, candidate)}
    compared = {name: compare_items(*pair, fraction) for name, pair in scores.items()}
    deciding = {
        name: each
        for name, each in compared.items()
        if is_above_chance(min(1.0, each.base), each.n, _chance(name, base))
    }
    if not deciding:
        raise RunError(
            "the base is not above chance on any set, so no candidate can lose anything",
            fix="add suites that the base can answer, or check its prompts and verifiers",
        )
    fell = dict(zip(deciding, holm([each.p_fell for each in deciding.values()]), strict=True))
    holds = dict(zip(deciding, holm([each.p_holds for each in deciding.values()]), strict=True))
    strictest = ALPHA / len(deciding)
    return GateVerdict(
        fraction,
        strict,
        [
            SetVerdict(
                name,
                _outcome(fell.get(name), holds.get(name)),
                each,
                fell.get(name),
                holds.get(name),
                each.detectable_fall(fraction, strictest) if name in deciding else None,
                each.items_needed(fraction, strictest) if name in deciding else None,
            )
            for name, each in compared.items()
        ],
        _unjudged(base, candidate),
    )


def _outcome(p_fell: float | None, p_holds: float | None) -> GateOutcome:
    """What the adjusted p values show."""
    if p_fell is None or p_holds is None:
        return "nothing to lose"
    return "fell" if p_fell <= ALPHA else "holds" if p_holds <= ALPHA else "inconclusive"


def _chance(name: str, evaluation: EvaluationJson) -> float:
    """A set's chance level. Evaluations of earlier versions have none."""
    sets = evaluation.get("sets")
    numbers = sets.get(name) if isinstance(sets, Mapping) else None
    chance = numbers.get("chance") if isinstance(numbers, Mapping) else None
    return float(chance) if isinstance(chance, int | float) and 0 <= chance < 1 else 0.0


def _unjudged(base: EvaluationJson, candidate: EvaluationJson) -> list[UnjudgedSet]:
    """The sets that the base was evaluated on and that nothing judges."""
    return [UnjudgedSet(name, _nll_change(name, base, candidate)) for name in _unjudged_names(base)]


def _unjudged_names(evaluation: EvaluationJson) -> list[str]:
    sets = evaluation.get("sets")
    known = sets.items() if isinstance(sets, Mapping) else ()
    return [name for name, numbers in known if isinstance(numbers, Mapping) and numbers.get("mean") is None]


def _nll_change(name: str, base: EvaluationJson, candidate: EvaluationJson) -> LikelihoodChange | None:
    a, b = ((each.get("nll") or {}).get(name, ()) for each in (base, candidate))
    if not a or not b:
        return None
    fix = "evaluate both with the same configuration and version"
    try:
        change = nll_change(a, b)
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
        raise RunError("the two have different demonstrations", where=f"set {name!r}", fix=fix) from None
    if change is None or change.n < sum(item is not None for item in a):
        # Equal demonstrations have equal numbers of tokens, unless the models have different tokenizers.
        return None
    return change


def _shared_sets(base: EvaluationJson, candidate: EvaluationJson) -> list[str]:
    names, others = list(base.get("items") or ()), candidate.get("items") or ()
    if not names and base.get("nll"):
        fix = "add a suite with answers or a verifier, or compare `nll` in the output of `holdfast eval --json`"
        raise RunError("nothing judges any of its sets, so there is no score to compare", fix=fix)
    if not names:
        raise RunError("the base's evaluation has no item scores", fix="evaluate it with `holdfast eval --json`")
    own, evaluated = _unjudged_names(base), {*others, *_unjudged_names(candidate)}
    missing = [name for name in [*names, *own] if name not in evaluated]
    if missing:
        raise RunError(
            f"the candidate was not evaluated on {', '.join(missing)}", fix="evaluate both with the same configuration"
        )
    once = [name for name in [*names, *own] if (name in names) != (name in others)]
    if once:
        # Versions before 3 of the summary scored sets of demonstrations by exact match.
        raise RunError(
            f"only one of the two evaluations judges {', '.join(once)}",
            fix="evaluate both with the same configuration and version",
        )
    return names


def _paired_scores(name: str, base: EvaluationJson, candidate: EvaluationJson) -> tuple[np.ndarray, np.ndarray]:
    fix = "evaluate both with the same configuration and version"
    try:
        a, b = (np.asarray(each["items"][name], dtype=float) for each in (base, candidate))
    except (TypeError, ValueError, OverflowError):
        raise RunError("its items are not a list of scores", where=f"set {name!r}", fix=fix) from None
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise RunError(f"the base has {a.size} items and the candidate {b.size}", where=f"set {name!r}", fix=fix)
    if not (np.isfinite([a, b]).all() and min(a.min(), b.min()) >= 0):
        raise RunError("an item's score is not a number of 0 or more", where=f"set {name!r}", fix=fix)
    # Only the prompts of samples are stored. They reveal most changes of a set that keep its number of items.
    prompts = [
        {s["id"]: s.get("prompt") for s in (each.get("samples") or {}).get(name, ())} for each in (base, candidate)
    ]
    different = [item for item, prompt in prompts[0].items() if prompts[1].get(item, prompt) != prompt]
    if different:
        raise RunError(f"item {different[0]!r} has different prompts for the two", where=f"set {name!r}", fix=fix)
    return a, b

"""How the score of each judged set changed over a run: a paired, exact test over its items, and what became of them.

The items are the same before and after. Each change is tested by the items whose scores differ
(`holdfast.measure.paired_items`): exact for scores of 0 and 1. So "lost 9, gained 1" has p = .02, although the
intervals of the two scores overlap widely. Changes of one kind are corrected for their number by Holm's method.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.measure.chance import is_above_chance
from holdfast.measure.paired_items import compare_paired
from holdfast.measure.scores import Json, score
from holdfast.measure.statistics import holm
from holdfast.measure.transitions import transitions
from holdfast.summary.likelihood import spans
from holdfast.summary.words import ALPHA

UNTESTED: Mapping[str, Any] = dict.fromkeys(("kept", "lost", "gained", "never", "ci95", "p", "p_holm"))
"""The fields that need the scores of single items, where these were not kept."""


def score_changes(
    evaluations: Sequence[Mapping[str, Any]],
    order: Sequence[str],
    sets: Sequence[Mapping[str, Any]],
    items: Sequence[Mapping[str, Sequence[float]]],
) -> list[Json]:
    """The `score_changes` block of a run's summary.

    Args:
        evaluations: of the summary: `scores` by set, for stages 0 to the last finished one.
        order: the tasks in the order of their stages.
        sets: `name`, `kind` and `chance` of everything evaluated.
        items: by evaluation, one score for each item by set. A set whose items were not kept is not there.
    """
    chance = {each["name"]: each["chance"] for each in sets}
    entries: list[Json] = []
    for name, what, first, last in spans(len(evaluations) - 1, order, sets):
        before, after = (score(evaluations[stage], name) for stage in (first, last))
        if before is None or after is None:
            continue
        n = evaluations[first]["scores"][name]["n"]
        entry: Json = {"set": name, "what": what, "from_stage": first, "to_stage": last, "n": n}
        entry |= {"before": before, "after": after, "change": after - before}
        entry["has_to_lose"] = is_above_chance(before, n, chance[name])
        entries.append(entry | _tested(*(items[stage].get(name, ()) for stage in (first, last))))
    for what in ("learning", "forgetting", "transfer"):
        # What has nothing to lose is not asked whether it fell, and does not make the correction stricter.
        family = [e for e in entries if e["what"] == what and (what != "forgetting" or e["has_to_lose"])]
        for entry, p in zip(family, holm([entry["p"] for entry in family]), strict=True):
            entry["p_holm"] = p
    return [entry | {"outcome": _outcome(entry)} for entry in entries]


def _tested(before: Sequence[float], after: Sequence[float]) -> Json:
    """Counts of items, and the test of their scores. All None if the items were not kept or are not the same."""
    if not before or len(before) != len(after):
        return dict(UNTESTED)
    found = compare_paired(after, before)
    return {**transitions(before, after).as_json(), "ci95": list(found.ci95), "p": found.p, "p_holm": None}


def _outcome(entry: Mapping[str, Any]) -> str:
    if entry["p"] is None:
        return "not tested"
    if entry["p_holm"] is None or entry["p_holm"] >= ALPHA:
        return "not shown"
    return "rose" if entry["change"] > 0 else "fell"


def is_uncorrected_loss(entry: Mapping[str, Any]) -> bool:
    """Whether a loss would be shown as the only comparison, but is not after correction."""
    uncorrected = entry["p_holm"] is not None and entry["p"] < ALPHA <= entry["p_holm"]
    return uncorrected and entry["change"] < 0

"""Differences between two recipes: paired over runs, and at a matched score on the new task."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from holdfast.measure.matched import WIDEST_GAP, is_sign_open
from holdfast.measure.metrics import METRICS
from holdfast.reporting.number_format import difference_text, number, p_text, percent
from holdfast.reporting.view import SummaryView


def paired_differences(view: SummaryView) -> dict[str, Any]:
    """Rows for every pair of recipes and every metric; the drawn intervals of one metric share a scale."""
    entries = [e for e in view.summary.get("paired") or [] if number(e.get("difference")) is not None]
    keys = [name for name in METRICS if any(e["metric"] == name for e in entries)]
    rows = []
    for key in keys:
        of_metric = [e for e in entries if e["metric"] == key]
        scale = _scale(of_metric)
        for e in of_metric:
            row = _difference(e, key, scale)
            rows.append({**row, "metric": keys.index(key), "p": p_text(e.get("p")), "p_holm": p_text(e.get("p_holm"))})
    chosen = keys.index("loss_of_earlier") if "loss_of_earlier" in keys else 0
    options = [(i, f"{METRICS[key].label} ({METRICS[key].unit})") for i, key in enumerate(keys)]
    return {"rows": rows, "options": options, "chosen": chosen}


def matched_differences(view: SummaryView) -> dict[str, Any]:
    """Forgetting at a matched new-task score: within the stage, and overall. Without probes, at the ends of stages."""
    entries = [e for e in view.summary.get("matched") or [] if number(e.get("difference")) is not None]
    at_ends = [e for e in entries if e.get("method") != "interpolated"]
    groups: list[tuple[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]]] = [
        ("Within the stage",
         [(e, e["within_stage"]) for e in entries if e not in at_ends and e.get("within_stage")]),
        ("With what earlier stages had cost by then, which is not matched: tasks from their score when learned, "
         "held-out suites from the base model",
         [(e, e) for e in entries if e not in at_ends]),
        ("At the end of each stage, not matched (no probes)", [(e, e) for e in at_ends]),
    ]  # fmt: skip
    shown = []
    for title, members in groups:
        scale = _scale([loss for _, loss in members])
        rows = [
            {
                **_difference({**loss, "a": e["a"], "b": e["b"]}, "loss_of_earlier", scale),
                "score": percent(e.get("matched_score")),
                "loss_a": _with_bounds(loss, "a"),
                "loss_b": _with_bounds(loss, "b"),
                "p": p_text(loss.get("p_holm", loss.get("p"))),
            }
            for e, loss in members
            if number(loss.get("difference")) is not None
        ]
        if rows:
            shown.append((title, rows))
    lead = (
        "Forgetting of earlier tasks and held-out suites, in points, at the moment when both recipes first reach the "
        "same score on the stage's task. Means over stages. In brackets: forgetting at the two points around that "
        "moment. A difference is colored only if its sign holds wherever forgetting lies between them."
    )
    left_out = sum(e.get("stages_too_wide") or 0 for e in view.summary.get("matched") or [])
    if left_out:
        lead += (
            f" {left_out} stages of pairs of runs are left out, because a score rose by more than "
            f"{percent(WIDEST_GAP)} points between these two points."
        )
    if at_ends:
        lead += " Without probes within the stages this moment is unknown, so the end of each stage is used."
    return {"rows": shown, "lead": lead}


def _with_bounds(loss: Mapping[str, Any], side: str) -> str:
    """The loss of one side, and in brackets those at the two points around the match."""
    text, bounds = percent(loss.get(f"loss_{side}")), loss.get("bounds")
    return text if bounds is None else f"{text} [{', '.join(percent(each) for each in sorted(bounds[side]))}]"


def _difference(entry: Mapping[str, Any], key: str, scale: tuple[float, float]) -> dict[str, Any]:
    kind = METRICS[key].kind
    ci = entry.get("ci95")
    n = int(entry.get("n") or 0)
    no_interval = "1 pair: no CI" if n == 1 else "no CI"
    interval = f"[{difference_text(ci[0], kind)}, {difference_text(ci[1], kind)}]" if ci else no_interval
    return {
        "a": entry["a"],
        "b": entry["b"],
        "difference": difference_text(entry["difference"], kind),
        "interval": interval,
        "drawn": _whisker(entry, scale),
        "n": n,
    }


def _scale(entries: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The smallest range that holds zero and all intervals of a group."""
    ends = [x for e in entries for x in (e.get("difference"), *(e.get("ci95") or ())) if number(x) is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    return (low, high) if high > low else (-1.0, 1.0)


def _whisker(entry: Mapping[str, Any], scale: tuple[float, float]) -> Markup:
    """A difference and its interval as a dot on a whisker, with a line at zero; style.css draws it."""
    left, right = scale

    def at(value: float) -> str:
        return f"{4 + 92 * (value - left) / (right - left):.2f}%"

    difference, ci = entry["difference"], entry.get("ci95")
    low, high = ci or (difference, difference)
    p_holm = number(entry.get("p_holm"))
    significant = " significant" if ci and p_holm is not None and p_holm < 0.05 and not is_sign_open(entry) else ""
    return Markup('<span class="whisker{}" aria-hidden="true" style="--a:{};--b:{};--m:{};--z:{}"></span>').format(
        significant, at(low), at(high), at(difference), at(0.0)
    )

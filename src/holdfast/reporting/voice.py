"""The voice of demonstrations: how far they are from the base's own answers, and what rewriting made of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.reporting.number_format import nats, percent
from holdfast.reporting.view import SummaryView


def voice_section(view: SummaryView) -> dict[str, Any]:
    """Rows of both tables; empty if nothing was measured.

    The base is the same for all runs, so the first run that measured a task speaks for all. Rewriting differs by run:
    the table has one row per recipe and task, of its first run.

    Returns:
        "distances": (task, cells, phrases, sentence). "rewritten": (recipe, task, cells).
    """
    distances: dict[str, Mapping[str, Any]] = {}
    rewritten: dict[tuple[int, str], tuple[Any, str, list[str]]] = {}
    for recipe in view.recipes:
        for run in recipe.runs:
            for each in run.summary.get("demonstrations") or []:
                distances.setdefault(each["task"], each)
            for each in run.summary.get("rewriting") or []:
                rewritten.setdefault((recipe.index, each["task"]), (recipe, each["task"], _rewritten_cells(each)))
    return {
        "distances": [
            (task, _distance_cells(each), _phrases(each["phrases"]), each["sentence"])
            for task, each in distances.items()
        ],
        "rewritten": list(rewritten.values()),
    }


def _distance_cells(each: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each number with what it is compared with."""
    interval = "" if each["ci95"] is None else f"95% CI {nats(each['ci95'][0])} to {nats(each['ci95'][1])}"
    return [
        (nats(each["distance"]), interval),
        (nats(each["nll_demonstrations"]), f"own samples {nats(each['nll_samples'])}"),
        (
            f"{percent(each['outside_demonstrations'])}%",
            f"own samples {percent(each['outside_samples'])}%; top {each['top_k']}",
        ),
        (
            f"{each['length_demonstrations']:.1f}",
            f"own samples {each['length_samples']:.1f}, greedy {each['length_greedy']:.1f}",
        ),
    ]


def _phrases(phrases: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [
        (each["text"], f"{percent(each['share_demonstrations'], 0)}% against {percent(each['share_own'], 0)}%")
        for each in phrases
    ]


def _rewritten_cells(each: Mapping[str, Any]) -> list[str]:
    outcomes = each["outcomes"]
    taken = outcomes.get("rewritten", 0) + outcomes.get("same words", 0)
    stay = ", ".join(f"{count} {name}" for name, count in outcomes.items() if name not in ("rewritten", "same words"))
    return [
        f"{taken} of {each['examples']}",
        str(outcomes.get("same words", 0)),
        stay or "none",
        str(each["completions"]),
    ]

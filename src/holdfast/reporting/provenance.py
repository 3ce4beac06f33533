"""What was compared, and where the numbers come from: facts at the top of the page, provenance and settings below."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from holdfast.reporting.number_format import DASH, count, number
from holdfast.reporting.view import RecipeView, SummaryView


def facts(view: SummaryView) -> list[tuple[str, str]]:
    """What was compared: (term, text)."""
    first: Mapping[str, Any] = view.runs[0].summary if view.runs else {}
    model = first.get("model") or {}
    size = _size(model.get("parameters"))
    trainable = _size(model.get("trainable_parameters"))
    about = ", ".join(
        part
        for part in (
            f"{size} parameters" if size else "",
            f"{trainable} trainable" if trainable and trainable != size else "",
            str(model.get("dtype") or ""),
        )
        if part
    )
    orders = [" → ".join(order) for order in view.orders]
    equal = view.shared_budget
    shared = [f"{count(equal[k])} {w}" for k, w in (("optimizer_steps", "steps"), ("prompts", "prompts")) if k in equal]
    budget = ", ".join(shared) + ("" if len(view.recipes) == 1 else ", equal for all")
    shown = [
        ("Recipe" if len(view.recipes) == 1 else "Recipes", ", ".join(recipe.label for recipe in view.recipes)),
        ("Stream" if len(orders) < 2 else "Streams", " · ".join(orders)),
        ("Runs", _runs_text(view)),
        ("Model", f"{model.get('path', DASH)}" + (f" ({about})" if about else "")),
        ("Budget per run", budget if shared else ""),
    ]
    return [(term, text) for term, text in shown if text]


def provenance(view: SummaryView) -> list[tuple[str, str]]:
    """Where the numbers come from: (term, text)."""
    summary = view.summary
    models = {str((run.summary.get("model") or {}).get("path", DASH)) for run in view.runs}
    shown = [
        ("holdfast", str(summary.get("holdfast_version") or DASH)),
        ("Summary", f"schema version {summary.get('schema_version', DASH)}, {summary.get('kind', DASH)}"),
        ("Written", date_text(summary.get("created")) or DASH),
        ("Status", view.status),
        ("Model", ", ".join(sorted(models)) or DASH),
        ("Seeds", ", ".join(str(seed) for seed in view.seeds) or DASH),
    ]
    folders = [str(run["path"]) for run in summary.get("runs") or [] if run.get("path")]
    return [*shown, ("Runs", ", ".join(folders))] if folders else shown


def recipe_settings(recipe: RecipeView) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What a recipe is made of (its wiring), and its settings: (key, text) each."""
    if not recipe.runs:
        return [], []
    summary = recipe.runs[0].summary
    wiring = [(key.capitalize(), str(value)) for key, value in (summary.get("wiring") or {}).items()]
    settings = summary.get("recipe") or {}
    return wiring, [(k, v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)) for k, v in settings.items()]


def date_text(text: Any) -> str:
    """An ISO date and time as "3 May 2026, 14:05"; "" for anything else."""
    try:
        return f"{datetime.fromisoformat(str(text)):%d %B %Y, %H:%M}".lstrip("0")
    except ValueError:
        return ""


def _runs_text(view: SummaryView) -> str:
    seeds = f"seed{'s' if len(view.seeds) != 1 else ''} {', '.join(str(seed) for seed in view.seeds)}"
    if view.is_run:
        return f"1, {seeds}"
    factors = [(len(view.recipes), "recipe"), (len(view.seeds), "seed")]
    factors += [(len(view.orders), "task order")] if len(view.orders) > 1 else []
    product = " × ".join(f"{n} {name}{'s' if n != 1 else ''}" for n, name in factors)
    stopped = sum(recipe.stopped for recipe in view.recipes)
    ended = f"; the guard ended {stopped} of them early" if stopped else ""
    return f"{len(view.runs)} ({product}; {seeds}){ended}"


def _size(parameters: Any) -> str:
    """A number of parameters as 1.8M."""
    x = number(parameters)
    if x is None:
        return ""
    for limit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if x >= limit:
            return f"{x / limit:.3g}{letter}"
    return f"{x:.0f}"

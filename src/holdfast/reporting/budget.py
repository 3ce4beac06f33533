"""The budget table: what each recipe used, and whether the budgets are equal."""

from typing import Any

from holdfast.reporting.number_format import count, seconds
from holdfast.reporting.view import SummaryView

TITLES = {
    "optimizer_steps": "Steps",
    "prompts": "Prompts",
    "completions": "Completions",
    "generated_tokens": "Tokens generated",
    "trained_tokens": "Tokens trained on",
    "train": "Training time",
    "eval": "Evaluation time",
}


def budget_table(view: SummaryView) -> dict[str, Any]:
    """A row per recipe, and a sentence that compares the budgets."""
    equal = view.shared_budget
    if len(view.recipes) == 1:
        lead = "What this run used." if view.is_run else "Means per run."
    elif "optimizer_steps" in equal and "prompts" in equal:
        lead = (
            f"Means per run. All recipes made the same {count(equal['optimizer_steps'])} optimizer steps on the same "
            f"{count(equal['prompts'])} prompts. Sampled tokens and time differ between recipes."
        )
    else:
        lead = "Means per run. The recipes did not all make the same number of steps on the same number of prompts."
    rows = [
        (recipe, [seconds(v) if key in ("train", "eval") else count(v) for key, v in recipe.budget.items()])
        for recipe in view.recipes
    ]
    return {"lead": lead, "headers": list(TITLES.values()), "rows": rows}

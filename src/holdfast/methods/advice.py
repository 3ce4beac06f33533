"""Which recipes fit a stream of tasks: what the tasks provide, and what a recipe needs and costs. Torch-free."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from holdfast.methods import RECIPES
from holdfast.methods.base import Recipe
from holdfast.methods.cost import cost_of
from holdfast.objective.spec import OrthogonalPenalty
from holdfast.tasks.base import Task
from holdfast.tasks.load import lacking


@dataclass(frozen=True, slots=True)
class Advice:
    """What is to be said of one recipe for a stream.

    Attributes:
        lacks: what training examples of a task do not bring, by the task's name, and the model's settings; empty where
            the recipe can run.
        relative_cost: operations of a step beside SFT's on the same prompts, sampling included, at equal lengths.
        relative_memory: weights, gradients, optimiser and copies beside SFT's; 1 under LoRA.
        completions: sampled over the whole stream.
        over_budget: it costs more than was allowed.
    """

    recipe: str
    lacks: Mapping[str, list[str]]
    relative_cost: float
    relative_memory: float
    completions: int
    over_budget: bool
    when: str

    @property
    def fits(self) -> bool:
        return not self.lacks and not self.over_budget

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"fits": self.fits}


@dataclass(frozen=True, slots=True)
class Beginning:
    """A recipe to begin with, and why; `source` is where that was found."""

    recipe: str
    reason: str
    source: str


BEGINNINGS = (
    Beginning(
        "holdfast",
        "demonstrations that the model can follow in its prompt, and earlier tasks that matter: it learns on its own "
        "samples, stays near the base, and practises the earlier tasks' prompts beside the new ones",
        "docs/recipes.md, how holdfast was chosen",
    ),
    Beginning(
        "isdft",
        "demonstrations that the model can follow in its prompt, and old skills that matter: its partial target and "
        "its anchor to the base kept 73% of 48 retention scores within half a point, where the best other kept 52%",
        "arXiv 2609.24646",
    ),
    Beginning(
        "sdft",
        "demonstrations that the model can follow in its prompt, and old skills that matter: it learns on its own "
        "samples",
        "arXiv 2601.19897",
    ),
    Beginning(
        "grpo",
        "a verifier: rewards on the model's own samples move it least, where it succeeds now and then",
        "arXiv 2607.01763 and 2509.04259",
    ),
    Beginning("sft", "demonstrations alone: the cheapest, and the baseline to beat", "arXiv 2601.19897"),
)
"""What to try first, best documented for retention first: the one that fits and comes first is recommended."""


def advise(
    tasks: Sequence[Task],
    prompts: int,
    *,
    is_lora: bool,
    most: float | None = None,
    recipes: Iterable[type[Recipe]] | None = None,
) -> list[Advice]:
    """Every recipe at its defaults, the ones that fit first, cheaper ones before dearer ones.

    Args:
        prompts: training prompts over the whole stream, each step's counted anew.
        is_lora: whether an adapter is trained, so that a teacher is no copy of the model.
        most: how many times the operations of SFT may be spent; None for any number.
    """
    sft = cost_of(RECIPES["sft"]())
    found = []
    for kind in recipes if recipes is not None else RECIPES.values():
        cost = cost_of(kind())
        lacks = {task.name: needs for task in tasks if (needs := lacking(kind(), task))}
        found.append(
            Advice(
                recipe=kind.name,
                lacks=lacks | _of_the_model(kind(), is_lora=is_lora),
                relative_cost=cost.relative_to(sft),
                relative_memory=1.0 if is_lora else cost.memory_relative_to(sft),
                completions=round(cost.step.completions * prompts),
                over_budget=most is not None and cost.relative_to(sft) > most,
                when=kind.when,
            )
        )
    return sorted(found, key=lambda advice: (not advice.fits, bool(advice.lacks), advice.relative_cost))


def _of_the_model(recipe: Recipe, *, is_lora: bool) -> dict[str, list[str]]:
    """What the model's settings lack."""
    wants_adapters = isinstance(recipe.penalty(), OrthogonalPenalty)
    return {"the model": ["LoRA"]} if wants_adapters and not is_lora else {}


def beginning(advice: Sequence[Advice]) -> Beginning | None:
    """What to begin with among the recipes that fit; None where none of the documented ones does."""
    fitting = {each.recipe for each in advice if each.fits}
    return next((each for each in BEGINNINGS if each.recipe in fitting), None)

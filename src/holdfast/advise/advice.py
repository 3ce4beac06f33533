"""Which recipes fit a stream of tasks: what the tasks provide, and what each recipe needs and costs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from holdfast.advise.cost import PROMPTS_PER_STEP, cost_of, stream_cost
from holdfast.data.task import Task
from holdfast.recipes import RECIPES
from holdfast.recipes.base.needs import lacking
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.penalty import OrthogonalPenalty


@dataclass(frozen=True, slots=True)
class Advice:
    """One recipe, judged for a stream.

    Attributes:
        recipe: the name of the recipe.
        label: its label in the configuration, if that lists several; otherwise its name.
        settings: the configuration's settings that differ from the defaults. The recipe is judged with them.
        lacks: what is missing, by the task's name, or by "the model" for its settings; empty if the recipe can run.
        relative_cost: operations of the stream relative to SFT on the same prompts. Sampling is included; prompts and
            completions are assumed to be equally long.
        relative_memory: weights, gradients, optimizer state and copies, relative to SFT; 1 with LoRA.
        completions: samples over the whole stream.
        over_budget: it costs more than the budget.
        replays: whether it replays earlier tasks; None if it would, but the stream has one task.
        when: when to choose it.
    """

    recipe: str
    label: str
    settings: Mapping[str, Any]
    lacks: Mapping[str, list[str]]
    relative_cost: float
    relative_memory: float
    completions: int
    over_budget: bool
    replays: bool | None
    when: str

    @property
    def fits(self) -> bool:
        return not self.lacks and not self.over_budget

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"fits": self.fits}


@dataclass(frozen=True, slots=True)
class Beginning:
    """A recipe to start with, and why.

    Attributes:
        reason: what it needs and why it is recommended.
        source: the evidence; None if there is none.
        label, settings: as in `Advice`.
    """

    recipe: str
    reason: str
    source: str | None
    label: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


OF_REPLAY = ", and it practices prompts of earlier tasks together with the new ones"
"""Added to the reason for a recipe that replays earlier tasks."""

BEGINNINGS = (
    Beginning(
        "anchored",
        "demonstrations or solutions that the model can follow in its prompt, and old skills that matter: it learns on "
        "its own samples and stays near the base",
        "docs/recipes/anchored.md, where its settings were chosen",
    ),
    Beginning(
        "isdft",
        "demonstrations or solutions that the model can follow in its prompt, and old skills that matter: with its "
        "partial target and its anchor to the base, 73% of 48 retention scores stayed within half a point; with the "
        "next best recipe 52%",
        "arXiv 2609.24646",
    ),
    Beginning(
        "sdft",
        "demonstrations or solutions that the model can follow in its prompt, and old skills that matter: it learns on "
        "its own samples",
        "arXiv 2601.19897",
    ),
    Beginning(
        "grpo",
        "a verifier, and some successes among the samples: rewards on its own samples change the model least",
        "arXiv 2607.01763 and 2509.04259",
    ),
    Beginning(
        "rft",
        "a verifier, some successes, and a smaller budget than GRPO needs: it imitates its own right answers",
        "arXiv 2510.18874",
    ),
    Beginning("sft", "demonstrations only: the cheapest recipe, and the baseline to beat", "arXiv 2601.19897"),
    Beginning(
        "sd_zero",
        "a verifier, a small budget, and a model that can fix an answer when it knows it is wrong: it learns to revise "
        "its answers, then learns from its own revisions",
        "arXiv 2604.12002",
    ),
    Beginning(
        "msd",
        "prompts with translations, and no answers: it transfers the model's behavior in the other language",
        "arXiv 2605.02971",
    ),
    Beginning(
        "ssd",
        "only prompts: it imitates its own samples from a high temperature with top-k and top-p; this teaches nothing "
        "new, but makes a model that can do the task less easily distracted",
        "arXiv 2604.01193",
    ),
)
"""Recommendations in order: the first that fits is given. Better evidence for retention comes first. The last recipe
needs only prompts, so if none fits, the budget is below its cost."""


def advise(
    tasks: Sequence[Task],
    prompts: Sequence[int],
    *,
    is_lora: bool,
    prompts_per_step: int = PROMPTS_PER_STEP,
    most: float | None = None,
    named: Mapping[str, Recipe] | None = None,
    recipes: Iterable[type[Recipe]] | None = None,
) -> list[Advice]:
    """All recipes: those that fit first, then by cost.

    Args:
        prompts: training prompts of each task's stage; a prompt that comes again counts again.
        is_lora: whether an adapter is trained. A teacher is then no copy of the model.
        prompts_per_step: training prompts per optimizer step.
        most: the budget, as a multiple of SFT's operations; None for no limit.
        named: recipes with their settings, by label. All others are judged with their defaults.
        recipes: the kinds to judge; all by default.
    """
    advice = []
    for kind in recipes if recipes is not None else RECIPES.values():
        for label, recipe in _with_settings(kind, named or {}).items():
            advice.append(
                _advice(label, recipe, tasks, prompts, is_lora=is_lora, prompts_per_step=prompts_per_step, most=most)
            )
    return sorted(advice, key=lambda each: (not each.fits, bool(each.lacks), each.relative_cost))


def _with_settings(kind: type[Recipe], named: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """The recipes of one kind to judge, by label: the configuration's, otherwise the one with default settings."""
    own = {label: recipe for label, recipe in named.items() if type(recipe) is kind}
    return own or {kind.name: kind()}


def _advice(
    label: str,
    recipe: Recipe,
    tasks: Sequence[Task],
    prompts: Sequence[int],
    *,
    is_lora: bool,
    prompts_per_step: int,
    most: float | None,
) -> Advice:
    sft = RECIPES["sft"]()
    cost = stream_cost(recipe, prompts, prompts_per_step=prompts_per_step)
    relative = cost.total / stream_cost(sft, prompts).total
    lacks = {task.name: needs for task in tasks if (needs := lacking(recipe, task))}
    return Advice(
        recipe=recipe.name,
        label=label,
        settings=recipe.model_dump(mode="json", exclude_defaults=True),
        lacks=lacks | _of_the_model(recipe, is_lora=is_lora),
        relative_cost=relative,
        relative_memory=1.0 if is_lora else cost_of(recipe).memory_relative_to(cost_of(sft)),
        completions=round(cost.completions),
        over_budget=most is not None and relative > most,
        replays=_replays(recipe, len(tasks)),
        when=recipe.when,
    )


def _replays(recipe: Recipe, stages: int) -> bool | None:
    """As `Advice.replays`. A file of prompts to replay works in a stream of one task too."""
    rollouts = recipe.rollout_spec()
    of_earlier = rollouts.replay_ratio > 0 and rollouts.replay_prompts is None
    return None if of_earlier and stages == 1 else of_earlier


def _of_the_model(recipe: Recipe, *, is_lora: bool) -> dict[str, list[str]]:
    """What the model's settings lack."""
    needs_adapters = isinstance(recipe.penalty(), OrthogonalPenalty)
    return {"the model": ["LoRA"]} if needs_adapters and not is_lora else {}


def beginning(advice: Sequence[Advice]) -> Beginning | None:
    """The recipe to start with: the first that fits and has evidence, else the cheapest that fits, else None."""
    fitting: dict[str, Advice] = {}
    for each in advice:
        if each.fits:
            fitting.setdefault(each.recipe, each)
    for known in BEGINNINGS:
        if known.recipe in fitting:
            chosen = fitting[known.recipe]
            reason = known.reason + (OF_REPLAY if chosen.replays else "")
            # The evidence is about default settings, not about those of the configuration.
            source = f"{known.source}, with other settings" if chosen.settings and known.source else known.source
            return Beginning(known.recipe, reason, source, label=chosen.label, settings=chosen.settings)
    if not fitting:
        return None
    cheapest = next(iter(fitting.values()))
    reason = f"it is the cheapest recipe that fits; we know of no evidence for this case. {cheapest.when}"
    return Beginning(cheapest.recipe, reason, None, label=cheapest.label, settings=cheapest.settings)

"""Which recipes fit a stream of tasks: what the tasks provide, and what a recipe needs and costs. Torch-free."""

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
    """What is to be said of one recipe for a stream.

    Attributes:
        recipe: the name of the recipe.
        label: the configuration's for it, where that lists several; else its name.
        settings: those that the configuration sets otherwise than by default; it is judged with these.
        lacks: what training examples of a task do not bring, by the task's name, and the model's settings; empty where
            the recipe can run.
        relative_cost: operations of the stream beside SFT's on the same prompts, sampling included, at equal lengths.
        relative_memory: weights, gradients, optimizer and copies beside SFT's; 1 under LoRA.
        completions: sampled over the whole stream.
        over_budget: it costs more than was allowed.
        replays: whether it replays earlier tasks; None for a recipe that would, in a stream of one task.
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
    """A recipe to begin with, and why.

    Attributes:
        source: where that was found; None where nothing was.
        of_replay: what to add where it replays earlier tasks.
        settings: as `Advice.settings`.
    """

    recipe: str
    reason: str
    source: str | None
    of_replay: str = ""
    label: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


BEGINNINGS = (
    Beginning(
        "anchored",
        "demonstrations or solutions that the model can follow in its prompt, and old skills that matter: it learns on "
        "its own samples and stays near the base",
        "docs/front.md, beside other recipes on the lab",
        of_replay=", and it practices the earlier tasks' prompts beside the new ones",
    ),
    Beginning(
        "isdft",
        "demonstrations or solutions that the model can follow in its prompt, and old skills that matter: its partial "
        "target and its anchor to the base kept 73% of 48 retention scores within half a point, where the best other "
        "kept 52%",
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
        "a verifier: rewards on the model's own samples move it least, where it succeeds now and then",
        "arXiv 2607.01763 and 2509.04259",
    ),
    Beginning(
        "rft",
        "a verifier, and less to spend than GRPO takes: it imitates its own right answers, where there are some",
        "arXiv 2510.18874",
    ),
    Beginning("sft", "demonstrations alone: the cheapest, and the baseline to beat", "arXiv 2601.19897"),
    Beginning(
        "sd_zero",
        "a verifier, and little to spend: it learns to revise its answers, and from itself as the reviser, where the "
        "model mends answers that it is told are wrong",
        "arXiv 2604.12002",
    ),
    Beginning(
        "msd",
        "prompts with translations, and no answers: it carries over what the model does when it is asked in the other "
        "language",
        "arXiv 2605.02971",
    ),
    Beginning(
        "ssd",
        "it needs prompts and nothing else: it imitates its own samples, hot and truncated; that brings in nothing "
        "new, and makes a model less easily led astray that can do the task",
        "arXiv 2604.01193",
    ),
)
"""What to try first, best documented for retention first: the one that fits and comes first is recommended. The last
needs nothing of a task, so that where none fits the budget is below its cost."""


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
    """Every recipe, the ones that fit first, cheaper ones before dearer ones.

    Args:
        prompts: training prompts of each task's stage, each step's counted anew.
        is_lora: whether an adapter is trained, so that a teacher is no copy of the model.
        prompts_per_step: of these.
        most: how many times the operations of SFT may be spent; None for any number.
        named: recipes that are judged as they are set, by label; those not among them are judged at their defaults.
        recipes: all by default.
    """
    found = []
    for kind in recipes if recipes is not None else RECIPES.values():
        for label, recipe in _as_set(kind, named or {}).items():
            found.append(
                _advice(label, recipe, tasks, prompts, is_lora=is_lora, prompts_per_step=prompts_per_step, most=most)
            )
    return sorted(found, key=lambda advice: (not advice.fits, bool(advice.lacks), advice.relative_cost))


def _as_set(kind: type[Recipe], named: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """The recipes of one kind that are to be judged, by label."""
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
    spent = stream_cost(recipe, prompts, prompts_per_step=prompts_per_step)
    relative = spent.total / stream_cost(sft, prompts).total
    lacks = {task.name: needs for task in tasks if (needs := lacking(recipe, task))}
    return Advice(
        recipe=recipe.name,
        label=label,
        settings=recipe.model_dump(mode="json", exclude_defaults=True),
        lacks=lacks | _of_the_model(recipe, is_lora=is_lora),
        relative_cost=relative,
        relative_memory=1.0 if is_lora else cost_of(recipe).memory_relative_to(cost_of(sft)),
        completions=round(spent.completions),
        over_budget=most is not None and relative > most,
        replays=_replays(recipe, len(tasks)),
        when=recipe.when,
    )


def _replays(recipe: Recipe, stages: int) -> bool | None:
    rollouts = recipe.rollouts()
    of_earlier = rollouts.replay_ratio > 0 and rollouts.replay_prompts is None
    return None if of_earlier and stages == 1 else of_earlier


def _of_the_model(recipe: Recipe, *, is_lora: bool) -> dict[str, list[str]]:
    """What the model's settings lack."""
    wants_adapters = isinstance(recipe.penalty(), OrthogonalPenalty)
    return {"the model": ["LoRA"]} if wants_adapters and not is_lora else {}


def beginning(advice: Sequence[Advice]) -> Beginning | None:
    """What to begin with among the recipes that fit: the first that is documented, else the cheapest; None of none."""
    fitting: dict[str, Advice] = {}
    for each in advice:
        if each.fits:
            fitting.setdefault(each.recipe, each)
    for known in BEGINNINGS:
        if known.recipe in fitting:
            chosen = fitting[known.recipe]
            reason = known.reason + (known.of_replay if chosen.replays else "")
            # What a source found, it found of other settings than somebody's own.
            source = f"{known.source}, with other settings" if chosen.settings and known.source else known.source
            return Beginning(known.recipe, reason, source, label=chosen.label, settings=chosen.settings)
    if not fitting:
        return None
    cheapest = next(iter(fitting.values()))
    reason = f"it is the cheapest that fits, and we know of nothing that says where to begin here. {cheapest.when}"
    return Beginning(cheapest.recipe, reason, None, label=cheapest.label, settings=cheapest.settings)

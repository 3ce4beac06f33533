"""Old names and the names that replace them.

Three rules hold:

- A user's configuration must use the new names. An old key or value is an error that gives the new name.
- The recipe `holdfast` is an alias: it still runs, with one line of warning (see `current_recipe`).
- The configuration that a run directory keeps is read with its old names, so that runs of earlier versions resume.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

KEYS: Mapping[str, str] = {
    "distil": "distill",
    "gate": "max_success_fraction",
    "gate_margin": "refresh_length_margin",
    "gate_positive": "positive_advantages_only",
    "gate_rate": "refresh_average_rate",
    "normalise_weights": "normalize_weights",
}
"""Keys of the configuration, settings of recipes included. An old key is recognized only in a block that has the new
one."""

VALUES: Mapping[str, str] = {"topk_renormalised": "topk_renormalized"}
"""Values that a key of the configuration can have."""

RECIPES: Mapping[str, str] = {"holdfast": "anchored"}
"""Recipes. The tool is called holdfast too, so the name is replaced only where a recipe is expected."""

ATTRIBUTES: Mapping[str, str] = {
    "context_is_known": "context_from_example",
    "guidance": "hints",
    "guide": "near_future",
    "read_where": "used_if",
    "takes_one_turn": "single_turn",
}
"""Attributes of a `Recipe` class that its author defines."""

CLAIM_NAMES: Mapping[str, str] = {"holdfast-on-the-front": "anchored-on-the-front"}
"""Claims of `holdfast findings`."""

_FREE_FORM = ("chat_template_kwargs", "gym_settings")
"""Blocks of the configuration whose keys are not holdfast's."""

MODULES: Mapping[str, str] = {
    "commands": "cli",
    "console": "cli.run_command",
    "contexts": "data.teacher_prompts",
    "controllers": "recipes.parts.controllers",
    "describe": "cli.tables",
    "exposure": "recipes.parts.exposure",
    "integrations.actions": "integrations.trainer_actions",
    "integrations.guards": "integrations.watched_guard",
    "integrations.kept_base": "integrations.base_distributions",
    "integrations.names": "integrations.metric_names",
    "integrations.pace": "integrations.probe_schedule",
    "integrations.probe_signs": "integrations.probe_rules",
    "integrations.record": "integrations.watched_run",
    "integrations.rewards": "integrations.reward_scale",
    "integrations.snapshot": "integrations.weight_snapshot",
    "integrations.undisturbed": "integrations.evaluation_mode",
    "lab.bases": "store.bundled",
    "lab.commands": "cli.lab",
    "lab.evaluate": "pretrain.skills",
    "lab.pretrain": "pretrain.train",
    "lab.tokenizer": "pretrain.tokenizer",
    "lab.wide": "lab",
    "lab.worlds": "pretrain.worlds",
    "measure.artifacts.report": "measure.artifacts.compare",
    "measure.drift": "evaluation.drift",
    "measure.embedding": "evaluation.embedding",
    "measure.forgetting": "measure.metrics",
    "measure.gate": "gate.judge",
    "measure.gate_output": "gate.output",
    "measure.gate_sources": "gate.sources",
    "measure.paired": "measure.item_tests",
    "measure.response_model": "evaluation.divergences",
    "measure.sampled": "evaluation.sampled",
    "measure.stage_responses": "summary.responses",
    "measure.summary": "summary.run",
    "measure.verdict": "summary.verdict",
    "methods": "recipes",
    "objective.closed_form": "objective.fused.gradients",
    "objective.evaluation": "objective.fused.chunks",
    "objective.plan": "objective.fused.plan",
    "objective.projection": "objective.fused.head",
    "objective.spec": "recipes.parts.objective",
    "overrides": "config.overrides",
    "progress": "cli.run_progress",
    "refresh": "train.teacher_refresh",
    "report": "reporting",
    "rollouts.buffer": "data.rows_json",
    "rollouts.cache": "sampling.kv_left_padded",
    "rollouts.choice": "sampling.kv_choice",
    "rollouts.complete": "sampling.complete",
    "rollouts.decoder": "sampling.llama_decoder",
    "rollouts.draws": "sampling.draws",
    "rollouts.episodes": "sampling.episodes",
    "rollouts.guidance": "rollouts.sources.hints",
    "rollouts.guides": "rollouts.sources.near_future",
    "rollouts.numbers": "data.batch_metrics",
    "rollouts.places": "sampling.kv_batch",
    "rollouts.pool": "rollouts.prompt_pool",
    "rollouts.prefill": "sampling.prefill",
    "rollouts.projection": "sampling.decoding_head",
    "rollouts.prompts": "data.chat",
    "rollouts.rows": "data.rows",
    "rollouts.sampler": "sampling.sampler",
    "rollouts.shared": "sampling.kv_shared_prompt",
    "schema": "summary.schema",
    "scout": "stream.near_future.triggers",
    "seeds": "data.seeds",
    "stream.against_base": "evaluation.against_base",
    "stream.evaluate": "evaluation.evaluator",
    "stream.going_back": "stream.rewind",
    "stream.guarding": "stream.guard_actions",
    "stream.learning": "stream.stage",
    "stream.rollback": "stream.logs",
    "stream.scouting": "stream.near_future.answers",
    "tasks.base": "data.task",
    "tasks.environment": "data.environment",
    "teachers": "train.teacher",
    "train.adapters": "model.stage_adapters",
    "train.attention": "model.packed_attention",
    "train.blend": "model.blend",
    "train.kept": "train.kept_signals",
    "train.lora": "model.lora",
    "train.model": "model.load",
    "train.packing": "model.packing",
    "train.policy": "model.policy",
    "train.scoring": "model.logprobs",
    "train.shard": "model.shard",
    "train.trunk": "model.hidden_states",
    "train.world": "model.processes",
}
"""Modules of this package, without its name. If a folder moved as a whole, only the folder is listed."""


def hint(word: object, known: Collection[str] | None = None) -> str | None:
    """A clause that gives the new name of a key or value; None if the word is not an old name.

    Args:
        known: keys of the block that the word is a key of; None for a value.
    """
    if not isinstance(word, str):
        return None
    new = VALUES.get(word) if known is None else KEYS.get(word)
    return None if new is None or (known is not None and new not in known) else f"it is called {new!r} now"


def current_recipe(name: str) -> str:
    """Today's name of a recipe."""
    return RECIPES.get(name, name)


def with_new_names(value: Any) -> Any:
    """The configuration that a run directory of an earlier version keeps, with today's names.

    Names of runs, tasks, suites and labels stay: results are filed under them.
    """
    if isinstance(value, list):
        return [with_new_names(each) for each in value]
    if not isinstance(value, dict):
        return VALUES.get(value, value) if isinstance(value, str) else value
    return {KEYS.get(key, key): _value_with_new_names(key, inner) for key, inner in value.items()}


def _value_with_new_names(key: str, value: Any) -> Any:
    if key in _FREE_FORM:
        return value
    renamed = with_new_names(value)
    if key == "recipe":
        return _recipe_with_new_name(renamed)
    if key == "recipes" and isinstance(renamed, list):
        # An arm either holds its recipe under `recipe`, which the recursion has done, or is the recipe itself.
        is_done = [isinstance(each, dict) and "recipe" in each for each in renamed]
        return [each if done else _recipe_with_new_name(each) for each, done in zip(renamed, is_done, strict=True)]
    return renamed


def _recipe_with_new_name(recipe: Any) -> Any:
    if isinstance(recipe, dict) and isinstance(recipe.get("name"), str):
        return recipe | {"name": current_recipe(recipe["name"])}
    return current_recipe(recipe) if isinstance(recipe, str) else recipe


class MovedModules(MetaPathFinder):
    """An import by an old name fails with the new name. Python asks this finder last, after all others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package == "holdfast" and name in MODULES:
            raise ModuleNotFoundError(f"{fullname} is called holdfast.{MODULES[name]} now", name=fullname)
        return None


def explain_moved_modules() -> None:
    """Install `MovedModules`, once."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())

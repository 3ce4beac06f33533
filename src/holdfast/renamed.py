"""Old names and the names that replace them.

Three rules hold:

- A user's configuration must use the new names. An old key or value is an error that gives the new name.
- The recipe `holdfast` is an alias: it still runs, with one line of warning (see `current_recipe`).
- The configuration that a run directory keeps is read with its old names, so that runs of earlier versions resume (see
  `holdfast.config.kept`).
"""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

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

MODULES: Mapping[str, str] = {
    "commands": "cli",
    "console": "cli.run_command",
    "contexts": "data.teacher_prompts",
    "controllers": "recipes.parts.controllers",
    "describe": "cli.tables",
    "exposure": "recipes.parts.exposure",
    "findings.budgets": "findings.page",
    "findings.claims.action_guidance": "findings.claims",
    "findings.claims.artifacts": "findings.claims",
    "findings.claims.exposure": "findings.claims",
    "findings.claims.keeping": "findings.claims",
    "findings.claims.later": "findings.claims",
    "findings.claims.near_future": "findings.claims",
    "findings.claims.own": "findings.claims",
    "findings.claims.two_stages": "findings.claims",
    "findings.claims.wide": "findings.claims",
    "findings.read": "findings.record",
    "findings.runs": "findings.scheduler",
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
    "lab.conventions": "lab.forms",
    "lab.wide": "lab",
    "lab.wide_tasks": "lab.tasks",
    "lab.wide_words": "lab.words",
    "lab.worlds": "pretrain.mixture",
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
    "stream.summarise": "stream.summarize",
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


NAMES: Mapping[str, str] = {
    "cli.Comparison": "cli.options.ComparisonConfigFile",
    "cli.Config": "cli.options.RunConfigFile",
    "cli.Directory": "cli.options.Directory",
    "cli.EitherConfig": "cli.options.AnyConfigFile",
    "cli.JsonFile": "cli.options.JsonFile",
    "cli.OutputDir": "cli.options.OutputDir",
    "cli.Quiet": "cli.options.Quiet",
    "cli.Settings": "cli.options.Overrides",
    "cli.compare": "cli.app.compare",
    "cli.demo": "cli.app.demo",
    "cli.evaluate": "cli.app.evaluate",
    "cli.export": "cli.app.export",
    "cli.main": "cli.app.main",
    "cli.report": "cli.app.report",
    "cli.resume": "cli.app.resume",
    "cli.run": "cli.app.run",
    "cli.version": "cli.app.version",
    "config.AnyRecipe": "config.recipe.AnyRecipe",
    "config.Arm": "config.settings.Arm",
    "config.Columns": "config.sources.Columns",
    "config.EvalSettings": "config.training.EvalSettings",
    "config.LAB": "config.base.LAB",
    "config.LmEvalSettings": "config.sources.LmEvalSettings",
    "config.LoraSettings": "config.model.LoraSettings",
    "config.ModelSettings": "config.model.ModelSettings",
    "config.SDFT_SUITES": "config.sources.SDFT_SUITES",
    "config.Settings": "config.base.Settings",
    "config.SourceSettings": "config.sources.SourceSettings",
    "config.StreamSettings": "config.settings.StreamSettings",
    "config.SuiteSettings": "config.sources.SuiteSettings",
    "config.TaskSettings": "config.sources.TaskSettings",
    "config.TrainSettings": "config.training.TrainSettings",
    "config.dump_recipe": "config.recipe.dump_recipe",
    "config.parse_yaml": "config.yaml.parse_yaml",
    "config.read_config": "config.yaml.read_config",
    "config.shorthand": "config.sources.shorthand",
    "measure.Difference": "measure.statistics.Difference",
    "measure.Estimate": "measure.statistics.Estimate",
    "measure.METRIC_NAMES": "measure.metrics.METRICS",
    "measure.SCHEMA_VERSION": "summary.version.SCHEMA_VERSION",
    "measure.build_comparison_summary": "summary.comparison.build_comparison_summary",
    "measure.build_run_summary": "summary.run.build_run_summary",
    "measure.compare_matched": "measure.matched.compare_matched",
    "measure.comparison_verdict": "summary.verdict.comparison_verdict",
    "measure.compute_metrics": "measure.metrics.compute_metrics",
    "measure.flatten_metrics": "measure.metrics.flatten_metrics",
    "measure.holm": "measure.statistics.holm",
    "measure.json_safe": "store.files.json_safe",
    "measure.largest_margin": "measure.statistics.largest_margin",
    "measure.matched_sentence": "summary.verdict.matched_sentence",
    "measure.mean_interval": "measure.statistics.mean_interval",
    "measure.paired_difference": "measure.statistics.paired_difference",
    "measure.pareto_front": "summary.comparison.pareto_front",
    "measure.points": "summary.words.points",
    "measure.run_verdict": "summary.run_verdict.run_verdict",
    "measure.score_interval": "measure.statistics.score_interval",
    "measure.wilson_interval": "measure.statistics.wilson_interval",
    "objective.fused.fused_loss_and_statistics": "objective.fused.loss.fused_loss_and_statistics",
    "recipes.parts.objective.SafetyWeight": "recipes.parts.objective.DivergenceWeight",
    "recipes.parts.rollouts.GuidanceSpec": "recipes.parts.rollouts.HintSpec",
    "recipes.parts.rollouts.GuideSpec": "recipes.parts.rollouts.NearFutureSpec",
    "store.HALF_WRITTEN": "store.files.HALF_WRITTEN",
    "store.LOGS": "store.run_directory.LOGS",
    "store.RunDirectory": "store.run_directory.RunDirectory",
    "store.read_json": "store.files.read_json",
    "store.write_json": "store.files.write_json",
    "store.write_text": "store.files.write_text",
}
"""Classes, functions and constants of modules that still exist, without the package's name. Names of submodules
cannot be here: `from PACKAGE import MODULE` asks the package first."""


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


def refuse_moved_names(module: str) -> Callable[[str], NoReturn]:
    """A `__getattr__` for a module that no longer has all its names: an old name is an error that gives the new one."""

    def refuse(name: str) -> NoReturn:
        if new := NAMES.get(f"{module.removeprefix('holdfast.')}.{name}"):
            raise ImportError(f"{module}.{name} is called holdfast.{new} now", name=module)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return refuse

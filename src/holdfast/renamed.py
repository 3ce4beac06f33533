"""Old names and what they are called now. Who uses an old name is given the new one, in one line.

A user's own configuration must use the new names. The configuration that a run directory keeps is read with its old
names, so that earlier runs resume.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

KEYS: Mapping[str, str] = {"normalise_weights": "normalize_weights"}
"""Keys of the configuration."""

VALUES: Mapping[str, str] = {"topk_renormalised": "topk_renormalized"}
"""Values that a key of the configuration can have."""

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
    "measure.drift": "evaluate.drift",
    "measure.embedding": "evaluate.embedding",
    "measure.forgetting": "measure.metrics",
    "measure.gate": "gate.judge",
    "measure.gate_output": "gate.output",
    "measure.gate_sources": "gate.sources",
    "measure.paired": "measure.item_tests",
    "measure.response_model": "evaluate.divergences",
    "measure.sampled": "evaluate.sampled",
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
    "report.answers": "report.response_drift",
    "report.blocks": "report.key_numbers",
    "report.build": "report.page",
    "report.curves": "report.step_curves",
    "report.drift": "report.weight_drift",
    "report.figures": "report.tradeoff",
    "report.growth": "report.phrase_growth",
    "report.heat": "report.accuracy_matrix",
    "report.layers": "report.layer_heatmap",
    "report.numbers": "report.number_format",
    "report.plot": "report.figure",
    "report.predicted": "report.forgetting_prediction",
    "report.terminal": "cli.summary_text",
    "report.timeline": "report.guard_timeline",
    "report.vector": "report.save_figures",
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
    "stream.against_base": "evaluate.against_base",
    "stream.evaluate": "evaluate.evaluator",
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
"""Modules of this package, without its name. Of a folder that moved as a whole only the folder is named."""


def hint(word: object) -> str | None:
    """One clause that gives the new name of a key or value, or None where the word was never another's name."""
    new = KEYS.get(word) or VALUES.get(word) if isinstance(word, str) else None
    return None if new is None else f"it is called {new!r} now"


def with_new_names(saved: Any) -> Any:
    """Plain data of an earlier version's configuration, with today's keys and values."""
    if isinstance(saved, dict):
        return {KEYS.get(key, key): with_new_names(value) for key, value in saved.items()}
    if isinstance(saved, list):
        return [with_new_names(each) for each in saved]
    return VALUES.get(saved, saved) if isinstance(saved, str) else saved


class MovedModules(MetaPathFinder):
    """Asked last, for modules that nobody has found: an import by an old name fails with the new one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package == "holdfast" and name in MODULES:
            raise ModuleNotFoundError(f"{fullname} is called holdfast.{MODULES[name]} now", name=fullname)
        return None


def explain_moved_modules() -> None:
    """Have imports by an old name say the new one."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())


CLAIM_NAMES: Mapping[str, str] = {"holdfast-on-the-front": "anchored-on-the-front"}
"""Claims of `holdfast findings`."""

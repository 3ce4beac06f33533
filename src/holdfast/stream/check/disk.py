"""Estimates the disk space of a run from what it writes: checkpoints to resume from, and a model after each stage."""

import math
from collections.abc import Iterable

from torch import Tensor

from holdfast.config.settings import RunConfig
from holdfast.model.policy import Policy
from holdfast.recipes.parts.penalty import FisherPenalty
from holdfast.train.checkpoint import KEPT
from holdfast.train.teacher import Teacher


def disk_estimate(config: RunConfig, policy: Policy, teacher: Teacher | None) -> dict[str, int]:
    """Estimated bytes of a run directory, without logs and evaluations.

    Returns:
        "checkpoint": of one. "checkpoints": how many there are at most, the one that is being written included.
        "stage": of the model folder that a stage leaves. "stages": how many. "kept_weights": of the weights that are
        kept for probes between two others, at most. "total": of all of these.
    """
    trained = _bytes(policy.named_trainable().values())
    checkpoint = trained + 2 * trained  # AdamW's averages have the dtype of the weights
    checkpoint += _bytes(teacher.state().values()) if teacher is not None else 0
    if isinstance(config.recipe.penalty(), FisherPenalty):
        checkpoint += 2 * trained
    stage = _bytes(weight for name, weight in policy.causal_lm.named_parameters() if ".lora_" not in name)
    if policy.is_lora:
        stage += trained  # beside the merged weights
    stage += len(policy.tokenizer.backend_tokenizer.to_str().encode()) if policy.tokenizer.is_fast else 0
    kept = trained * _kept_for_probes(config)
    checkpoints, stages = KEPT + 1 + _held_for_going_back(config), len(config.tasks)
    return {
        "checkpoint": checkpoint,
        "checkpoints": checkpoints,
        "stage": stage,
        "stages": stages,
        "kept_weights": kept,
        "total": checkpoint * checkpoints + stage * stages + kept,
    }


def _kept_for_probes(config: RunConfig) -> int:
    """Steps whose weights are kept: those since the last probe, and some before it that a resumed run may need."""
    if config.eval.probe_gap == 0:
        return 0
    longest = max(task.steps or config.train.steps for task in config.tasks)
    return min(longest, 2 * config.eval.probe_steps) if config.eval.probe_steps > 1 else 0


def _held_for_going_back(config: RunConfig) -> int:
    """How many older checkpoints are kept, because the guard or the recipe may take the run back to them."""
    held = 0
    if config.guard.mode == "act":
        # The healthy one and the one before it, and candidates: those of the last two windows of steps.
        held += 2 + math.ceil(2 * config.guard.window / config.train.save_steps)
    if (near_future := config.recipe.near_future()) is not None:
        held += near_future.candidates if near_future.kind == "stalled" else 1
    return held


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

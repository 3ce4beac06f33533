"""Translate the metric names of transformers and TRL trainers to ours. Importable without torch.

Taken from the sources of transformers 5.20 and TRL 1.16.
"""

from collections.abc import Mapping
from typing import Any

METRIC_NAMES: dict[str, str] = {
    # transformers.Trainer, and so all trainers of TRL
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    # SFTTrainer (entropy on the demonstrations' tokens), GRPOTrainer (on sampled tokens)
    "entropy": "entropy",
    "num_tokens": "num_tokens",
    # GRPOTrainer
    "reward": "reward",
    "kl": "kl_base",
    "sampling/importance_sampling_ratio/mean": "is_ratio_mean",
    # GRPOTrainer, SDFTTrainer, SDPOTrainer
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "truncated_fraction",
    # SDFTTrainer, SDPOTrainer. The loss is whichever divergence is configured, so it is not always a KL.
    "self_distillation/distillation_loss": "teacher_divergence",
    # SDPOTrainer. The last one is the share of rows that have a teacher.
    "self_distillation/reward_mean": "reward",
    "self_distillation/reprompt_sample_fraction": "teacher_share",
}
"""From a trainer's name to ours. The guard's rules do not see other metrics."""

LOOP_METRICS = ("repetition", "distinct_2", "active_rows", "kl_teacher")
"""More names that a custom loop may use. No trainer above logs these metrics."""


def rename_metrics(logs: Mapping[str, Any]) -> dict[str, Any]:
    """A trainer's logged metrics under our names. Our own names stay; values that are no numbers are left out.

    GRPO logs no share of rows with a signal. It is 1 − `frac_reward_zero_std`, the share of groups with equal rewards.
    """
    ours = set(METRIC_NAMES.values())
    renamed: dict[str, Any] = {}
    for name, value in logs.items():
        key = METRIC_NAMES.get(name, name if name in ours or name in LOOP_METRICS else None)
        if key is not None and isinstance(value, int | float) and not isinstance(value, bool):
            renamed[key] = float(value)
    flat = logs.get("frac_reward_zero_std")
    if "active_rows" not in renamed and isinstance(flat, int | float):
        renamed["active_rows"] = 1.0 - float(flat)
    return renamed

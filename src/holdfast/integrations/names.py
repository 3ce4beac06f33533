"""What trainers call their numbers, and what they are called here. Importable without torch.

From the sources of transformers 5.20 and TRL 1.16.
"""

from collections.abc import Mapping
from typing import Any

NAMES: dict[str, str] = {
    # transformers.Trainer, and so all of TRL's
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    # SFTTrainer (of the demonstrations' tokens), GRPOTrainer (of the sampled ones)
    "entropy": "entropy",
    "num_tokens": "num_tokens",
    # GRPOTrainer
    "reward": "reward",
    "kl": "kl_base",
    "sampling/importance_sampling_ratio/mean": "is_ratio_mean",
    # GRPOTrainer, SDFTTrainer, SDPOTrainer
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "truncated_fraction",
    # SDFTTrainer, SDPOTrainer: whatever divergence is minimized, so no KL; SDPOTrainer: the share of rows that have a
    # teacher
    "self_distillation/distillation_loss": "teacher_divergence",
    "self_distillation/reward_mean": "reward",
    "self_distillation/reprompt_sample_fraction": "teacher_share",
}
"""A trainer's name to ours; what is not named here is kept out of the rules."""

OWN = ("repetition", "distinct_2", "active_rows", "kl_teacher")
"""Names that a loop of one's own may use beside those above."""


def translate(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers under our names; names that are ours already stay. What is None or no number is left out.

    GRPO has no share of rows with a signal: it is what `frac_reward_zero_std`, groups whose rewards are all equal,
    leaves of 1.
    """
    ours = set(NAMES.values())
    found: dict[str, Any] = {}
    for name, value in logs.items():
        key = NAMES.get(name, name if name in ours or name in OWN else None)
        if key is not None and isinstance(value, int | float) and not isinstance(value, bool):
            found[key] = float(value)
    flat = logs.get("frac_reward_zero_std")
    if "active_rows" not in found and isinstance(flat, int | float):
        found["active_rows"] = 1.0 - float(flat)
    return found

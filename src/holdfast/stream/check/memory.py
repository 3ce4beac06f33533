"""Estimates the memory at the peak of training."""

from holdfast.config.settings import RunConfig
from holdfast.model.policy import Policy
from holdfast.objective.fused.plan import CHUNK_BYTES, LEAST_CHUNK
from holdfast.recipes.parts.penalty import FisherPenalty
from holdfast.train.teacher import Teacher

LOGIT_COPIES = 7
"""Float32 tensors of [tokens, vocabulary] at the peak of the readable loss: logits and log-probabilities of student and
teacher, the divergence, and gradients."""

ACTIVATION_COPIES = 16
"""Tensors of [tokens, hidden size] that a layer keeps for the backward pass, roughly."""


def memory_estimate(config: RunConfig, policy: Policy, teacher: Teacher | None, *, has_base: bool) -> dict[str, int]:
    """Estimated bytes at the peak of training, by purpose, without the overhead of the libraries."""
    counts = policy.parameter_counts()
    width = {"float32": 4, "bfloat16": 2}[config.model.dtype]
    weights = counts.total * width
    copies = 0
    if not policy.is_lora:
        if teacher is not None and teacher.state():
            copies += weights + (4 * counts.trainable if width < 4 else 0)
        if has_base:
            copies += weights
    model = policy.causal_lm.config.get_text_config(decoder=True)
    tokens = config.train.micro_batch_tokens
    estimate = {
        "weights": weights,
        "gradients": counts.trainable * (4 if policy.is_lora else width),  # adapters are float32
        "optimizer": 2 * counts.trainable * 4,
        "teacher_and_base": copies,
        "penalty": 2 * counts.trainable * 4 if isinstance(config.recipe.penalty(), FisherPenalty) else 0,
        "activations": tokens * model.hidden_size * model.num_hidden_layers * ACTIVATION_COPIES * width,
        "logits": _logits(config, policy, model.vocab_size, 1 + (teacher is not None) + has_base),
    }
    return estimate | {"total": sum(estimate.values())}


def _logits(config: RunConfig, policy: Policy, vocabulary: int, distributions: int) -> int:
    """Bytes of all tensors of [tokens, vocabulary].

    The readable loss holds them for a whole micro-batch, the fused loss only for one chunk of tokens.

    Args:
        distributions: models whose logits the loss compares.
    """
    train = config.train
    tokens = train.micro_batch_tokens * train.max_completion_length
    tokens = max(1, tokens // (train.max_completion_length + train.max_prompt_length))
    if train.engine == "readable":
        return tokens * vocabulary * 4 * LOGIT_COPIES
    budget = CHUNK_BYTES.get(policy.device.type, CHUNK_BYTES["cuda"])
    return min(tokens * distributions * vocabulary * 4, max(budget, LEAST_CHUNK * distributions * vocabulary * 4))

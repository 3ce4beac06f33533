"""What an objective is made of, as plain typed settings. Importable without torch."""

from dataclasses import dataclass
from typing import Literal

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]
"""forward_kl = KL(teacher‖student), reverse_kl = KL(student‖teacher), jsd = generalised Jensen–Shannon."""

Support = Literal["full", "topk_tail", "topk_renormalised", "sampled"]
"""Vocabulary that a divergence sums over. Top-k ids are the student's; `sampled` is the single-token surrogate."""

Aggregation = Literal["sequence_mean", "token_mean", "constant"]
"""sequence_mean: tokens within a row, then rows. token_mean: all tokens alike. constant: ÷ rows·max length."""

ImportanceLevel = Literal["none", "token", "sequence_mean"]
"""Correction for sampler/trainer mismatch: per token capped ratio (SDPO), or their mean per row (SDFT)."""

RatioLevel = Literal["token", "sequence"]
Surrogate = Literal["clip", "cispo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyGradient:
    """The policy-gradient component: `ratio` × `surrogate` × clips, orthogonal, for every published variant."""

    ratio: RatioLevel = "token"
    surrogate: Surrogate = "clip"
    epsilon: float = 0.2
    epsilon_high: float = 0.2
    """Of `clip`: how far above 1 the ratio may rise. Of `cispo`: the cap on the ratio itself."""

    def __post_init__(self) -> None:
        if self.surrogate == "cispo" and self.epsilon_high < 1:
            raise ValueError(
                "with surrogate `cispo`, epsilon_high is the cap on the ratio; 1 or more is meant, such as 5"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """L = Σ_t coef_t · {is_t · [ce·CE + div·D(teacher, student) + PG(A)] + reference_kl·base_kl·KL(student‖base)}.

    ce, div, base_kl and the advantages are annotated per row by a recipe; this says how they are computed and reduced.
    A combination that is not defined or can give no signal raises `ValueError`.
    """

    divergence: Divergence = "forward_kl"
    jsd_beta: float = 0.5
    """Weight of the teacher in the mixture m = (1−beta)·student + beta·teacher."""
    support: Support = "full"
    top_k: int = 100
    aggregation: Aggregation = "sequence_mean"
    policy_gradient: PolicyGradient | None = None
    importance: ImportanceLevel = "none"
    importance_cap: float = 2.0
    temperature: float = 1.0
    """Divides student and teacher logits alike; equals the sampling temperature."""
    count_silent_rows: bool = True
    """Whether rows without signal count in the denominator of the reduction."""
    reference_kl: float = 0.0
    """Coefficient of KL to the base by the k3 estimate, on the sampled tokens."""

    def __post_init__(self) -> None:
        if self.support == "sampled" and self.divergence != "reverse_kl":
            raise ValueError(
                f"support `sampled` estimates the reverse KL alone, not {self.divergence}; "
                "set divergence: reverse_kl, or another support"
            )
        if self.support == "topk_renormalised" and self.top_k < 2:
            raise ValueError("one renormalised entry has probability 1 on both sides and gives no signal; raise top_k")


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSpec:
    """Who supervises, and when its weights move: θ_T ← (1−rate)·θ_T + rate·θ.

    Args:
        kind: live (the student itself), frozen, or ema.
        rate: update rate of `ema`; 0 freezes, 1 copies.
        cadence: move after each optimiser step, or after each rollout batch.
        stage_start: what happens to the teacher when a stage begins: reset to the student in memory, keep, or
            reset to the base.
    """

    kind: Literal["live", "frozen", "ema"] = "ema"
    rate: float = 0.01
    cadence: Literal["optimizer_step", "rollout_batch"] = "optimizer_step"
    stage_start: Literal["student", "keep", "base"] = "student"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSpec:
    """Where the trained-on tokens come from."""

    source: Literal["demonstrations", "student"]
    num_generations: int = 1
    temperature: float = 1.0
    num_iterations: int = 1
    """Optimiser steps taken on one batch of rollouts."""

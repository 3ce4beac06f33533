"""vOPD: the reverse KL at the sampled token, with its own expectation in closed form as the baseline."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.base.distillation import TOP_K
from holdfast.recipes.opsd import OPSD
from holdfast.recipes.parts.objective import Aggregation, Clip, Divergence, Objective, Support


class VOPD(OPSD):
    """KL for a KL (arXiv 2605.07865), with the privileged base instead of the paper's larger teacher.

    Rows     y ~ student(x), one per prompt, temperature 1
    Loss     −A_t log p(y_t),  A_t = log q(y_t) − log p(y_t) + KL(p ‖ q), detached: its mean over y_t ~ p is 0;
             corrected as OPSD's, mean over all tokens

    The paper can add A_t to the advantage of a verifiable reward. That is left out: only the teacher supervises.
    """

    name: ClassVar[str] = "vopd"
    summary: ClassVar[str] = "Learn from reference solutions on-policy, from sampled tokens with a baseline."
    source: ClassVar[str] = "KL for a KL: On-Policy Distillation with Control-Variate Baseline, arXiv 2605.07865"
    when: ClassVar[str] = "As opsd, with the reverse KL's gradient from sampled tokens, at a lower variance."

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "baseline": ({"support": ("sampled",)},),
        "top_k": ({"support": TOP_K}, {"support": ("sampled",), "baseline": ("topk",)}),
    }

    baseline: Literal["none", "full", "topk"] = "full"
    """`full`: KL(p ‖ q) over the vocabulary; `topk`: over the student's `top_k` entries; `none`: the plain sampled
    token. `topk` renormalizes both sides on these entries, while the sampled token's probabilities stay those of the
    whole vocabulary. It adds no bias, because it does not depend on the sampled token."""
    top_k: int = Field(default=100, ge=1)
    """Number of entries of `baseline: topk`, and of a top-k `support`."""
    divergence: Divergence = "reverse_kl"
    support: Support = "sampled"
    """`sampled` is the method. For comparison, `full` differentiates the whole reverse KL and `topk_renormalized` that
    over the student's top k; neither has a baseline."""
    clip: Clip = "none"
    temperature: float = Field(default=1.0, gt=0)
    aggregation: Aggregation = "token_mean"

    def objective(self) -> Objective:
        kinds: dict[str, Literal["none", "kl", "topk_kl"]] = {"none": "none", "full": "kl", "topk": "topk_kl"}
        kind = kinds[self.baseline] if self.support == "sampled" else "none"
        return replace(super().objective(), sampled_baseline=kind)

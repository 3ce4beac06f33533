"""vOPD: the sampled token's reverse KL, with its value in closed form as a baseline."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.recipes.base.distilled import TOP_K
from holdfast.recipes.base.recipe import Condition
from holdfast.recipes.opsd import OPSD
from holdfast.recipes.parts.objective import Aggregation, Clip, Divergence, Objective, Support


class VOPD(OPSD):
    """KL for a KL (arXiv 2605.07865), with the privileged base in place of the paper's larger teacher.

    Rows     y ~ student(x), one per prompt, temperature 1
    Loss     −A_t log p(y_t),  A_t = log q(y_t) − log p(y_t) + KL(p ‖ q), detached: its mean over y_t ~ p is 0;
             corrected as OPSD's, mean over all tokens

    The paper adds A_t to a verifiable reward's advantage where there is one; that slot is left out, and the teacher
    alone is learned from.
    """

    name: ClassVar[str] = "vopd"
    summary: ClassVar[str] = "Learn from reference solutions on-policy, from sampled tokens against a baseline."
    source: ClassVar[str] = "KL for a KL: On-Policy Distillation with Control-Variate Baseline, arXiv 2605.07865"
    when: ClassVar[str] = "As opsd, with the gradient of the reverse KL from sampled tokens, at a lower variance."

    read_where: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "baseline": ({"support": ("sampled",)},),
        "top_k": ({"support": TOP_K}, {"support": ("sampled",), "baseline": ("topk",)}),
    }

    baseline: Literal["none", "full", "topk"] = "full"
    """`full`: KL(p ‖ q) over the vocabulary. `topk`: over the student's `top_k` entries, both renormalized there, while
    the sampled token's probabilities stay those of the whole vocabulary: no bias, for it does not depend on the sampled
    token. `none`: the plain sampled token."""
    top_k: int = Field(default=100, ge=1)
    """Entries of `baseline: topk`, and of a top-k `support`."""
    divergence: Divergence = "reverse_kl"
    support: Support = "sampled"
    """`full` differentiates the whole reverse KL, and `topk_renormalized` that over the student's top k, for
    comparison; both have no baseline."""
    clip: Clip = "none"
    temperature: float = Field(default=1.0, gt=0)
    aggregation: Aggregation = "token_mean"

    def objective(self) -> Objective:
        kinds: dict[str, Literal["none", "kl", "topk_kl"]] = {"none": "none", "full": "kl", "topk": "topk_kl"}
        kind = kinds[self.baseline] if self.support == "sampled" else "none"
        return replace(super().objective(), sampled_baseline=kind)

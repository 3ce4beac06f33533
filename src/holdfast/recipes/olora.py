"""O-LoRA: imitate demonstrations, each stage in an adapter of its own, at right angles to those before."""

from typing import ClassVar

from pydantic import Field

from holdfast.recipes.parts.penalty import OrthogonalPenalty
from holdfast.recipes.sft import SFT


class OLoRA(SFT):
    """Orthogonal subspace learning (arXiv 2310.14152); for LoRA alone.

    Rows     the demonstration of each prompt
    Weights  a new adapter B_t A_t for stage t; those of earlier stages are frozen, and all are added up
    Loss     −log p(y_t | x, y_<t), mean over all tokens of the batch,
             + λ1 Σ_{k<t} ‖A_k A_tᵀ‖_1 + λ2 (‖A_t‖_2 + ‖B_t‖_2), over all adapted weights
    """

    name: ClassVar[str] = "olora"
    summary: ClassVar[str] = "Imitate demonstrations, each stage in an adapter orthogonal to those of earlier ones."
    source: ClassVar[str] = "Orthogonal Subspace Learning for Language Model Continual Learning, arXiv 2310.14152"
    cost: ClassVar[str] = "1 forward, 1 backward, through an adapter as wide as those of all stages"
    when: ClassVar[str] = "LoRA, demonstrations and many stages; nothing of earlier tasks but their adapters is kept."

    orthogonality: float = Field(default=0.5, ge=0)
    """λ1; the released code's default, of 0 to 5 in its experiments."""
    norm: float = Field(default=0.0, ge=0)
    """λ2; 0 to 0.3 in its experiments. Reconstruction: norms of factors are added up, unsquared, as the code does."""

    def penalty(self) -> OrthogonalPenalty:
        return OrthogonalPenalty(strength=self.orthogonality, norm=self.norm)

"""O-LoRA: imitate demonstrations; each stage has its own adapter, orthogonal to earlier ones."""

from typing import ClassVar

from pydantic import Field

from holdfast.recipes.parts.penalty import OrthogonalPenalty
from holdfast.recipes.sft import SFT


class OLoRA(SFT):
    """Orthogonal subspace learning (arXiv 2310.14152); for LoRA only.

    Rows     the demonstration of each prompt
    Weights  a new adapter B_t A_t for stage t; those of earlier stages are frozen, and the model adds all of them
    Loss     −log p(y_t | x, y_<t), mean over all tokens of the batch,
             + λ1 Σ_{k<t} ‖A_k A_tᵀ‖_1 + λ2 (‖A_t‖_2 + ‖B_t‖_2), over all adapted weights
    """

    name: ClassVar[str] = "olora"
    summary: ClassVar[str] = "Imitate demonstrations; each stage's adapter is orthogonal to those of earlier stages."
    source: ClassVar[str] = "Orthogonal Subspace Learning for Language Model Continual Learning, arXiv 2310.14152"
    cost: ClassVar[str] = "1 forward, 1 backward, through an adapter as wide as those of all stages"
    when: ClassVar[str] = "LoRA, demonstrations and many stages. Of earlier tasks only their adapters are kept."

    orthogonality: float = Field(default=0.5, ge=0)
    """λ1, the weight of orthogonality. The released code's default; its experiments use 0 to 5."""
    norm: float = Field(default=0.0, ge=0)
    """λ2, the weight of the factors' norms. The paper's experiments use 0 to 0.3. Reconstruction: norms are added
    unsquared, as in the code."""

    def penalty(self) -> OrthogonalPenalty:
        return OrthogonalPenalty(strength=self.orthogonality, norm=self.norm)

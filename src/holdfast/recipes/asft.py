"""ASFT: DFT with a KL penalty toward the base."""

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from holdfast.recipes.kl_sft import KLSFT
from holdfast.recipes.parts.objective import Objective, TokenWeight


class ASFT(KLSFT):
    """Anchored supervised fine-tuning (arXiv 2509.23753).

    Rows     the demonstration of each prompt
    Loss     −sg(p(y_t | x, y_<t)) · log p(y_t | x, y_<t) + beta · KL(base ‖ p) over the full vocabulary;
             mean over all tokens of the batch
    """

    name: ClassVar[str] = "asft"
    summary: ClassVar[str] = "Imitate demonstrations, most of all probable tokens, with a KL penalty toward the base."
    source: ClassVar[str] = "Anchored Supervised Fine-Tuning, arXiv 2509.23753"
    when: ClassVar[str] = "As dft, if that drifts. Demonstrations must be close to the model's own answers."

    beta: float = Field(default=0.1, gt=0)
    """Coefficient of the KL; LLaMA-Factory's default."""

    def objective(self) -> Objective:
        return replace(super().objective(), token_weight=TokenWeight())

    def signal(self) -> str:
        return f"{super().signal()}; cross-entropy weighted by the token's probability"

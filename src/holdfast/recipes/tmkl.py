"""TMKL: imitate demonstrations, with a KL penalty toward the base on all tokens but the demonstration's own."""

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from holdfast.recipes.kl_sft import KLSFT
from holdfast.recipes.parts.objective import Objective


class TMKL(KLSFT):
    """Mask the Target: a KL without the target token (arXiv 2605.29498). Reconstruction: from notes on the paper.

    Rows     the demonstration of each prompt
    Loss     −log p(y_t | x, y_<t) + beta · KL(b̃ ‖ p̃); b̃, p̃ are base and student without y_t, renormalized over the
             rest of the vocabulary; mean over all tokens of the batch
    """

    name: ClassVar[str] = "tmkl"
    summary: ClassVar[str] = "Imitate demonstrations; the base anchors the distribution of all other tokens."
    source: ClassVar[str] = "Mask the Target: A Plug-and-Play Regularizer Against LoRA Forgetting, arXiv 2605.29498"
    when: ClassVar[str] = (
        "As kl_sft, but the penalty does not oppose what is learned: it leaves the target's probability alone. Made "
        "for LoRA."
    )

    beta: float = Field(default=1.0, gt=0)
    """Coefficient of the KL. Reconstruction: we could not find the paper's value."""

    def objective(self) -> Objective:
        return replace(super().objective(), reference_without_token=True)

    def signal(self) -> str:
        return f"{super().signal()} without the target"

"""EAFT: imitate demonstrations; tokens at which the model is certain count less."""

from typing import ClassVar

from pydantic import Field

from holdfast.recipes.parts.objective import EntropyWeight, Objective
from holdfast.recipes.sft import SFT


class EAFT(SFT):
    """Entropy-adaptive fine-tuning (arXiv 2601.02151).

    Rows     the demonstration of each prompt
    Weight   w_t = sg((H_t / 3)^α), H_t the entropy of p(· | x, y_<t), renormalized on its 20 most likely entries
    Loss     −w_t · log p(y_t | x, y_<t), mean over all tokens of the batch
    """

    name: ClassVar[str] = "eaft"
    summary: ClassVar[str] = "Imitate demonstrations, least of all where the model is certain of something else."
    source: ClassVar[str] = "Entropy-Adaptive Fine-Tuning, arXiv 2601.02151"
    when: ClassVar[str] = (
        "Demonstrations that contradict habits of the model which are to stay. It does not change what the model is "
        "certain of, so it cannot correct it either."
    )

    alpha: float = Field(default=1.0, gt=0)
    """α, the exponent; a larger one leaves out more of the certain tokens."""
    top_k: int = Field(default=20, ge=2)
    """Entries that the entropy is computed on."""
    scale: float = Field(default=3.0, gt=0)
    """The entropy, in nats, at which a token has the weight 1. The released code's 3 is the largest entropy of 20
    entries, log 20."""

    def objective(self) -> Objective:
        weight = EntropyWeight(top_k=self.top_k, scale=self.scale, exponent=self.alpha)
        return Objective(aggregation=self.aggregation, entropy_weight=weight)

    def signal(self) -> str:
        return f"cross-entropy, weighted by the student's entropy over its top {self.top_k}"

"""KL-SFT: imitate demonstrations on a leash to the base."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from holdfast.methods.sft import SFT
from holdfast.objective.spec import Objective
from holdfast.rollouts.rows import Group


class KLSFT(SFT):
    """KL-regularised SFT: learning without forgetting (arXiv 1606.09282) at temperature 1.

    Rows     the demonstration of each prompt
    Loss     −log p(y_t | x, y_<t) + beta · KL(b_t ‖ p_t) over the full vocabulary, b the base;
             mean over all tokens of the batch
    """

    name: ClassVar[str] = "kl_sft"
    summary: ClassVar[str] = "Imitate demonstrations, held to the base's whole distribution at every token."
    source: ClassVar[str] = "Learning without Forgetting, arXiv 1606.09282"
    cost: ClassVar[str] = "1 base forward, 1 forward, 1 backward; 1 copy of the base (none under LoRA)"
    when: ClassVar[str] = "Demonstrations, old skills matter, and no sampling is wanted; beta trades one for the other."

    beta: float = Field(default=0.1, gt=0)
    """Reconstruction: weights in use span 0.01 to 1, and none is standard; at 0.1 both terms show in the lab."""

    def objective(self) -> Objective:
        return Objective(aggregation=self.aggregation, reference_kl=self.beta, reference_kl_form="forward_kl")

    def signal(self) -> str:
        return "cross-entropy; KL(base‖student), full vocabulary"

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        for row in (row for group in groups for row in group.rows):
            row.ce = row.base_kl = 1.0
        return {}

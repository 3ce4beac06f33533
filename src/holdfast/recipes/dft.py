"""DFT: imitate demonstrations, each token by how probable it is already."""

from typing import ClassVar

from holdfast.recipes.parts.objective import Objective, TokenWeight
from holdfast.recipes.sft import SFT


class DFT(SFT):
    """Dynamic fine-tuning (arXiv 2508.05629).

    Rows     the demonstration of each prompt
    Loss     −sg(p(y_t | x, y_<t)) · log p(y_t | x, y_<t), mean over all tokens of the batch:
             the gradient is that of −p itself, without SFT's implicit weight of 1/p
    """

    name: ClassVar[str] = "dft"
    summary: ClassVar[str] = "Imitate demonstrations where they are probable already; leave what would be forced."
    source: ClassVar[str] = "On the Generalization of SFT, arXiv 2508.05629"
    when: ClassVar[str] = "Demonstrations near what the model would say; what it finds improbable is not learned."

    def objective(self) -> Objective:
        return Objective(aggregation=self.aggregation, token_weight=TokenWeight())

    def signal(self) -> str:
        return "cross-entropy, weighed by the token's probability"

"""DFT: imitate demonstrations; each token counts by its current probability."""

from typing import ClassVar

from holdfast.recipes.parts.objective import Objective, TokenWeight
from holdfast.recipes.sft import SFT


class DFT(SFT):
    """Dynamic fine-tuning (arXiv 2508.05629).

    Rows     the demonstration of each prompt
    Loss     −sg(p(y_t | x, y_<t)) · log p(y_t | x, y_<t), mean over all tokens of the batch:
             the gradient is that of −p, without SFT's implicit weight of 1/p
    """

    name: ClassVar[str] = "dft"
    summary: ClassVar[str] = "Imitate demonstrations, most of all the tokens that are already probable."
    source: ClassVar[str] = "On the Generalization of SFT, arXiv 2508.05629"
    when: ClassVar[str] = "Demonstrations close to the model's own answers. It does not learn improbable tokens."

    def objective(self) -> Objective:
        return Objective(aggregation=self.aggregation, token_weight=TokenWeight())

    def signal(self) -> str:
        return "cross-entropy, weighted by the token's probability"

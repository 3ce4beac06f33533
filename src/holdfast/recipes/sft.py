"""SFT: imitate demonstrations."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from holdfast.data.rows import Group
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.rollouts import RolloutSpec


class SFT(Recipe):
    """Supervised fine-tuning.

    Rows     the demonstration of each prompt
    Loss     −log p(y_t | x, y_<t), mean over all tokens of the batch
    """

    name: ClassVar[str] = "sft"
    needs: ClassVar[frozenset[str]] = frozenset({"demonstration"})
    summary: ClassVar[str] = "Imitate demonstrations, token by token."
    source: ClassVar[str] = "maximum likelihood"
    cost: ClassVar[str] = "1 forward, 1 backward; no generation"
    when: ClassVar[str] = "Good demonstrations, one task, and old skills matter little. The baseline to beat."

    aggregation: Literal["sequence_mean", "token_mean"] = "token_mean"
    """`token_mean` weights all tokens of a batch equally, as TRL and transformers do; `sequence_mean` all rows."""

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(source="demonstrations")

    def objective(self) -> Objective:
        return Objective(aggregation=self.aggregation)

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        for group in groups:
            for row in group.rows:
                row.ce = 1.0
        return {}

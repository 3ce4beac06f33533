"""RAD: imitate demonstrations, and hold the model to the base on unlabeled texts."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from holdfast.data.rows import Group, Row
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.sft import SFT


class RAD(SFT):
    """Recall-anchored distillation (arXiv 2608.20794). Reconstruction: from its abstract.

    Rows     the demonstration of each prompt; with each, an unlabeled prompt that the base continues at temperature 1
    Loss     mean over demonstrations' tokens of −log p(y_t | x, y_<t)
             + beta · mean over continuations' tokens of KL(base ‖ p) over the full vocabulary
    """

    name: ClassVar[str] = "rad"
    summary: ClassVar[str] = "Imitate demonstrations; on unlabeled texts, keep the base's whole distribution."
    source: ClassVar[str] = "Knowing but Not Saying: Recall-Anchored Distillation, arXiv 2608.20794"
    cost: ClassVar[str] = "1 generation and 1 base forward per unlabeled text; 2 forwards and backwards per prompt"
    when: ClassVar[str] = (
        "Demonstrations, and prompts or texts like those on which old skills are asked. They need no answers."
    )

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {"buffer_size": ({"prompts": (None,)},)}

    prompts: str | None = None
    """A file of unlabeled prompts in the form of a training file, or `lab:NAME` for those of a task of the lab. Texts
    to continue as they are have the column `rendered_prompt`. Keep the prompts of your suites out of it. None: earlier
    tasks' prompts, from the second stage on."""
    replay_ratio: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Unlabeled prompts per prompt of the stage. Reconstruction: equal numbers."""
    beta: float = Field(default=1.0, gt=0)
    """Coefficient of the KL. Reconstruction: we do not know the paper's."""

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(source="demonstrations", replay_source="base", replay_prompts=self.prompts)

    def objective(self) -> Objective:
        return Objective(aggregation=self.aggregation, reference_kl=self.beta, reference_kl_form="forward_kl")

    def signal(self) -> str:
        return "cross-entropy; KL(base‖student) on unlabeled texts, full vocabulary"

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        rows = [row for group in groups for row in group.rows]
        texts, demonstrations = ([row for row in rows if row.replayed is is_text] for is_text in (True, False))
        for row in demonstrations:
            row.ce = self._share_of_all(rows, demonstrations)
        for row in texts:
            row.base_kl = self._share_of_all(rows, texts)
        return {"text_fraction": len(texts) / max(1, len(rows))}

    def _share_of_all(self, rows: Sequence[Row], own: Sequence[Row]) -> float:
        """The weight that turns the mean over all rows of the step into the mean over some of them."""
        size = len if self.aggregation == "sequence_mean" else _num_tokens
        return size(rows) / max(1, size(own))


def _num_tokens(rows: Sequence[Row]) -> int:
    return sum(len(row.loss_positions()) for row in rows)

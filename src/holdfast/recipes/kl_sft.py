"""KL-SFT: imitate demonstrations with a KL penalty toward the old model."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.recipes.sft import SFT


class KLSFT(SFT):
    """KL-regularized SFT; with a distillation temperature, learning without forgetting (LwF, arXiv 1606.09282).

    Rows     the demonstration of each prompt
    Loss     −log p(y_t | x, y_<t) + beta · T² KL(softmax(z_old/T) ‖ softmax(z/T)) over the full vocabulary,
             z_old the old model's logits; mean over all tokens of the batch
    Old      the base; T is 1
    """

    name: ClassVar[str] = "kl_sft"
    summary: ClassVar[str] = "Imitate demonstrations with a KL penalty toward the base at every token."
    source: ClassVar[str] = "Learning without Forgetting, arXiv 1606.09282"
    cost: ClassVar[str] = "1 base forward, 1 forward, 1 backward"
    when: ClassVar[str] = "Demonstrations, old skills matter, and no sampling. beta trades learning for retention."

    beta: float = Field(default=0.1, gt=0)
    """Coefficient of the KL. Reconstruction: values from 0.01 to 1 are in use and none is standard. At 0.1 both terms
    have an effect on the lab."""
    distillation_temperature: float = Field(default=1.0, gt=0)
    """T; 1 is the plain KL. LwF uses 2, which gives more weight to what the old model finds improbable."""
    old_model: Literal["base", "stage_start"] = "base"
    """`base`: the model before the first stage. `stage_start`: the model at the start of each stage, as in LwF, which
    protects earlier tasks too."""

    def teacher(self) -> TeacherSpec | None:
        return TeacherSpec(kind="frozen", stage_start="student") if self.old_model == "stage_start" else None

    def objective(self) -> Objective:
        return Objective(
            aggregation=self.aggregation,
            reference_kl=self.beta,
            reference_kl_form="forward_kl",
            reference_temperature=self.distillation_temperature,
            reference="base" if self.old_model == "base" else "teacher",
        )

    def signal(self) -> str:
        old = "base" if self.old_model == "base" else "old model"
        at = "" if self.distillation_temperature == 1 else f" at temperature {self.distillation_temperature:g}"
        return f"cross-entropy; KL({old}‖student){at}, full vocabulary"

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        for row in (row for group in groups for row in group.rows):
            row.ce = row.base_kl = 1.0
        return {}

"""CPO: GSPO, with a penalty on changes of the weights that earlier stages moved most."""

from typing import ClassVar, Literal

from pydantic import Field

from holdfast.recipes.grpo import GRPO
from holdfast.recipes.parts.objective import RatioLevel
from holdfast.recipes.parts.penalty import MovementPenalty


class CPO(GRPO):
    """Continual policy optimization (arXiv 2607.04364).

    Rows     y_1..y_8 ~ student(x), temperature 0.8, judged by the verifier
    Loss     GSPO's + λ Σ_W mean over i ∈ S_W of |θ_i − θ_prev,i|, over weight tensors W;
             θ_prev the weights at the stage's start, S_W the protected entries of W
    Weights  after every stage, the 10% of each tensor that it moved most join S_W; in the first stage S_W is empty
    """

    name: ClassVar[str] = "cpo"
    summary: ClassVar[str] = "GRPO with a ratio per sequence, which holds the weights that earlier stages moved most."
    source: ClassVar[str] = "RL Forgets! Towards Continual Policy Optimization, arXiv 2607.04364"
    cost: ClassVar[str] = "8 generations per prompt; 1 forward, 1 backward per row with signal"
    when: ClassVar[str] = (
        "Several tasks with verifiers, and no data of earlier ones may be kept. It protects what stages have learned, "
        "not what the base could do."
    )

    variant: Literal["gspo"] = "gspo"
    ratio: RatioLevel = "sequence"
    epsilon: float = Field(default=3e-4, gt=0)
    epsilon_high: float = Field(default=4e-4, gt=0)
    temperature: float = Field(default=0.8, gt=0)
    strength: float = Field(default=100.0, ge=0)
    """λ, the weight of the penalty. The released code takes the mean over a tensor's protected entries and the sum over
    tensors, so it depends on the number of tensors; the paper writes a sum over all entries."""
    protected_share: float = Field(default=0.1, gt=0, le=1)
    """Share of each weight tensor that a stage adds to the protected entries, those that it moved most."""

    def penalty(self) -> MovementPenalty:
        return MovementPenalty(strength=self.strength, share=self.protected_share)

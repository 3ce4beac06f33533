"""iSDFT: self-distillation toward a growing fraction of the teacher's improvement, anchored to the base."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.recipes.parts.controllers import Controller, Ramp
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.sdft import SDFT


class ISDFT(SDFT):
    """iSDFT (arXiv 2609.24646).

    Rows     as SDFT: y ~ student(x), the demonstration in the teacher's prompt, EMA .01, the first 3 tokens left out
    Target   q* nearest to the student p with E_q*[log q − log p] ≥ ρ KL(q‖p); ρ from .25 to 1 over 150 steps
    Loss     w · KL(q*‖p) + μ KL(base‖p), μ = 2e-3, w SDFT's correction of the row; mean over a row's tokens, then over
             rows
    """

    name: ClassVar[str] = "isdft"
    summary: ClassVar[str] = "SDFT toward a growing part of the teacher's improvement, with a KL to the base."
    source: ClassVar[str] = "arXiv 2609.24646"
    cost: ClassVar[str] = "1 generation, 1 teacher forward, 1 base forward, 1 forward, 1 backward per prompt"
    when: ClassVar[str] = "As sdft. The best documented recipe for keeping old skills."

    target_fraction_start: float = Field(default=0.25, gt=0, le=1)
    """ρ at the start of the ramp."""
    target_fraction: float = Field(default=1.0, gt=0, le=1)
    """ρ at the end of the ramp."""
    importance_cap: float = Field(default=2.0, ge=1)
    """Cap on a token's ratio p_train/p_sampler, as in SDFT; it corrects the divergence from q* only. Reconstruction:
    the paper states no correction."""
    ramp_steps: float = Field(default=150, ge=0)
    """Length of the ramp in optimizer steps; values up to 1 are a fraction of the stage, so 1 is the whole stage.
    Reconstruction: every stage has its own ramp, as separate runs would."""
    mu: float = Field(default=2e-3, ge=0)
    """Coefficient of KL(base‖student)."""

    def objective(self) -> Objective:
        return replace(
            super().objective(),
            target="partial",
            target_fraction=self.target_fraction,
            reference_kl=self.mu,
            reference_kl_form="forward_kl",
        )

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        for row in (row for group in groups for row in group.rows):
            row.base_kl = 1.0 if self.mu else 0.0
        return super().annotate(groups)

    def controllers(self) -> dict[str, Controller]:
        of_stage = self.ramp_steps <= 1
        ramp = Ramp(self.target_fraction_start, self.target_fraction, self.ramp_steps, of_stage=of_stage)
        return {"target_fraction": ramp}

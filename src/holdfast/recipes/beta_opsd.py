"""β-OPSD: the teacher's improvement, traded off against staying close to the base."""

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from holdfast.recipes.opsd import OPSD
from holdfast.recipes.parts.objective import Clip, Divergence, Objective


class BetaOPSD(OPSD):
    """β-OPSD (arXiv 2607.28582): max over π of E_π[log q − log b] − β·KL(π‖b), b the base without the solution.

    Rows     as OPSD
    Target   ∝ b^(1 − 1/β) · q^(1/β), the maximizer; β = 1 is the teacher q itself
    Loss     KL(student ‖ target) per token: the maximand over −β, up to a constant; corrected as OPSD's

    Reconstruction: the paper's optional return-to-go credits a token with the tokens after it. It is left out; every
    token has only its own divergence.
    """

    name: ClassVar[str] = "beta_opsd"
    summary: ClassVar[str] = "OPSD toward a target between the base and the teacher."
    source: ClassVar[str] = "arXiv 2607.28582"
    cost: ClassVar[str] = "as opsd, and 1 base forward per prompt"
    when: ClassVar[str] = "As opsd, if the full teacher overshoots and old skills matter."

    beta: float = Field(default=2.0, ge=1)
    """β; higher is more conservative. Reconstruction: we do not know the paper's value."""
    divergence: Divergence = "reverse_kl"
    """The reverse KL is the paper's objective for samples of the student."""
    clip: Clip = "none"

    def objective(self) -> Objective:
        return replace(super().objective(), target="geometric", anchor="base", target_weight=1 / self.beta)

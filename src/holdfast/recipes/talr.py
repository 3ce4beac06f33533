"""TALR: imitate demonstrations; improbable tokens count less, relative to what is usual in the batch."""

from typing import ClassVar

from pydantic import Field

from holdfast.recipes.parts.objective import Objective, TokenWeight
from holdfast.recipes.sft import SFT


class TALR(SFT):
    """Token-adaptive loss reweighting (arXiv 2509.20758).

    Rows     the demonstration of each prompt
    Weight   w_t = sg(max(p_t^(1/τ), 0.01)), p_t = p(y_t | x, y_<t);
             τ = median over the batch's rows of the mean of −log p_t, before the step
    Loss     −w_t · log p_t, mean over all tokens of the batch
    """

    name: ClassVar[str] = "talr"
    summary: ClassVar[str] = "Imitate demonstrations, less so the tokens that are improbable for this batch."
    source: ClassVar[str] = "SFT Doesn't Always Hurt General Capabilities, arXiv 2509.20758"
    cost: ClassVar[str] = "2 forwards, 1 backward; no generation"
    when: ClassVar[str] = (
        "Demonstrations that are partly foreign to the model. Try a lower learning rate first, as its paper says."
    )

    least_weight: float = Field(default=0.01, ge=0, lt=1)
    """The smallest weight of a token. Without it an improbable token would never be learned."""
    tau: float | None = Field(default=None, gt=0)
    """A constant τ; none measures it before every step. The released code measures it on each device's micro-batch;
    here it is over all rows of the step."""

    def objective(self) -> Objective:
        weight = TokenWeight(tau="median" if self.tau is None else self.tau, least=self.least_weight)
        return Objective(aggregation=self.aggregation, token_weight=weight)

    def signal(self) -> str:
        tau = "measured τ" if self.tau is None else f"τ {self.tau:g}"
        return f"cross-entropy, weighted by p^(1/τ), {tau}"

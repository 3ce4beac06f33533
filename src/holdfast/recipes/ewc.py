"""EWC: imitate demonstrations, with a penalty on changes of weights that earlier tasks depend on."""

from typing import ClassVar

from pydantic import Field

from holdfast.recipes.parts.penalty import FisherPenalty, Sequences
from holdfast.recipes.sft import SFT


class EWC(SFT):
    """Elastic weight consolidation (arXiv 1612.00796), online over stages (arXiv 1805.06370).

    Rows     the demonstration of each prompt
    Loss     −log p(y_t | x, y_<t), mean over all tokens of the batch, + λ/2 Σ_i F_i (θ_i − θ*_i)²
    Weights  at a stage's start: θ* ← θ, F ← γ F + mean over y of (∂ log p(y|x)/∂θ)²;
             y sampled from the current model on prompts of the previous task (in the first stage, on its own)
    """

    name: ClassVar[str] = "ewc"
    summary: ClassVar[str] = (
        "Imitate demonstrations; a quadratic penalty protects weights that matter for earlier tasks."
    )
    source: ClassVar[str] = "Overcoming catastrophic forgetting in neural networks, arXiv 1612.00796"
    cost: ClassVar[str] = "1 forward, 1 backward; at most 200 generations, forwards and backwards per stage"
    when: ClassVar[str] = "Demonstrations, old skills matter, and data of earlier tasks must not be trained on again."

    strength: float = Field(default=100.0, ge=0)
    """λ, the weight of the penalty. Reconstruction: users tune it per task over orders of magnitude, and no value is
    standard. On the lab's stream of findings, SFT's steps would have a penalty of 0.01 to 0.8 nats at 100, with a loss
    of 2 to 9. Both terms have an effect."""
    decay: float = Field(default=1.0, ge=0, le=1)
    """γ of the online form: the weight of earlier stages. Reconstruction: 1 weights all stages equally."""
    sequences: Sequences = "samples"
    """The sequences that F is computed on. `samples` of the model at the stage's start give the expectation that
    defines F, and protect the base too. `demonstrations` of the previous task give the empirical form, which protects
    nothing in the first stage."""
    num_sequences: int = Field(default=200, ge=1)
    """Number of sequences. Reconstruction: a few hundred are usual."""
    prompts: str | None = None
    """A file of prompts to sample on, instead of the tasks' prompts, in the form of a training file; or `lab:NAME`."""

    def penalty(self) -> FisherPenalty:
        return FisherPenalty(
            strength=self.strength,
            decay=self.decay,
            sequences=self.sequences,
            count=self.num_sequences,
            prompts=self.prompts,
        )

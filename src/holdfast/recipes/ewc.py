"""EWC: imitate demonstrations, and pull back the weights that what came before depends on."""

from typing import ClassVar

from pydantic import Field

from holdfast.recipes.parts.penalty import FisherPenalty, Sequences
from holdfast.recipes.sft import SFT


class EWC(SFT):
    """Elastic weight consolidation (arXiv 1612.00796), online over stages (arXiv 1805.06370).

    Rows     the demonstration of each prompt
    Loss     −log p(y_t | x, y_<t), mean over all tokens of the batch, + λ/2 Σ_i F_i (θ_i − θ*_i)²
    Weights  at a stage's start: θ* ← θ, F ← γ F + mean over y of (∂ log p(y|x)/∂θ)²;
             y sampled from the model as it then is, on prompts of the task before (at first on the stage's own)
    """

    name: ClassVar[str] = "ewc"
    summary: ClassVar[str] = "Imitate demonstrations, with a spring on the weights that matter for what came before."
    source: ClassVar[str] = "Overcoming catastrophic forgetting in neural networks, arXiv 1612.00796"
    cost: ClassVar[str] = "1 forward, 1 backward; at most 200 generations, forwards and backwards per stage"
    when: ClassVar[str] = "Demonstrations, old skills matter, and nothing of earlier tasks may be trained on again."

    strength: float = Field(default=100.0, ge=0)
    """λ. Reconstruction: it is tuned for each task in use, over orders of magnitude, and none is standard. On the lab's
    stream of findings SFT's own steps would cost 0.01 to 0.8 nats at 100, beside a loss of 2 to 9: both terms show."""
    decay: float = Field(default=1.0, ge=0, le=1)
    """γ of the online form: what stages before the last one count for. Reconstruction: 1 counts all alike."""
    sequences: Sequences = "samples"
    """`samples` of the model as it is at the stage's start take the expectation that defines F, and protect the base
    too; `demonstrations` of the task before are the empirical form, with nothing to protect at the first stage."""
    num_sequences: int = Field(default=200, ge=1)
    """Over which F is a mean. Reconstruction: a few hundred are usual."""
    prompts: str | None = None
    """A file of prompts to sample on in the place of the tasks', in the form of a training file."""

    def penalty(self) -> FisherPenalty:
        return FisherPenalty(
            strength=self.strength,
            decay=self.decay,
            sequences=self.sequences,
            count=self.num_sequences,
            prompts=self.prompts,
        )

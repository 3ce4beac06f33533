"""Penalties on the weights themselves, in addition to the loss on rows."""

from dataclasses import dataclass
from typing import Literal

Sequences = Literal["demonstrations", "samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FisherPenalty:
    """strength/2 · Σ_i F_i (θ_i − θ*_i)², with θ* the weights at the stage's start (EWC, arXiv 1612.00796).

    F_i = E[(∂ log π(y|x)/∂θ_i)²] over sequences y of earlier tasks; each gradient is that of a whole sequence. At the
    start of every stage F ← decay · F + the F of the current sequences (online EWC, arXiv 1805.06370). With LoRA, θ
    are the adapter's factors.

    Args:
        sequences: `samples`: drawn from the student at the stage's start, on prompts of the previous task (in the first
            stage, on its own prompts). `demonstrations`: those of the previous task; none in the first stage.
        count: maximum number of sequences.
        prompts: a file of prompts to sample on, instead of the tasks' prompts.
    """

    strength: float
    decay: float = 1.0
    sequences: Sequences = "samples"
    count: int = 200
    prompts: str | None = None

    def __post_init__(self) -> None:
        if self.prompts is not None and self.sequences != "samples":
            raise ValueError("prompts are for sequences: samples; leave them out, or set sequences: samples")

    def in_words(self) -> str:
        return f"{self.strength:g}/2 · Fisher information of {self.count} {self.sequences} · (θ − θ*)²"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrthogonalPenalty:
    """strength · Σ_{k<t} ‖A_k A_tᵀ‖₁ + norm · (‖A_t‖₂ + ‖B_t‖₂), over all adapted weights (O-LoRA, arXiv 2310.14152).

    Stage t trains its own adapter B_t A_t. Adapters of earlier stages are frozen; the model adds all of them.
    """

    strength: float = 0.5
    norm: float = 0.0

    def in_words(self) -> str:
        norm = f" + {self.norm:g}·(‖A_t‖ + ‖B_t‖)" if self.norm else ""
        return f"an adapter per stage; {self.strength:g}·Σ‖A_k A_tᵀ‖₁ over earlier ones{norm}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MovementPenalty:
    """strength · Σ_W 1/|S_W| Σ_{i∈S_W} |θ_i − θ_prev,i| over weight tensors W (CPO, arXiv 2607.04364).

    θ_prev are the weights at the stage's start. S_W are the protected entries of a tensor. After every stage those that
    the stage has moved most join it: the largest |θ_i − θ_prev,i|, ⌊share · size of W⌋ of them, and no entry that has
    not moved. In the first stage nothing is protected. With LoRA, θ are the adapter's factors.
    """

    strength: float
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of protected weights is {self.share:g}; it must be above 0 and at most 1")

    def in_words(self) -> str:
        return f"{self.strength:g}·mean|θ − θ_prev| over each tensor's {self.share:.0%} that earlier stages moved most"


PenaltySpec = FisherPenalty | OrthogonalPenalty | MovementPenalty

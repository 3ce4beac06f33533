"""Penalty."""

from dataclasses import dataclass
from typing import Literal

Sequences = Literal["demonstrations", "samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FisherPenalty:
    """strength/2 · Σ_i F_i (θ_i − θ*_i)², θ* the weights at the stage's start (EWC, arXiv 1612.00796).

    F_i = E[(∂ log π(y|x)/∂θ_i)²] over sequences y of what came before, each gradient that of a whole sequence. At every
    stage's start F ← decay · F + that of the sequences at hand (online EWC, arXiv 1805.06370). Under LoRA θ are the
    adapter's factors.

    Args:
        sequences: `samples` of the student at the stage's start, on prompts of the task before, at the first stage on
            its own; or the task before's `demonstrations`, and nothing at the first stage.
        count: sequences at most.
        prompts: a file of prompts to sample on in the place of the tasks'.
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

    Every stage t trains an adapter B_t A_t of its own; those of earlier stages stay as they are, and all are added up.
    """

    strength: float = 0.5
    norm: float = 0.0

    def in_words(self) -> str:
        norm = f" + {self.norm:g}·(‖A_t‖ + ‖B_t‖)" if self.norm else ""
        return f"an adapter per stage; {self.strength:g}·Σ‖A_k A_tᵀ‖₁ over earlier ones{norm}"


PenaltySpec = FisherPenalty | OrthogonalPenalty
"""What holds the weights themselves, whatever the rows say."""

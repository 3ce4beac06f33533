"""AutoNPO: NPO that decides when to roll back, how far, and which checkpoint's answers to keep."""

from typing import ClassVar

from pydantic import Field

from holdfast.recipes.npo import NearFutureSettings
from holdfast.recipes.parts.rollouts import NearFutureSpec


class AutoNPO(NearFutureSettings):
    """AutoNPO (arXiv 2604.20733): near-future policy optimization that chooses when, how far back, and the answers.

    Trigger  fast − slow moving average of the reward < δ for W rollout batches, and entropy of samples < κ · that at
             the last time
    Choice   among the checkpoints kept, t_0 < t_1: argmax Q̂/V̂, Q̂ = fraction of the failed prompts that π_t1 answers
             right, V̂ = exp(mean |log π_t0 − log π_t1|) on these answers; back to t_0 with answers of π_t1
    Rows     as NPO
    Loss     as NPO

    It needs a plateau. On a simulated reward that rises by half a point in 15 to 60 batches of 64 samples and then
    stays, it goes back 10 to 19 batches after the rise (median). In a stage that ends before, it is GRPO.
    """

    name: ClassVar[str] = "auto_npo"
    summary: ClassVar[str] = "GRPO that rolls back after a stall and keeps right answers of the steps that it undid."
    source: ClassVar[str] = "AutoNPO, arXiv 2604.20733"
    cost: ClassVar[str] = (
        "as grpo; after a stall at most 384 generations and 768 forwards on failed prompts, to choose between "
        "candidates; after a roll-back, the undone steps are repeated, and 4 answers are sampled per prompt; "
        "checkpoints of the candidates are on disk"
    )
    when: ClassVar[str] = "As npo, for long stages that stall at an unknown step."

    every: int = Field(default=5, ge=1)
    """Optimizer steps between candidates. Reconstruction: the paper uses its saved checkpoints."""
    candidates: int = Field(default=4, ge=2)
    """Checkpoints that are kept, the latest ones; each pair is measured. Reconstruction: not stated."""
    fast_rate: float = Field(default=0.5, gt=0, le=1)
    """Rate of the fast moving average of the reward. Reconstruction: the paper names the averages, not their rates. At
    .3 and .1 the slow average is still behind 30 batches after the reward has stopped rising."""
    slow_rate: float = Field(default=0.2, gt=0, le=1)
    """Rate of the slow moving average. Reconstruction, as `fast_rate`."""
    least_gain: float = 0.01
    """δ: the reward stalls if the fast average minus the slow average is below this. Reconstruction: 0.01 is within the
    noise between batches."""
    patience: int = Field(default=4, ge=1)
    """W: the reward must stall for this many rollout batches. Reconstruction: we could not find the paper's number."""
    entropy_share: float | None = Field(default=0.8, gt=0)
    """κ: the entropy must be below this fraction of its value at the last trigger, at first that of the stage's start.
    None: a stall is enough. With few successes from the start GRPO hardly changes the entropy, so that a stalled stage
    would never go back. Reconstruction: the paper says that the entropy has dropped, not by how much."""
    failures: int = Field(default=32, ge=1)
    """Prompts on which Q̂ is measured: those that failed most often. Reconstruction: the number is not stated."""
    rounds: int = Field(default=1, ge=1)
    """Maximum number of roll-backs in a stage. Reconstruction: without a bound, a stalled run would not end."""

    def near_future(self) -> NearFutureSpec:
        return NearFutureSpec(
            kind="stalled",
            samples=self.guide_samples,
            success_threshold=self.success_threshold,
            every=self.every,
            candidates=self.candidates,
            fast_rate=self.fast_rate,
            slow_rate=self.slow_rate,
            least_gain=self.least_gain,
            patience=self.patience,
            entropy_share=self.entropy_share,
            failures=self.failures,
            rounds=self.rounds,
        )

"""AutoNPO: goes back when it has stalled, to where and with whose answers quality over variance is largest."""

from typing import ClassVar

from pydantic import Field

from holdfast.recipes.npo import Guided
from holdfast.recipes.parts.rollouts import GuideSpec


class AutoNPO(Guided):
    """AutoNPO (arXiv 2604.20733): near-future policy optimization that chooses when, how far back, and its guide.

    Trigger  fast − slow moving average of the reward < δ for W rollout batches, and entropy < κ · that at the last time
    Choice   among the checkpoints kept, t_0 < t_1: argmax Q̂/V̂, Q̂ = share of the prompts that failed which π_t1
             answers right, V̂ = exp(mean |log π_t0 − log π_t1|) on these answers; back to t_0 with answers of π_t1
    Rows     as NPO
    Loss     as NPO
    """

    name: ClassVar[str] = "auto_npo"
    summary: ClassVar[str] = "GRPO that goes back when it has stalled, and takes its own later right answers along."
    source: ClassVar[str] = "AutoNPO, arXiv 2604.20733"
    cost: ClassVar[str] = (
        "as grpo; where it stalls, at most 384 generations and 768 forwards on prompts that failed, to choose between "
        "candidates; where it goes back, the steps undone are taken again, and 4 answers sampled per prompt; "
        "checkpoints of the candidates lie on disk"
    )
    when: ClassVar[str] = "As npo, for long stages of which nobody knows where they will stall."

    every: int = Field(default=5, ge=1)
    """Optimizer steps between candidates. Reconstruction: the paper takes its saved checkpoints."""
    candidates: int = Field(default=4, ge=2)
    """Checkpoints that are kept, the latest. Reconstruction: not stated; each pair of them is measured."""
    fast_rate: float = Field(default=0.3, gt=0, le=1)
    """Of the fast moving average of the reward. Reconstruction: averages are named, their rates are not."""
    slow_rate: float = Field(default=0.1, gt=0, le=1)
    """Of the slow one. Reconstruction: as `fast_rate`."""
    least_gain: float = 0.01
    """δ. Reconstruction: a point of reward between the averages is no more than batches differ by."""
    patience: int = Field(default=5, ge=1)
    """W, in rollout batches. Reconstruction: not stated where we could read it."""
    entropy_share: float = Field(default=0.8, gt=0)
    """κ. Reconstruction: the entropy must have dropped, by how much is not stated."""
    failures: int = Field(default=32, ge=1)
    """Prompts that failed most often, on which Q̂ is measured. Reconstruction: the size of the pool is not stated."""
    rounds: int = Field(default=1, ge=1)
    """How often a stage may go back. Reconstruction: unbounded, a run that stays stalled would never end."""

    def guide(self) -> GuideSpec:
        return GuideSpec(
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

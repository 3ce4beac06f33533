"""Teacher."""

from dataclasses import dataclass
from typing import Literal

TeacherKind = Literal["ema", "frozen", "live", "periodic", "gated", "trust_region"]

StageStart = Literal["student", "keep", "base"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSpec:
    """Who supervises, and when its weights move: θ_T ← (1−rate)·θ_T + rate·θ.

    Args:
        kind: live (the student itself), frozen, ema; periodic (frozen, and moved toward the student every so many
            rollout batches), gated (frozen, and moved when it is safe, see
            `holdfast.train.teacher_refresh.RefreshCheck`), trust_region (∝ frozen^(1−mix)·student^mix, both with the
            teacher's prompt; arXiv 2601.20802).
        rate: update rate of `ema`; 0 freezes, 1 copies.
        cadence: `ema` moves after each optimizer step, or after each rollout batch.
        every: rollout batches from one refresh of `periodic`, or one question to the gate of `gated`, to the next.
        first: of `periodic`: rollout batches of a stage until its first refresh, where that has a time of its own: only
            then the teacher begins to teach. The clock starts there, and with an `every` of 0 it is the last one too.
            It comes whatever a guard says, which may freeze the teacher from there on.
        share: how far a refresh of `periodic` or `gated` goes toward the student; 1 copies.
        gate_rate, gate_margin: of `gated`: rate of the moving averages, and how far the tail may grow.
        mix: of `trust_region`: the student's share.
        stage_start: what happens to the teacher when a stage begins: reset to the student in memory, keep, or
            reset to the base.
    """

    kind: TeacherKind = "ema"
    rate: float = 0.01
    cadence: Literal["optimizer_step", "rollout_batch"] = "optimizer_step"
    stage_start: StageStart = "student"
    every: int = 10
    first: int = 0
    share: float = 1.0
    gate_rate: float = 0.2
    gate_margin: float = 0.05
    mix: float = 0.01

    def __post_init__(self) -> None:
        for name, low in (("rate", 0.0), ("share", 0.0), ("gate_rate", 0.0), ("mix", 0.0)):
            if not low <= getattr(self, name) <= 1:
                raise ValueError(f"a teacher's {name} is {getattr(self, name):g}; it is a share from 0 to 1")
        if self.every < (0 if self.first else 1):
            raise ValueError(f"a teacher is looked at every {self.every} rollout batches; at least every one is meant")

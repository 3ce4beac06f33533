"""Who supervises, and when the teacher's weights move."""

from dataclasses import dataclass
from typing import Literal

TeacherKind = Literal["ema", "frozen", "live", "periodic", "gated", "trust_region"]

StageStart = Literal["student", "keep", "base"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSpec:
    """A teacher and its updates: θ_T ← (1−rate)·θ_T + rate·θ.

    Args:
        kind: live: the student itself. frozen: constant weights. ema: an average of the student's. periodic: frozen,
            moved toward the student every so many rollout batches. gated: frozen, moved if a check allows it (CGTR,
            see `holdfast.train.teacher_refresh.RefreshCheck`). trust_region: the distribution
            ∝ frozen^(1−mix)·student^mix, both with the teacher's prompt (arXiv 2601.20802).
        rate: update rate of `ema`; 0 freezes, 1 copies.
        cadence: `ema` moves after each optimizer step, or after each rollout batch.
        every: rollout batches between refreshes (`periodic`) or between checks (`gated`).
        first: for `periodic`, the number of rollout batches before the first refresh, if that differs from `every`.
            Teaching starts with this refresh, and the clock counts from it. With `every` 0 it is the only one. A guard
            cannot suppress it; a guard may freeze the teacher afterwards.
        share: how far a refresh of `periodic` or `gated` moves toward the student; 1 copies.
        average_rate: for `gated`, the rate of the moving averages.
        length_margin: for `gated`, how far completions may grow.
        mix: for `trust_region`, the student's weight.
        stage_start: the teacher at the start of a stage: the student as it is then (`student`), the teacher as it is
            (`keep`), or the base (`base`).
    """

    kind: TeacherKind = "ema"
    rate: float = 0.01
    cadence: Literal["optimizer_step", "rollout_batch"] = "optimizer_step"
    stage_start: StageStart = "student"
    every: int = 10
    first: int = 0
    share: float = 1.0
    average_rate: float = 0.2
    length_margin: float = 0.05
    mix: float = 0.01

    def __post_init__(self) -> None:
        for name in ("rate", "share", "average_rate", "mix"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"a teacher's {name} is {getattr(self, name):g}; it must be from 0 to 1")
        if self.every < (0 if self.first else 1):
            raise ValueError(f"a teacher's interval is {self.every} rollout batches; it must be at least 1")

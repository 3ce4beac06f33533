"""SD-Zero: learn to revise one's own answers, then learn from oneself as the reviser."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.recipes.base.distilled import TOP_K, Distilled
from holdfast.recipes.base.recipe import Condition
from holdfast.recipes.parts.controllers import Controller, Until
from holdfast.recipes.parts.objective import Aggregation, Divergence, Objective, Support
from holdfast.recipes.parts.rollouts import Revision, RolloutSpec
from holdfast.recipes.parts.teacher import TeacherSpec


class SDZero(Distilled):
    """Self-Distillation Zero (arXiv 2604.12002), both phases within each stage.

    Rows     y ~ student(x), judged; the cue c says whether y is right
    Phase 1  self-revision training: y' ~ student(x, y, c), judged; −log p(y'_t | x, y, c, y'_<t) on right y'
    Phase 2  the teacher is the model as phase 1 left it, behind the cue: q_t = p_SRT(· | x, y, c, y_<t)
             Loss JSD(.5) on the student's top 64 and a tail bucket, mean over all tokens
    """

    name: ClassVar[str] = "sd_zero"
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})
    summary: ClassVar[str] = "Learn to revise one's own answers, then distil the reviser into the model."
    source: ClassVar[str] = "Self-Distillation Zero, arXiv 2604.12002"
    cost: ClassVar[str] = (
        "phase 1: 2 generations, 1 forward, 1 backward per right revision; phase 2: 1 generation, 1 teacher forward, "
        "1 forward, 1 backward per prompt"
    )
    when: ClassVar[str] = "A verifier, no demonstrations, and a model that mends its answers when told they are wrong."
    takes_one_turn: ClassVar[bool] = True

    read_where: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "srt_steps": ({"phase": (None,)},),
        **dict.fromkeys(("sync_every", "divergence", "support"), ({"phase": (None, 2)},)),
        "jsd_beta": ({"divergence": ("jsd",), "phase": (None, 2)},),
        **dict.fromkeys(("top_k", "top_k_by"), ({"support": TOP_K, "phase": (None, 2)},)),
    }

    phase: Literal[1, 2] | None = None
    """One phase alone, for comparison: 1 only learns to revise, 2 distils the stage's first model. By default both."""
    srt_steps: int = Field(default=20, ge=1)
    """Optimizer steps of phase 1 in each stage. Reconstruction: the paper takes three epochs on 6,000 traces."""
    sync_every: int = Field(default=0, ge=0)
    """Rollout batches of phase 2 after which the teacher becomes the student anew; 0 for never."""
    num_generations: int = Field(default=1, ge=1)
    cue_if_right: str = "This is right. Let me say it in other words."
    cue_if_wrong: str = "Wait, this is wrong. Let me solve it again."
    """Both reconstructions in our words: they stand between the answer and its revision, in the model's own turn."""
    success_threshold: float = Field(default=1.0, gt=0, le=1)
    """Reward from which an answer or a revision is right. Reconstruction: which traces phase 1 keeps is not known to
    us; here it trains on right revisions alone, for wrong ones would teach to revise into errors."""
    divergence: Divergence = "jsd"
    support: Support = "topk_tail"
    """Reconstruction: that 64 entries are taken is known to us, whose and what becomes of the rest is not."""
    top_k: int = Field(default=64, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    importance_cap: float = Field(default=2.0, ge=1)
    """Most that a token's p_train/p_sampler counts for; its loss is multiplied by it, in both phases. Reconstruction:
    the paper states no correction."""
    aggregation: Aggregation = "token_mean"

    def revision(self) -> Revision:
        return Revision(if_right=self.cue_if_right, if_wrong=self.cue_if_wrong, threshold=self.success_threshold)

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(
            source="student",
            num_generations=self.num_generations,
            temperature=self.temperature,
            revision=self.revision() if self.phase == 1 else None,
        )

    def teacher(self) -> TeacherSpec | None:
        if self.phase == 1:
            return None
        if self.phase is None:
            return TeacherSpec(kind="periodic", first=self.srt_steps, every=self.sync_every, stage_start="student")
        if self.sync_every == 0:
            return TeacherSpec(kind="frozen", stage_start="student")
        return TeacherSpec(kind="periodic", every=self.sync_every, stage_start="student")

    def objective(self) -> Objective:
        return replace(
            self.divergence_from_teacher("token"),
            temperature=self.temperature,
            aggregation=self.aggregation,
            count_silent_rows=False,
        )

    def controllers(self) -> dict[str, Controller]:
        return {"phase": Until(1, 2, self.srt_steps)} if self.phase is None else {}

    def signal(self) -> str:
        distilled = super().signal()
        alone = {1: "cross-entropy on right revisions", 2: distilled}
        return f"{alone[1]}, then {distilled}" if self.phase is None else alone[int(self.phase)]

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        how = self.revision()
        rows = [row for group in groups for row in group.rows]
        revised = [row for row in rows if row.revised]
        mended = [row for row in revised if row.reward >= self.success_threshold]
        for row in mended:
            row.ce = 1.0
        for row in rows if self.phase != 1 else ():
            row.div = 1.0
            row.teacher_messages = row.example.messages
            row.teacher_prefix = how.prefix(row.completion, row.reward)
        return {"right_revision_fraction": len(mended) / len(revised)} if revised else {}

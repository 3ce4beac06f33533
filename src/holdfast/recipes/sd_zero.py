"""SD-Zero: learn to revise answers, then learn from the model that revises."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.base.distillation import TOP_K, DivergenceSettings
from holdfast.recipes.parts.controllers import Controller, Until
from holdfast.recipes.parts.objective import Aggregation, Divergence, Objective, Support
from holdfast.recipes.parts.rollouts import Revision, RolloutSpec
from holdfast.recipes.parts.teacher import TeacherSpec


class SDZero(DivergenceSettings):
    """Self-Distillation Zero (arXiv 2604.12002), both phases in each stage.

    Rows     y ~ student(x), judged; the cue c says whether y is right
    Phase 1  self-revision training: y' ~ student(x, y, c) for wrong y, judged; right y' only.
             Part 1: −log p(y, c, y' | x), on the whole trajectory; part 2: −log p(y' | x, y, c)
    Phase 2  the teacher is the model at the end of phase 1, after the cue: q_t = p_SRT(· | x, y, c, y_<t)
             Loss ½ KL(q‖p) + ½ KL(p‖q) on the teacher's top 64, renormalized; mean over all tokens

    Phase 1 samples anew for every step. The released code collects 6,000 traces once, with three answers to a prompt
    and three revisions of each, and trains for three epochs.
    """

    name: ClassVar[str] = "sd_zero"
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})
    summary: ClassVar[str] = "Learn to revise answers, then distill the revising model into the model."
    source: ClassVar[str] = "Self-Distillation Zero, arXiv 2604.12002"
    cost: ClassVar[str] = (
        "phase 1: 2 generations, 1 forward, 1 backward per right revision, on answer and revision together in part 1; "
        "phase 2: 1 generation, 1 teacher forward, 1 forward, 1 backward per prompt"
    )
    when: ClassVar[str] = "A verifier, no demonstrations, and a model that can fix an answer when it knows it is wrong."
    single_turn: ClassVar[bool] = True

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "srt_steps": ({"phase": (None,)},),
        **dict.fromkeys(("srt_part", "revise_right_answers"), ({"phase": (None, 1)},)),
        "trajectory_share": ({"phase": (None, 1), "srt_part": (None,)},),
        **dict.fromkeys(("sync_every", "divergence", "support"), ({"phase": (None, 2)},)),
        "jsd_beta": ({"divergence": ("jsd",), "phase": (None, 2)},),
        "forward_share": ({"divergence": ("mixed_kl",), "phase": (None, 2)},),
        **dict.fromkeys(("top_k", "top_k_by"), ({"support": TOP_K, "phase": (None, 2)},)),
    }

    phase: Literal[1, 2] | None = None
    """One phase only, for comparison; none runs both. 1 only learns to revise; 2 distills the model at the stage's
    start."""
    srt_steps: int = Field(default=20, ge=1)
    """Optimizer steps of phase 1 in each stage. Reconstruction: the paper runs three epochs on 6,000 traces."""
    srt_part: Literal[1, 2] | None = None
    """One part of phase 1 only, for comparison; none runs both, part 1 first."""
    trajectory_share: float = Field(default=5 / 6, gt=0, lt=1)
    """Fraction of phase 1 that is part 1. The released code has 5,000 of 6,000 traces there."""
    revise_right_answers: bool = False
    """Revise right answers too; part 2 trains on these revisions as well. The paper's text has them. The released
    script does not, so phase 2's cue after a right answer is new to its teacher."""
    sync_every: int = Field(default=0, ge=0)
    """Rollout batches of phase 2 between copies of the student into the teacher; 0 for never."""
    num_generations: int = Field(default=1, ge=1)
    """Samples per prompt."""
    cue_if_right: str = "This is right. Let me say it in other words."
    """The cue after a right answer, in the model's own turn. Our words; the released code has other ones for every
    family of models."""
    cue_if_wrong: str = "Wait, this is wrong. Let me solve it again."
    """The cue after a wrong answer. Our words."""
    success_threshold: float = Field(default=1.0, gt=0, le=1)
    """Reward from which an answer or a revision is right."""
    divergence: Divergence = "mixed_kl"
    support: Support = "topk_renormalized"
    """The vocabulary entries that the divergence sums over."""
    top_k: int = Field(default=64, ge=1)
    top_k_by: Literal["divergence", "student", "teacher"] = "teacher"
    """Whose most likely entries a top-k `support` has. `divergence`: the teacher's for the forward KL, the student's
    otherwise."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the samples and of both distributions in the loss."""
    importance_cap: float = Field(default=2.0, ge=1)
    """Cap on a token's ratio p_train/p_sampler. The token's loss is multiplied by it in part 2 of phase 1, and in
    phase 2. Reconstruction: the released code has no correction."""
    aggregation: Aggregation = "token_mean"
    """How the loss is averaged over tokens and rows."""

    def revision(self) -> Revision:
        return Revision(
            if_right=self.cue_if_right,
            if_wrong=self.cue_if_wrong,
            threshold=self.success_threshold,
            of_right_answers=self.revise_right_answers,
            with_trajectories=self.srt_part != 2,
        )

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
        found: dict[str, Controller] = {}
        if self.phase is None:
            found["phase"] = Until(1, 2, self.srt_steps)
        if self.phase != 2 and self.srt_part is None:
            share = self.trajectory_share
            steps = share if self.phase == 1 else round(share * self.srt_steps)
            found["srt_part"] = Until(1, 2, steps, of_stage=self.phase == 1)
        return found

    def signal(self) -> str:
        distillation = super().signal()
        of_phase = {1: "cross-entropy on right revisions", 2: distillation}
        return f"{of_phase[1]}, then {distillation}" if self.phase is None else of_phase[int(self.phase)]

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        revision = self.revision()
        rows = [row for group in groups for row in group.rows]
        trajectories = [row for row in rows if row.revised and not row.is_sampled]
        revisions = [row for row in rows if row.revised and row.is_sampled]
        right = [row for row in revisions if revision.is_right(row)]
        if self.srt_part != 2:
            for row in trajectories:
                row.ce = 1.0
        if self.srt_part != 1:
            for row in right:
                row.ce = 1.0
        for row in rows if self.phase != 1 else ():
            row.div = 1.0
            row.teacher_messages = row.example.messages
            row.teacher_prefix = revision.prefix(row.completion, row.reward)
        return {"right_revision_fraction": len(right) / len(revisions)} if revisions else {}

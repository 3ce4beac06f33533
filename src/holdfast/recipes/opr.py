"""OPR: imitate demonstrations, and replay the model's own right answers to earlier tasks' prompts."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.recipes.sft import SFT


class OPR(SFT):
    """On-policy replay (arXiv 2605.29495).

    Rows     the demonstration of each prompt; from the second stage on, for every 10 of these 1 prompt of an earlier
             task, with y ~ π_ckpt(x) at temperature 1 if the verifier accepts it: π_ckpt is the model at the stage's
             start, after the stage before
    Loss     −log p(y_t | x, y_<t), mean over all tokens of the batch; no teacher, no other loss on replayed rows
    """

    name: ClassVar[str] = "opr"
    needs: ClassVar[frozenset[str]] = frozenset({"demonstration", "reward"})
    summary: ClassVar[str] = (
        "Imitate demonstrations, mixed with the model's own right answers to earlier tasks' prompts."
    )
    source: ClassVar[str] = "On-Policy Replay for Continual Supervised Fine-Tuning, arXiv 2605.29495"
    cost: ClassVar[str] = "0.4 generations and 1.1 forwards and backwards per prompt; earlier tasks' prompts are kept"
    when: ClassVar[str] = (
        "Several tasks with verifiers, and earlier tasks' prompts may be kept. It keeps what the model could do after "
        "each task, in its own words, and protects nothing else."
    )

    replay_ratio: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Replayed prompts per prompt of the stage. The paper replays 0.1 and 0.01 of the data."""
    replay_attempts: int = Field(default=4, ge=1)
    """Samples per replayed prompt, of which the first right one is replayed. Reconstruction: we do not know how many
    the paper draws. A prompt without a right sample is not replayed."""
    success_threshold: float = Field(default=1.0, gt=0, le=1)
    """Reward from which an answer is right. Reconstruction: the paper's filter on its tasks' rewards."""

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(
            source="demonstrations",
            replay_source="teacher",
            replay_generations=self.replay_attempts,
        )

    def teacher(self) -> TeacherSpec:
        """The model at the stage's start, which writes the replayed answers."""
        return TeacherSpec(kind="frozen", stage_start="student")

    def signal(self) -> str:
        return "cross-entropy"

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        asked = right = 0
        for group in groups:
            is_replayed = any(row.replayed for row in group.rows)
            usable = (i for i, row in enumerate(group.rows) if not is_replayed or row.reward >= self.success_threshold)
            chosen = next(usable, None)
            asked += is_replayed
            right += is_replayed and chosen is not None
            for i, row in enumerate(group.rows):
                row.excluded = i != chosen
                row.ce = 0.0 if row.excluded else 1.0
        return {"replayed_fraction": right / max(1, len(groups)), "replay_success_fraction": right / max(1, asked)}

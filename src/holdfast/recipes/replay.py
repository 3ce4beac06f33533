"""SFT with replay: imitate demonstrations, and replay some of earlier tasks."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.sft import SFT


class Replay(SFT):
    """SFT with experience replay.

    Rows     the demonstration of each prompt; from the second stage on, 1 row for every 10 of these from a buffer of
             earlier tasks' examples: their demonstrations, or in self-replay y ~ base(x) at temperature 1
    Loss     −log p(y_t | x, y_<t), replayed rows times replay_weight; mean over all tokens of the batch
    """

    name: ClassVar[str] = "replay"
    summary: ClassVar[str] = "Imitate demonstrations, mixed with some of earlier tasks."
    source: ClassVar[str] = "experience replay; On Tiny Episodic Memories, arXiv 1902.10486"
    cost: ClassVar[str] = "1.1 forwards and backwards per prompt; earlier tasks' data are kept"
    when: ClassVar[str] = (
        "Earlier tasks' demonstrations may be kept: they are what it retains. With replay_source `base` and a file of "
        "prompts, it retains the base's answers to these."
    )

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {"buffer_size": ({"prompts": (None,)},)}

    replay_ratio: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Replayed rows per row of the stage; 0.01 to 0.1 are usual."""
    replay_weight: float = Field(default=1.0, gt=0)
    """Weight of a replayed row in the loss."""
    replay_source: Literal["demonstrations", "base"] = "demonstrations"
    """`base` is self-replay: the base answers the replayed prompts, sampled anew each time."""
    prompts: str | None = None
    """With `replay_source: base`, a file of prompts in the form of a training file, or `lab:NAME` for those of a task
    of the lab. They replace earlier tasks' prompts and are replayed from the first stage on."""

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(
            source="demonstrations",
            replay_source="own" if self.replay_source == "demonstrations" else "base",
            replay_prompts=self.prompts,
        )

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        rows = [row for group in groups for row in group.rows]
        for row in rows:
            row.ce = self.replay_weight if row.replayed else 1.0
        return {}

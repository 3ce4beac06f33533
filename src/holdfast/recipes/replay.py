"""SFT with replay: imitate demonstrations, among them some of earlier tasks."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.recipes.base.recipe import Condition
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.sft import SFT


class Replay(SFT):
    """SFT with experience replay.

    Rows     the demonstration of each prompt; from the second stage on also 1 for every 10 of these from a buffer
             of earlier tasks' examples: their demonstrations, or in self-replay y ~ base(x) at temperature 1
    Loss     −log p(y_t | x, y_<t), replayed rows times replay_weight; mean over all tokens of the batch
    """

    name: ClassVar[str] = "replay"
    summary: ClassVar[str] = "Imitate demonstrations, with some of earlier tasks mixed in."
    source: ClassVar[str] = "experience replay; On Tiny Episodic Memories, arXiv 1902.10486"
    cost: ClassVar[str] = "1.1 forwards and backwards per prompt; earlier tasks' data are kept"
    when: ClassVar[str] = (
        "Earlier tasks' demonstrations may be kept: it holds on to these; with source `base` and a file of prompts, to "
        "what the base says to these"
    )

    read_where: ClassVar[Mapping[str, tuple[Condition, ...]]] = {"buffer_size": ({"prompts": (None,)},)}

    replay_ratio: float = Field(default=0.1, gt=0)
    """Replayed rows per row of the stage; 1 to 10% is the range in use."""
    replay_weight: float = Field(default=1.0, gt=0)
    replay_source: Literal["demonstrations", "base"] = "demonstrations"
    """`base`: self-replay, of what the base itself says to the replayed prompts, sampled anew each time."""
    prompts: str | None = None
    """Of source `base`: a file of prompts, in the form of a training file, that are replayed in the place of earlier
    tasks', and from the first stage on."""
    buffer_size: int | None = Field(default=None, ge=1)
    """Examples kept of each earlier task, drawn by the run's seed; by default all."""

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(
            source="demonstrations",
            replay_ratio=self.replay_ratio,
            replay_buffer_size=self.buffer_size,
            replay_source="own" if self.replay_source == "demonstrations" else "base",
            replay_prompts=self.prompts,
        )

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        rows = [row for group in groups for row in group.rows]
        for row in rows:
            row.ce = self.replay_weight if row.replayed else 1.0
        return {"replayed_fraction": sum(row.replayed for row in rows) / max(1, len(rows))}

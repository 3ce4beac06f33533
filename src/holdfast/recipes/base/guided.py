"""What NPO and AutoNPO share: a right answer of the near future in a group that fails."""

from collections.abc import Mapping, Sequence

from pydantic import Field

from holdfast.data.rows import Group, Row
from holdfast.recipes.grpo import GRPO


class Guided(GRPO):
    """GRPO on groups whose last sample has made room for a guide, where most of its samples fail."""

    guide_samples: int = Field(default=4, ge=1)
    """Reconstruction: how many answers the near future gives to each prompt is not stated where we could read it."""
    gate: float = Field(default=0.6, ge=0, le=1)
    """A group makes room where at most this share of its samples is right."""
    success_threshold: float = Field(default=1.0, gt=0, le=1)
    """Reward from which an answer is right. Reconstruction: with partial credit, that is not success."""

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        mixed, failing, guided = [], 0, 0
        for group in groups:
            own = group.sampled().rows
            guides = [row for row in group.rows if row.source_logprobs is not None]
            fails = sum(row.reward >= self.success_threshold for row in own) <= self.gate * len(own)
            failing += fails
            used: list[Row] = own
            for row in guides:
                row.excluded = True
            if fails and guides:
                own[-1].excluded = True
                used = [*own[:-1], guides[0]]
                guided += 1
            mixed.append(Group(group.example, used))
        numbers = super().annotate(mixed)
        return {
            **numbers,
            "failing_fraction": failing / max(1, len(groups)),
            "guided_fraction": guided / max(1, len(groups)),
        }

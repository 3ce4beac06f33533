"""SC-SDPO: SDPO with most weight on prompts that are neither solved nor hopeless."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.recipes.sdpo import SDPO


class SCSDPO(SDPO):
    """SC-SDPO (arXiv 2605.27765): SDPO, each prompt's rows weighed by how undecided the student is about it.

    Rows, context, teacher and loss as for SDPO
    Weight   [p̂ (1 − p̂)]^½ of the row's loss, p̂ the share of the prompt's samples that succeeded:
             0 where all or none did
    """

    name: ClassVar[str] = "sc_sdpo"
    summary: ClassVar[str] = "SDPO that dwells on prompts the student gets right some of the time."
    source: ClassVar[str] = "SC-SDPO, arXiv 2605.27765"
    when: ClassVar[str] = "As for SDPO, where many prompts are either solved or out of reach."

    num_generations: int = Field(default=8, ge=2)
    weight_exponent: float = Field(default=0.5, ge=0)
    """0 weighs all prompts alike where some samples succeeded and some failed."""

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        numbers = dict(super().annotate(groups))
        weights = []
        for group in groups:
            succeeded = sum(row.reward >= self.success_threshold for row in group.rows)
            share = succeeded / len(group.rows)
            weights.append((share * (1 - share)) ** self.weight_exponent if 0 < share < 1 else 0.0)
            for row in group.rows:
                row.div *= weights[-1]
        return numbers | {"question_weight": sum(weights) / max(1, len(weights))}

"""SC-SDPO: SDPO with the most weight on prompts that are neither solved nor out of reach."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.recipes.sdpo import SDPO


class SCSDPO(SDPO):
    """SC-SDPO (arXiv 2605.27765): SDPO, with each prompt's rows weighted by how uncertain the student is about it.

    Rows, context, teacher and loss as in SDPO
    Weight   [p̂ (1 − p̂)]^½ of the row's loss, p̂ the fraction of the prompt's samples that succeeded:
             0 if all or none did
    """

    name: ClassVar[str] = "sc_sdpo"
    summary: ClassVar[str] = "SDPO with the most weight on prompts that the student sometimes gets right."
    source: ClassVar[str] = "SC-SDPO, arXiv 2605.27765"
    when: ClassVar[str] = "As sdpo, if many prompts are either solved or out of reach."

    num_generations: int = Field(default=8, ge=2)
    weight_exponent: float = Field(default=0.5, ge=0)
    """Exponent of p̂ (1 − p̂). 0 weights all prompts with some successes and some failures equally."""

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        metrics = dict(super().annotate(groups))
        weights = []
        for group in groups:
            successes = sum(row.reward >= self.success_threshold for row in group.rows)
            share = successes / len(group.rows)
            weights.append((share * (1 - share)) ** self.weight_exponent if 0 < share < 1 else 0.0)
            for row in group.rows:
                row.div *= weights[-1]
        return metrics | {"question_weight": sum(weights) / max(1, len(weights))}

"""SSD: imitate the base's own samples, drawn hotter than they are decoded, and truncated."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from pydantic import Field, model_validator

from holdfast.data.rows import Group
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.objective import Aggregation, Objective
from holdfast.recipes.parts.rollouts import RolloutSpec


class SSD(Recipe):
    """Embarrassingly Simple Self-Distillation (arXiv 2604.01193).

    Rows     y ~ Trunc_{top-k, top-p}(base(x)^{1/T}), one per prompt; the base is frozen
    Filter   empty completions, and the shortest tenth of the others; right and wrong ones alike stay
    Loss     −log p(y_t | x, y_<t) at temperature 1, mean over all tokens of the batch

    Where one token is right, truncation takes away the tail of distractors; where many are, the heat keeps them. What
    is learned is the base as such a decoder draws from it, to be decoded at a temperature of its own: by the paper the
    product of the two temperatures matters, over a broad band.
    """

    name: ClassVar[str] = "ssd"
    needs: ClassVar[frozenset[str]] = frozenset()
    summary: ClassVar[str] = "Imitate the model's own samples, hot and truncated: no teacher, no verifier, no data."
    source: ClassVar[str] = "Embarrassingly Simple Self-Distillation Improves Code Generation, arXiv 2604.01193"
    cost: ClassVar[str] = "1 generation by the base, 1 forward, 1 backward per prompt"
    when: ClassVar[str] = "Prompts and nothing else, and a model that can do the task but is easily led astray."

    temperature: float = Field(default=1.5, gt=0)
    """Of the samples. Reconstruction: they are drawn batch by batch, and a prompt that is drawn again is sampled again;
    the paper samples each prompt once, before training."""
    top_k: int = Field(default=20, ge=0)
    """So many most probable tokens are drawn from, before `top_p`; 0 for all."""
    top_p: float = Field(default=0.8, gt=0, le=1)
    """The fewest most probable tokens whose probabilities reach it are drawn from; 1 for all."""
    filter_shortest_percent: float = Field(default=10.0, ge=0, lt=100)
    """The shortest completions that are left out, in percent. Reconstruction: the released code does so over its whole
    data set by their text, which here does not exist yet; so it is the shortest of each rollout batch, by the model's
    own tokens. Parts of rows are carried on to later batches: of 8 rows a tenth is none at first, and one in four of
    five batches."""
    aggregation: Aggregation = "token_mean"

    @model_validator(mode="after")
    def _samples_differ_from_the_base(self) -> Self:
        if self.temperature == 1 and self.top_k == 0 and self.top_p == 1:
            raise ValueError(
                "samples at temperature 1 without truncation are the model's own distribution, and imitating it has a "
                "gradient of mean 0; set a temperature, top_k or top_p"
            )
        return self

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(source="base", temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)

    def objective(self) -> Objective:
        return Objective(aggregation=self.aggregation, count_silent_rows=False)

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        rows = [row for group in groups for row in group.rows]
        said = sorted((row for row in rows if row.completion.strip()), key=lambda row: len(row.own_ids()))
        kept = said[self._left_out(groups[0].batch, len(said)) :]
        for row in kept:
            row.ce = 1.0
        return {"filtered_fraction": 1 - len(kept) / len(rows)}

    def _left_out(self, batch: int, count: int) -> int:
        """How many of a batch's completions are too short: over batches of this size, the share to the row."""
        until, before = (int(number * count * self.filter_shortest_percent // 100) for number in (batch + 1, batch))
        return min(until - before, max(0, count - 1))

"""SSD: imitate the base's own samples, from a high temperature with top-k and top-p."""

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
    Filter   empty completions, and the shortest tenth of the others; right and wrong answers stay
    Loss     −log p(y_t | x, y_<t) at temperature 1, mean over all tokens of the batch

    If one token is right, truncation removes the tail of distractors. If many are right, the high temperature keeps
    them. The model learns the base's distribution as this decoder samples it. It has its own decoding temperature:
    according to the paper the product of the two temperatures matters, over a broad range.
    """

    name: ClassVar[str] = "ssd"
    needs: ClassVar[frozenset[str]] = frozenset()
    summary: ClassVar[str] = (
        "Imitate the model's own samples from a high temperature with top-k and top-p. Needs only prompts."
    )
    source: ClassVar[str] = "Embarrassingly Simple Self-Distillation Improves Code Generation, arXiv 2604.01193"
    cost: ClassVar[str] = "1 generation by the base, 1 forward, 1 backward per prompt"
    when: ClassVar[str] = "Only prompts, and a model that can do the task but is easily distracted."

    temperature: float = Field(default=1.5, gt=0)
    """Sampling temperature. Reconstruction: samples are drawn batch by batch, and a prompt that comes again is sampled
    again. The paper samples each prompt once, before training."""
    top_k: int = Field(default=20, ge=0)
    """Sample from this many most likely tokens, before `top_p`; 0 for all."""
    top_p: float = Field(default=0.8, gt=0, le=1)
    """Sample from the fewest most likely tokens whose probabilities sum to this; 1 for all."""
    filter_shortest_percent: float = Field(default=10.0, ge=0, lt=100)
    """Percentage of completions that are left out, the shortest ones. Reconstruction: the released code filters its
    whole data set by the length of the text. Here samples do not exist before training, so each rollout batch is
    filtered, by the number of the model's own tokens. Fractions of rows carry over to later batches: with 8 rows and
    10%, four of five batches lose one row."""
    aggregation: Aggregation = "token_mean"
    """How the loss is averaged over tokens and rows."""

    @model_validator(mode="after")
    def _samples_differ_from_the_base(self) -> Self:
        if self.temperature == 1 and self.top_k == 0 and self.top_p == 1:
            raise ValueError(
                "samples at temperature 1 without truncation follow the model's own distribution, and imitating it has "
                "a gradient of mean 0; set a temperature, top_k or top_p"
            )
        return self

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(source="base", temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)

    def objective(self) -> Objective:
        return Objective(aggregation=self.aggregation, count_silent_rows=False)

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        rows = [row for group in groups for row in group.rows]
        kept = 0
        # Replayed prompts by themselves: the answers of an earlier task may all be shorter than those of the stage.
        for is_replayed in (False, True):
            some = (row for row in rows if row.replayed is is_replayed and row.completion.strip())
            texts = sorted(some, key=lambda row: len(row.own_ids()))
            for row in texts[self._num_filtered(groups[0].batch, len(texts)) :]:
                row.ce = 1.0
                kept += 1
        return {"filtered_fraction": 1 - kept / len(rows)}

    def _num_filtered(self, batch: int, count: int) -> int:
        """How many completions of a batch to drop, so that batches of this size together drop the exact percentage."""
        until, before = (int(number * count * self.filter_shortest_percent // 100) for number in (batch + 1, batch))
        return min(until - before, max(0, count - 1))

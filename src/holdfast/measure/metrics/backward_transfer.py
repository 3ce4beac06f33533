"""Backward transfer (Lopez-Paz & Ranzato 2017, arXiv 1706.08840)."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, mean


@metric(
    label="Backward transfer",
    group="Forgetting",
    kind="gain",
    higher_is_better=True,
    definition="Effect of later stages on earlier tasks: mean score at the end, minus score when learned. Tasks that "
    "were not learned count too, because later stages may improve them.",
    formula="mean of A[T][j] − A[j][j], over tasks before the last",
)
def backward_transfer(scores: ScoreMatrix) -> float | None:
    lost = mean(scores.since_learned.values())
    return None if lost is None else 0.0 - lost  # unlike −x, this never gives −0.0

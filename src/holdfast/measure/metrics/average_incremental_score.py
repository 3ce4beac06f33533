"""Average incremental accuracy (iCaRL: Rebuffi et al. 2017, arXiv 1611.07725, section 4)."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, mean


@metric(
    label="Average incremental score",
    group="Learning",
    kind="score",
    higher_is_better=True,
    definition="Mean score on the tasks learned so far, averaged over the stages. Unlike the final score, it also "
    "counts what was forgotten for a while.",
    formula="mean over s ≥ 1 of the mean of A[s][j] over j ≤ s",
)
def average_incremental_score(scores: ScoreMatrix) -> float | None:
    stages = [mean(row[t] for t in scores.tasks[:s] if t in row) for s, row in enumerate(scores.rows)]
    return mean(score for score in stages if score is not None)

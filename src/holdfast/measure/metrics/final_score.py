"""Scores of the tasks at the end of the stream."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, Scores


@metric(
    label="Final score",
    group="Learning",
    kind="score",
    higher_is_better=True,
    definition="Mean score on the stream's tasks after the last stage.",
    formula="A[T][j], over all tasks",
    by="task",
    headline=True,
)
def final_score(scores: ScoreMatrix) -> Scores:
    return scores.final

"""Scores of the tasks right after their own stages."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, Scores


@metric(
    label="Score when learned",
    group="Learning",
    kind="score",
    higher_is_better=True,
    definition="Mean of each task's score right after its own stage, before the next task is trained.",
    formula="A[j][j], over all tasks",
    by="task",
    headline=True,
)
def learned_score(scores: ScoreMatrix) -> Scores:
    return scores.learned

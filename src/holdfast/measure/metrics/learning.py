"""What each stage adds to its own task."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, Scores, drops


@metric(
    label="Improvement when learned",
    group="Learning",
    kind="gain",
    higher_is_better=True,
    definition="Mean gain of the tasks: score right after the task's own stage, minus the base model's score.",
    formula="A[j][j] − A[0][j], over all tasks",
    by="task",
    headline=True,
)
def learning(scores: ScoreMatrix) -> Scores:
    return drops(scores.learned, scores.base)

"""Forward transfer (Lopez-Paz & Ranzato 2017, arXiv 1706.08840), from the base model instead of random weights."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, drops, mean


@metric(
    label="Forward transfer",
    group="Transfer",
    kind="gain",
    higher_is_better=True,
    definition="Effect of earlier stages on a task that is not trained yet: mean score just before the task's own "
    "stage, minus the base model's score.",
    formula="mean of A[j−1][j] − A[0][j], over tasks after the first",
)
def forward_transfer(scores: ScoreMatrix) -> float | None:
    rows = scores.rows
    ahead = {task: rows[j - 1][task] for j, task in enumerate(scores.tasks, 1) if j > 1 and task in rows[j - 1]}
    return mean(drops(ahead, scores.base).values())

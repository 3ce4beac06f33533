"""How well the first task is learned: the only stage that starts from the base model in every task order."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix


@metric(
    label="First task when learned",
    group="Learning",
    kind="score",
    higher_is_better=True,
    definition="Score of the first task right after its own stage.",
    formula="A[1][1]",
)
def first_task_learned(scores: ScoreMatrix) -> float | None:
    return scores.learned.get(scores.order[0]) if scores.order else None

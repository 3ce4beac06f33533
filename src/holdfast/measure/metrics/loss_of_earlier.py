"""Forgetting of earlier tasks and of retention suites in one number."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, Scores, drops


@metric(
    label="Forgetting, overall",
    group="Forgetting",
    kind="loss",
    higher_is_better=False,
    definition="Overall forgetting at the end: mean drop of earlier tasks (from their score when learned) and of "
    "retention suites (from the base model's score). Positive means lost. A set with nothing to lose does not count: "
    "the score that it could fall from is not above chance.",
    formula="A[j][j] − A[T][j] over tasks before the last, and A[0][k] − A[T][k] over retention suites k, where the "
    "first of the two is above chance",
    by="set",
    headline=True,
)
def loss_of_earlier(scores: ScoreMatrix) -> Scores:
    suites = {name: scores.base[name] for name in scores.suites("retention") if scores.has_to_lose(name, 0)}
    return {**scores.forgotten, **drops(suites, scores.end)}

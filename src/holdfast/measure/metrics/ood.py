"""Out-of-distribution suites: the tasks' skills in a new surface form."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, Scores, mean


@metric(
    label="Out of distribution, change",
    group="Transfer",
    kind="gain",
    higher_is_better=True,
    definition="Mean change of the out-of-distribution suites from the base model to the end. They test the tasks' "
    "skills in a new surface form.",
    formula="A[T][k] − A[0][k], over out-of-distribution suites k",
    by="suite",
)
def ood(scores: ScoreMatrix) -> Scores:
    return scores.change_of_suites("ood")


@metric(
    label="Out of distribution, at the end",
    group="Transfer",
    kind="score",
    higher_is_better=True,
    definition="Mean score on the out-of-distribution suites after the last stage.",
    formula="mean of A[T][k], over out-of-distribution suites k",
    place="ood.final",
)
def ood_final(scores: ScoreMatrix) -> float | None:
    return mean(scores.end[name] for name in scores.change_of_suites("ood"))

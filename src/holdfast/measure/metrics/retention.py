"""Retention suites: benchmarks of skills that no stage trains."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, Scores, mean


@metric(
    label="Retention, change",
    group="Retention",
    kind="gain",
    higher_is_better=True,
    definition="Mean change of the retention suites from the base model to the end. No stage trains on them. A suite "
    "on which the base is not above chance has nothing to lose and does not count.",
    formula="A[T][k] − A[0][k], over retention suites k with A[0][k] above chance",
    by="suite",
)
def retention(scores: ScoreMatrix) -> Scores:
    return scores.change_of_suites("retention")


@metric(
    label="Retention, final",
    group="Retention",
    kind="score",
    higher_is_better=True,
    definition="Mean score on the same retention suites after the last stage.",
    formula="mean of A[T][k], over retention suites k with A[0][k] above chance",
    place="retention.final",
)
def retention_final(scores: ScoreMatrix) -> float | None:
    return mean(scores.end[name] for name in scores.change_of_suites("retention"))

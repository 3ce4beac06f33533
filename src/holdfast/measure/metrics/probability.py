"""The probability of the right answer with its beginning forced; see `holdfast.measure.likelihood`."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, Scores, drops


@metric(
    label="Probability of the right answer",
    group="Likelihood",
    kind="score",
    higher_is_better=True,
    definition="Mean probability of the tasks' targets after the last stage, when the beginning of a right answer is "
    "forced on the model. It says what the model knows, whatever its way of answering.",
    formula="P[T][j], over all tasks with targets",
    by="task",
)
def probability(scores: ScoreMatrix) -> Scores:
    return {task: scores.probability[-1][task] for task in scores.tasks if task in scores.probability[-1]}


@metric(
    label="Probability of the right answer, learned",
    group="Likelihood",
    kind="gain",
    higher_is_better=True,
    definition="Mean gain of that probability in the tasks' own stages: right after a task's own stage, minus the base "
    "model's.",
    formula="P[j][j] − P[0][j], over all tasks with targets",
    by="task",
    place="probability.learned",
)
def probability_learned(scores: ScoreMatrix) -> Scores:
    return drops(_learned(scores), scores.probability[0])


@metric(
    label="Probability of the right answer, lost",
    group="Likelihood",
    kind="loss",
    higher_is_better=False,
    definition="Mean fall of that probability at the end: of earlier tasks (since they were learned) and of retention "
    "suites (since the base model). A score that fell further is a lost way of answering, not lost knowledge.",
    formula="P[j][j] − P[T][j] over tasks before the last, and P[0][k] − P[T][k] over retention suites k",
    by="set",
    place="probability.lost",
)
def probability_lost(scores: ScoreMatrix) -> Scores:
    learned = _learned(scores)
    before = {task: learned[task] for task in scores.tasks[:-1] if task in learned}
    base = scores.probability[0]
    before |= {name: base[name] for name in scores.suites("retention") if name in base}
    return drops(before, scores.probability[-1])


def _learned(scores: ScoreMatrix) -> Scores:
    """P[j][j] by task."""
    rows = scores.probability
    return {task: rows[j][task] for j, task in enumerate(scores.tasks, 1) if task in rows[j]}

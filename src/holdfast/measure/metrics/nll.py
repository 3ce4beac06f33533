"""The NLL of demonstrations at the end, and how it changed; see `holdfast.measure.likelihood`."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, Scores, drops


@metric(
    label="NLL of demonstrations",
    group="Likelihood",
    kind="nats",
    higher_is_better=False,
    definition="Mean negative log-likelihood of the tasks' test demonstrations after the last stage, in nats per "
    "token. A task that nothing judges has no other number of its quality.",
    formula="N[T][j], over all tasks with demonstrations",
    by="task",
)
def nll(scores: ScoreMatrix) -> Scores:
    return {task: scores.nll[-1][task] for task in scores.tasks if task in scores.nll[-1]}


@metric(
    label="NLL, change when learned",
    group="Likelihood",
    kind="nats",
    higher_is_better=False,
    definition="Mean change of the tasks' NLL in their own stages: NLL right after a task's own stage, minus the base "
    "model's. Negative means learned.",
    formula="N[j][j] − N[0][j], over all tasks with demonstrations",
    by="task",
    place="nll.learning",
)
def nll_learning(scores: ScoreMatrix) -> Scores:
    return drops(_learned(scores), scores.nll[0])


@metric(
    label="NLL, rise on earlier skills",
    group="Likelihood",
    kind="nats",
    higher_is_better=False,
    definition="Mean rise of the NLL at the end: of earlier tasks (since they were learned) and of retention suites "
    "(since the base model). Positive means forgotten.",
    formula="N[T][j] − N[j][j] over tasks before the last, and N[T][k] − N[0][k] over retention suites k",
    by="set",
    place="nll.forgetting",
)
def nll_forgetting(scores: ScoreMatrix) -> Scores:
    learned, end = _learned(scores), scores.nll[-1]
    before = {task: learned[task] for task in scores.tasks[:-1] if task in learned}
    before |= {name: scores.nll[0][name] for name in scores.suites("retention") if name in scores.nll[0]}
    return drops({name: end[name] for name in before if name in end}, before)


def _learned(scores: ScoreMatrix) -> Scores:
    """N[j][j] by task."""
    return {task: scores.nll[j][task] for j, task in enumerate(scores.tasks, 1) if task in scores.nll[j]}

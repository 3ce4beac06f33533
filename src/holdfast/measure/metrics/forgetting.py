"""Three definitions of forgetting. They answer different questions and disagree, so all three are shown.

The end is compared with the score just after learning (the definition behind backward transfer, Lopez-Paz & Ranzato
2017, arXiv 1706.08840), with the best score (Chaudhry et al. 2018, arXiv 1801.10112), and with the base model. The last
one counts a failure to learn as forgetting, so it is never shown alone.
"""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, Scores, drops


@metric(
    label="Forgetting, from learned",
    group="Forgetting",
    kind="loss",
    higher_is_better=False,
    definition="Mean drop of the tasks before the last: score right after the task's own stage, minus the "
    "score at the end.",
    formula="A[j][j] − A[T][j], over tasks before the last",
    by="task",
    place="forgetting.from_learned",
)
def forgetting(scores: ScoreMatrix) -> Scores:
    return scores.forgotten


@metric(
    label="Forgetting, from best",
    group="Forgetting",
    kind="loss",
    higher_is_better=False,
    definition="Mean drop of the tasks before the last: best score in any evaluation, the base model's included, minus "
    "score at the end.",
    formula="max over s of A[s][j], minus A[T][j], over tasks before the last",
    by="task",
    place="forgetting.from_best",
)
def forgetting_from_best(scores: ScoreMatrix) -> Scores:
    earlier = [task for task in scores.tasks[:-1] if task in scores.end]
    return drops({task: max(row[task] for row in scores.rows if task in row) for task in earlier}, scores.final)


@metric(
    label="Forgetting, from base",
    group="Forgetting",
    kind="loss",
    higher_is_better=False,
    definition="Mean drop of all tasks: the base model's score, minus score at the end. Negative means better than the "
    "base. A failure to learn counts as forgetting here, so never read it alone.",
    formula="A[0][j] − A[T][j], over all tasks",
    by="task",
    place="forgetting.from_base",
)
def forgetting_from_base(scores: ScoreMatrix) -> Scores:
    return drops({task: scores.base[task] for task in scores.tasks if task in scores.base}, scores.final)

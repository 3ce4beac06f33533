"""pass@k and avg@k of the tasks at the end. See `holdfast.measure.pass_at_k`."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, Scores


@metric(
    label="pass@k, final",
    group="Learning",
    kind="score",
    higher_is_better=True,
    definition="Mean over the tasks, after the last stage, of the probability that at least one of k sampled answers "
    "gets the full reward, for the largest k that was asked for.",
    formula="mean over items of 1 − C(n − c, k) / C(n, k), over all tasks",
    by="task",
)
def pass_at_k(scores: ScoreMatrix) -> Scores:
    return {task: block["pass_at_k"][-1]["mean"] for task, block in scores.sampled_at_end().items()}


@metric(
    label="avg@k, final",
    group="Learning",
    kind="score",
    higher_is_better=True,
    definition="Mean reward of all sampled answers to the tasks' test items after the last stage.",
    formula="mean reward over items and samples, over all tasks",
    by="task",
)
def avg_at_k(scores: ScoreMatrix) -> Scores:
    return {task: block["avg_at_k"] for task, block in scores.sampled_at_end().items()}

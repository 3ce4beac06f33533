"""How far the model's answers are from the base model's."""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, Scores


@metric(
    label="KL to base",
    group="Drift",
    kind="nats",
    higher_is_better=None,
    definition="KL(base‖model) at the end, in nats per token, on the prompts of the tasks learned so far. Lower means "
    "closer to the base.",
    formula="KL after stage T, over all tasks",
    by="task",
    headline=True,
)
def kl_to_base(scores: ScoreMatrix) -> Scores:
    return {task: kl for task in scores.tasks if (kl := scores.at_end(task, "kl_to_base")) is not None}


@metric(
    label="KL to base on old skills",
    group="Drift",
    kind="nats",
    higher_is_better=False,
    definition="KL(base‖model) at the end, in nats per token, on the demonstrations of retention suites. It is a "
    "noise-free measure of what was lost. Earlier tasks do not count, because their own stages move it too.",
    formula="KL on demonstrations after stage T, over all retention suites with demonstrations",
    by="suite",
)
def kl_forgetting(scores: ScoreMatrix) -> Scores:
    suites = scores.suites("retention")
    return {name: kl for name in suites if (kl := scores.at_end(name, "kl_on_demonstrations")) is not None}

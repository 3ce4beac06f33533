"""What each metric of the report is called, what it means, and its unit; the page and the terminal both read this."""

from dataclasses import dataclass

from holdfast.report.number_format import NumberKind


@dataclass(frozen=True)
class Metric:
    """One metric of a recipe, under its key in the summary.

    Attributes:
        group: heading under which the metric table shows it.
        kind: how its number is written, see `NumberKind`.
        higher_is_better: None if neither direction is good in itself; then no value is bold.
    """

    key: str
    label: str
    group: str
    kind: NumberKind
    higher_is_better: bool | None
    definition: str


METRICS = [
    Metric(
        "final_score",
        "Final score",
        "Learning",
        "score",
        True,
        "Mean score on the stream's tasks after the last stage.",
    ),
    Metric(
        "learned_score",
        "Score when learned",
        "Learning",
        "score",
        True,
        "Each task's score right after its own stage, averaged over tasks. Later stages cannot change it.",
    ),
    Metric(
        "learning",
        "Improvement when learned",
        "Learning",
        "gain",
        True,
        "Each task's score right after its own stage minus its score before the first stage, averaged over tasks.",
    ),
    Metric(
        "first_task_learned",
        "First task when learned",
        "Learning",
        "score",
        True,
        "Score on the first stage's task right after that stage.",
    ),
    Metric(
        "loss_of_earlier",
        "Forgetting, overall",
        "Forgetting",
        "loss",
        False,
        "The main forgetting metric. Mean drop at the end: earlier tasks drop from their score when learned, held-out "
        "suites from the base model's score. Positive means forgotten.",
    ),
    Metric(
        "forgetting",
        "Forgetting, from learned",
        "Forgetting",
        "loss",
        False,
        "A task's score right after its own stage minus its score at the end, averaged over all tasks but the last.",
    ),
    Metric(
        "forgetting_from_best",
        "Forgetting, from best",
        "Forgetting",
        "loss",
        False,
        "A task's best score at any time minus its score at the end, averaged over all tasks but the last.",
    ),
    Metric(
        "forgetting_from_base",
        "Forgetting, from base",
        "Forgetting",
        "loss",
        False,
        "A task's score before the first stage minus its score at the end, averaged over all tasks. Negative means "
        "better than the base model. A recipe that fails to learn also scores badly here, so never read it alone.",
    ),
    Metric(
        "backward_transfer",
        "Backward transfer",
        "Forgetting",
        "gain",
        True,
        "How later stages change earlier tasks: score at the end minus score when learned.",
    ),
    Metric(
        "retention",
        "Retention, change",
        "Retention",
        "gain",
        True,
        "Score at the end minus the base model's score, averaged over the held-out suites. No stage trains on them.",
    ),
    Metric(
        "retention_final",
        "Retention, final",
        "Retention",
        "score",
        True,
        "Mean score on the held-out suites after the last stage.",
    ),
    Metric(
        "forward_transfer",
        "Forward transfer",
        "Transfer",
        "gain",
        True,
        "How earlier stages change a task that is not trained yet: score just before its own stage minus the base "
        "model's score.",
    ),
    Metric(
        "ood",
        "Out of distribution, change",
        "Transfer",
        "gain",
        True,
        "Score at the end minus the base model's score, on the same skills in a new surface form.",
    ),
    Metric(
        "kl_to_base",
        "KL to base",
        "Drift",
        "nats",
        None,
        "How far the output distribution moved: KL divergence between base model and model on the tasks' prompts at "
        "the end, in nats per token.",
    ),
]
"""All metrics in the order of the metric table."""

METRIC = {metric.key: metric for metric in METRICS}

GENERAL_TERMS = [
    ("Score", "Mean reward of greedy answers over a set's test items, in %. The set's verifier gives the rewards."),
    ("Point", "A difference of one percentage point between two scores."),
    (
        "95% CI",
        "95% confidence interval. Over runs (seeds and task orders) it is Student's t. For the score of a single run "
        "it is over the items of the set. One run alone has no interval over runs.",
    ),
    (
        "Pareto front",
        "The recipes that no other recipe beats on both final score and overall forgetting.",
    ),
    (
        "p and p (Holm)",
        "Two-sided paired t-test over runs. p (Holm) is corrected for comparing all pairs of recipes.",
    ),
    (
        "Matched new-task score",
        "A recipe that learns less usually forgets less. So two recipes are also compared, stage by stage, at the "
        "moment when each first reaches the highest score that both reach.",
    ),
]
"""Terms that the report uses besides the metrics' names."""

"""The budget and the results of a claim's arms. Torch-free."""

from holdfast.findings.claim import Evidence, Table
from holdfast.findings.read import POINTS
from holdfast.measure.metrics import flatten_metrics
from holdfast.measure.scores import mean
from holdfast.summary.untrained import UNTRAINED, untrained_metrics

_SCORES = {"learned_score": POINTS, "final_score": POINTS, "loss_of_earlier": POINTS, "retention": -POINTS}
"""Metrics and their factors. `retention` is a change, so the loss is its negative."""


def budgets(evidence: Evidence) -> Table:
    """Each arm's budget and results, as means over seeds. Differences between arms show neither.

    Scores and losses are in points: the tasks right after their stages, the tasks at the end, the loss on earlier
    tasks and suites, the loss on suites only. KL is in nats per token. The last row is the base without training.
    """
    rows = []
    for label, summaries in evidence.summaries.items():
        spent = [summary["budget"] for summary in summaries]
        metrics = [flatten_metrics(summary["metrics"]) for summary in summaries]
        scores = [mean(unit * v for m in metrics if (v := m[name]) is not None) for name, unit in _SCORES.items()]
        means = [
            mean(float(each[name]) for each in spent) or 0.0
            for name in ("optimizer_steps", "completions", "generated_tokens")
        ]
        kl = mean(v for m in metrics if (v := m["kl_to_base"]) is not None)
        rows.append(
            (
                label,
                *(f"{each:,.0f}" for each in means),
                *(_one_decimal(each) for each in scores),
                "–" if kl is None else f"{kl:.3f}",
            )
        )
    base = untrained_metrics([each for summaries in evidence.summaries.values() for each in summaries])
    scores = [None if (value := base[name]) is None else unit * value for name, unit in _SCORES.items()]
    if any(score is not None for score in scores):
        rows.append((UNTRAINED, "0", "0", "0", *(_one_decimal(score) for score in scores), "–"))
    head = (
        "run",
        "steps",
        "completions",
        "generated tokens",
        "score after the stage",
        "score at the end",
        "forgetting",
        "forgetting on suites",
        "KL to base",
    )
    return Table(head, rows)


def _one_decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"

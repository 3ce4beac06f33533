"""What the arms of a claim spent and where they came to. Torch-free."""

from holdfast.findings.claim import Evidence, Table
from holdfast.findings.read import POINTS
from holdfast.measure.metrics import flatten_metrics
from holdfast.measure.scores import mean

_SCORES = {"learned_score": POINTS, "final_score": POINTS, "loss_of_earlier": POINTS, "retention": -POINTS}
"""What is read, and its unit; retention is a change, and what is lost its negative."""


def budgets(found: Evidence) -> Table:
    """What each arm spent and where it came to, as means over seeds: differences alone do not say either.

    Scores and losses in points: of the tasks right after their stages, of them at the end, what earlier tasks and
    suites lost, what the suites alone did; KL in nats per token.
    """
    rows = []
    for label, summaries in found.summaries.items():
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
                *("–" if each is None else f"{each:.1f}" for each in scores),
                "–" if kl is None else f"{kl:.3f}",
            )
        )
    head = (
        "arm",
        "steps",
        "completions",
        "generated tokens",
        "learned",
        "at the end",
        "lost",
        "of suites",
        "KL to base",
    )
    return Table(head, rows)

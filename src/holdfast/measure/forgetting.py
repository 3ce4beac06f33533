"""What a stream taught and what it cost, read off the matrix of evaluations.

A[s][j] is the score of task j in the evaluation after stage s; row 0 is the base, and task j is learned in stage j.
Three definitions of forgetting stand side by side because they answer different questions and disagree:
the end against the moment just after learning (the one behind backward transfer, Lopez-Paz & Ranzato, arXiv
1706.08840), against the best score since (Chaudhry et al., arXiv 1801.10112), and against the base. The last calls
a failure to learn "forgetting", so it is never shown alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = dict[str, Any]

_WHERE: dict[str, tuple[str, ...]] = {
    "final_score": ("final_score", "mean"),
    "learned_score": ("learned_score", "mean"),
    "learning": ("learning", "mean"),
    "forgetting": ("forgetting", "from_learned", "mean"),
    "forgetting_from_best": ("forgetting", "from_best", "mean"),
    "forgetting_from_base": ("forgetting", "from_base", "mean"),
    "backward_transfer": ("backward_transfer",),
    "forward_transfer": ("forward_transfer",),
    "retention": ("retention", "mean"),
    "retention_final": ("retention", "final"),
    "ood": ("ood", "mean"),
    "kl_to_base": ("kl_to_base", "mean"),
    "first_task_learned": ("first_task_learned",),
    "loss_of_earlier": ("loss_of_earlier", "mean"),
}

METRIC_NAMES: tuple[str, ...] = tuple(_WHERE)
"""The numbers that a comparison states for each recipe, in the order of the summary."""


def mean(values: Iterable[float]) -> float | None:
    """The mean, or None of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else None


def score(evaluation: Mapping[str, Any], name: str, field: str = "mean") -> float | None:
    """One number of one set in an evaluation of a summary, or None where the set was not evaluated."""
    value = evaluation["scores"].get(name, {}).get(field)
    return None if value is None else float(value)


def drops(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """before − after of every name that both have; positive = lost."""
    return {name: before[name] - after[name] for name in before if name in after}


def _with_mean(per_task: Mapping[str, float], key: str = "per_task") -> Json:
    return {key: dict(per_task), "mean": mean(per_task.values())}


def compute_metrics(
    evaluations: Sequence[Mapping[str, Any]], order: Sequence[str], sets: Sequence[Mapping[str, Any]]
) -> Json:
    """The `metrics` block of a run's summary.

    Args:
        evaluations: as in the summary: `stage`, `task` and `scores`; stages 0 (the base) to T in order.
        order: the tasks in the order of their stages. T may be smaller while the run goes on; what is said is then
            about the tasks learned so far.
        sets: `name` and `kind` of everything evaluated.

    Returns:
        Fractions of 1. A mean over nothing (forgetting of earlier tasks after one stage, retention without suites)
        is None, and a set that was never scored is absent from the per-set numbers.
    """
    table = [{name: scores["mean"] for name, scores in e["scores"].items()} for e in evaluations]
    base, end, last = table[0], table[-1], len(table) - 1
    seen = list(order[:last])
    learned = {task: table[j][task] for j, task in enumerate(seen, 1) if task in table[j]}
    final = {task: end[task] for task in seen if task in end}
    earlier = {task: learned[task] for task in seen[:-1] if task in learned}
    best = {task: max(row[task] for row in table if task in row) for task in seen[:-1] if task in end}
    forgotten = drops(earlier, final)
    ahead = {task: table[j - 1][task] for j, task in enumerate(seen, 1) if j > 1 and task in table[j - 1]}
    suites = {kind: [s["name"] for s in sets if s["kind"] == kind] for kind in ("retention", "ood")}
    lost = {**forgotten, **drops({name: base[name] for name in suites["retention"] if name in base}, end)}
    kl = {task: value for task in seen if (value := score(evaluations[-1], task, "kl_to_base")) is not None}

    def change(names: Sequence[str]) -> Json:
        per_suite = drops({name: end[name] for name in names if name in end}, base)
        return {**_with_mean(per_suite, "per_suite"), "final": mean(end[name] for name in per_suite)}

    backward, forward = mean(forgotten.values()), mean(drops(ahead, base).values())
    return {
        "learning": _with_mean(drops(learned, base)),
        "final_score": _with_mean(final),
        "learned_score": _with_mean(learned),
        "forgetting": {
            "from_learned": _with_mean(forgotten),
            "from_best": _with_mean(drops(best, final)),
            "from_base": _with_mean(drops({task: base[task] for task in seen if task in base}, final)),
        },
        "backward_transfer": None if backward is None else 0.0 - backward,
        "forward_transfer": forward,
        "retention": change(suites["retention"]),
        "ood": change(suites["ood"]),
        "kl_to_base": _with_mean(kl),
        "first_task_learned": learned.get(order[0]) if order else None,
        "loss_of_earlier": _with_mean(lost, "per_set"),
    }


def flatten_metrics(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The one number of each of `METRIC_NAMES` out of a run's `metrics` block."""
    flat: dict[str, float | None] = {}
    for name, path in _WHERE.items():
        value: Any = metrics
        for key in path:
            value = value[key]
        flat[name] = value
    return flat

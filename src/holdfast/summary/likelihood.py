"""How the NLL of demonstrations changed over a run, and sentences about sets that nothing judges.

The rules for sets without an accuracy:

- A task is learned if the NLL of its demonstrations fell in its own stage: the paired 95% interval over items is
  below 0.
- An earlier task (since it was learned) or a retention suite (since the base) is forgotten if its NLL rose: the
  interval is above 0.
- Everything else is not shown.

These sets have no score. They are left out of scores, forgetting in points, the Pareto front and matched comparisons.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from holdfast.measure.likelihood import ItemNll, LikelihoodChange, nll_change, probability_change
from holdfast.measure.metrics import METRICS
from holdfast.measure.scores import Json
from holdfast.summary.words import ALPHA, SummaryPart, count, if_other_runs, join, signed_nats

_WHAT = {"retention": "forgetting", "ood": "transfer"}


def nll_changes(
    evaluations: Sequence[Mapping[str, Any]], order: Sequence[str], sets: Sequence[Mapping[str, Any]]
) -> list[Json]:
    """The `nll_changes` block of a run's summary.

    Args:
        evaluations: contents of `evals/stage-S.json` for stages 0 to the last finished one. Those of earlier versions
            have no `nll`.
        order: the tasks in the order of their stages.
        sets: `name` and `kind` of everything evaluated.
    """
    return _changes("nll", nll_change, evaluations, order, sets)


def probability_changes(
    evaluations: Sequence[Mapping[str, Any]], order: Sequence[str], sets: Sequence[Mapping[str, Any]]
) -> list[Json]:
    """The `probability_changes` block of a run's summary. Arguments as for `nll_changes`."""
    return _changes("forced", probability_change, evaluations, order, sets)


def _changes(
    key: str,
    compare: Callable[[Sequence[ItemNll | None], Sequence[ItemNll | None]], LikelihoodChange | None],
    evaluations: Sequence[Mapping[str, Any]],
    order: Sequence[str],
    sets: Sequence[Mapping[str, Any]],
) -> list[Json]:
    """Changes of the items that the evaluations have under a key, by set."""
    entries = []
    for name, what, first, last in spans(len(evaluations) - 1, order, sets):
        items: list[Sequence[ItemNll | None]] = [(evaluations[s].get(key) or {}).get(name, ()) for s in (first, last)]
        change = compare(*items) if len(items[0]) == len(items[1]) else None
        if change is not None:
            judged = evaluations[last]["sets"][name]["mean"] is not None
            span = {"set": name, "what": what, "from_stage": first, "to_stage": last, "judged": judged}
            entries.append(span | change.as_json())
    return entries


def spans(stages: int, order: Sequence[str], sets: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, int, int]]:
    """A set, what a change is called, and the two stages that are compared."""
    for stage, task in enumerate(order[:stages], 1):
        yield task, "learning", 0, stage
        if stage < stages:
            yield task, "forgetting", stage, stages
    for each in sets:
        if stages and each["kind"] in _WHAT:
            yield each["name"], _WHAT[each["kind"]], 0, stages


def unjudged_sets(summary: SummaryPart) -> list[str]:
    """The sets of a run that were evaluated and that nothing judges, in the order of the summary's sets."""
    if not summary["evaluations"]:
        return []
    scores = summary["evaluations"][-1]["scores"]
    return [s["name"] for s in summary["sets"] if s["name"] in scores and scores[s["name"]]["mean"] is None]


def unjudged_headline(summary: SummaryPart) -> str | None:
    """The headline of a run none of whose finished tasks is judged; None for other runs."""
    stages = len(summary["evaluations"]) - 1
    finished = summary["order"][:stages]
    unjudged = unjudged_sets(summary)
    if not finished or not all(task in unjudged for task in finished):
        return None
    outcomes = {
        e["set"]: e["outcome"] for e in summary["nll_changes"] if e["what"] == "learning" and e["set"] in finished
    }
    learned = [task for task in finished if outcomes.get(task) == "fell"]
    label, after = summary["label"], f"After {count(stages, 'stage')}"
    if len(learned) == len(finished):
        return f"{after} {label} learned {join(finished)}: the NLL of the demonstrations fell."
    if learned:
        rest = [task for task in finished if task not in learned]
        return (
            f"{after} {label} learned {join(learned)}: the NLL of the demonstrations fell. It is not shown that it "
            f"learned {join(rest)}."
        )
    return f"{after} it is not shown that {label} learned {join(finished)} by the NLL of the demonstrations."


def unjudged_sentences(summary: SummaryPart) -> list[str]:
    """Which sets have no score, and how the NLL of their demonstrations changed."""
    unjudged = unjudged_sets(summary)
    if not unjudged or len(summary["evaluations"]) < 2:
        return []
    sentences = [
        f"Not judged: {join(unjudged)}. Nothing judges answers to {'it' if len(unjudged) == 1 else 'them'}, so there "
        "is no score, and forgetting in points does not count "
        f"{'it' if len(unjudged) == 1 else 'them'}. The NLL of demonstrations, in nats per token, is given instead."
    ]
    titles = {
        "learning": "NLL right after a task's own stage, from the base's",
        "forgetting": "NLL at the end, from when learned or, for suites, from the base's",
        "transfer": "NLL at the end on out-of-distribution suites, from the base's",
    }
    for what, title in titles.items():
        listed = [_change(e) for e in summary["nll_changes"] if e["what"] == what and e["set"] in unjudged]
        if listed:
            sentences.append(f"{title}: {'; '.join(listed)}.")
    return sentences


_OUTCOMES = {
    "learning": {"fell": "learned", "rose": "not learned, it rose"},
    "forgetting": {"fell": "improved", "rose": "forgotten"},
    "transfer": {"fell": "improved", "rose": "worse"},
}


def _change(entry: SummaryPart) -> str:
    """One change in words: "notes 3.214 to 1.020 (change −2.194, 95% CI −2.4 to −1.9, 40 items): learned"."""
    items = count(entry["n"], "item")
    if entry["ci95"] is None:
        evidence = f"{items}, so no interval"
    else:
        low, high = entry["ci95"]
        evidence = f"95% CI {signed_nats(low)} to {signed_nats(high)}, {items}"
    result = _OUTCOMES[entry["what"]].get(entry["outcome"], "no change is shown")
    numbers = f"{entry['set']} {entry['before']:.3f} to {entry['after']:.3f}"
    return f"{numbers} (change {signed_nats(entry['change'])}, {evidence}): {result}"


def unjudged_in_comparison(summary: SummaryPart) -> list[str]:
    """The sentences of a comparison about sets that nothing judges: the best and the worst recipe by NLL.

    Empty if every set is judged.
    """
    complete = [run["summary"] for run in summary["runs"] if run["summary"]["status"] == "complete"]
    names = list(dict.fromkeys(name for run in complete for name in unjudged_sets(run)))
    if not names:
        return []
    sentences = [
        f"Not judged: {join(names)}. There is no score, so recipes are compared by the NLL of demonstrations, in nats "
        "per token, over all sets that have some."
    ]
    return sentences + [s for name in ("nll_learning", "nll_forgetting") for s in _extremes(summary, name)]


def _extremes(summary: SummaryPart, name: str) -> list[str]:
    """Best and worst recipe by a metric in nats, and whether the runs show a difference."""
    metric = METRICS[name]
    means = {r["label"]: r["metrics"][name]["mean"] for r in summary["recipes"]}
    known = {label: value for label, value in means.items() if value is not None}
    if not known:
        return []
    if len(known) == 1:
        ((label, value),) = known.items()
        return [f"{metric.label}: {label} {signed_nats(value)} nats."]
    best, *_, worst = sorted(known, key=known.__getitem__)
    text = f"{metric.label}: best {best}, {signed_nats(known[best])} nats; worst {worst}, {signed_nats(known[worst])}."
    entry = next(p for p in summary["paired"] if p["metric"] == name and {p["a"], p["b"]} == {best, worst})
    if entry["difference"] is None:
        return [f"{text} No runs of the two share seed and task order, so no difference is given."]
    sign = -1.0 if entry["a"] == best else 1.0
    difference = f"difference of {sign * entry['difference']:.3f} nats"
    over = if_other_runs(sign * entry["difference"], known[worst] - known[best])
    if entry["ci95"] is None:
        why = "1 run" if entry["n"] == 1 else f"the same in all {entry['n']} runs"
        return [f"{text} Difference not tested: {difference} ({why}, so no interval){over}."]
    low, high = sorted(sign * bound for bound in entry["ci95"])
    evidence = f"95% CI {low:.3f} to {high:.3f}, {entry['n']} runs"
    if entry["p_holm"] is not None and entry["p_holm"] < ALPHA:
        return [f"{text} This is a {difference} ({evidence}){over}."]
    return [f"{text} Inconclusive: {difference} ({evidence}; p {entry['p_holm']:.2g} after Holm's correction){over}."]

"""The verdict on a comparison: plain sentences that follow from the numbers of a summary and claim no more than they
show. `holdfast.summary.run_verdict` has the verdict on a run.

The first sentence is the headline. Fractions are written as points (percentage points). The rules for claims:

- Recipes are compared by what they forgot within a stage up to the match. What earlier stages had cost by then is given
  too, but not claimed: it depends on how far each recipe learned earlier tasks, which nothing matches.
- If there is an interval, a difference is claimed only if the interval excludes zero.
- A matched difference is not claimed if its sign depends on where the losses lie between the points around the match.
- If that is true only before Holm's correction for the number of comparisons, the sentence says so. It is no headline.
- All other differences are inconclusive.
- If there is no interval, the sentence gives the observed difference and says why there is no interval.

Sets that nothing judges have their own rules; see `holdfast.summary.likelihood`.
"""

from collections.abc import Sequence

from holdfast.measure.matched import WIDEST_GAP, is_sign_open
from holdfast.measure.metrics import METRICS
from holdfast.measure.scores import mean
from holdfast.measure.statistics import largest_margin
from holdfast.summary.empty_sets import nothing_to_lose_in_comparison, same_answers_in_comparison
from holdfast.summary.guard_sentences import guard_in_comparison
from holdfast.summary.judging import failed_judgments_in_comparison
from holdfast.summary.likelihood import unjudged_in_comparison, unjudged_sets
from holdfast.summary.words import (
    ALPHA,
    LEARNED,
    SummaryPart,
    change_in_words,
    count,
    has_learned,
    if_other_runs,
    join,
    points,
)


def is_shown(entry: SummaryPart) -> bool:
    """Whether the difference of a paired or matched entry is significant after correction for its family."""
    return entry["p_holm"] is not None and entry["p_holm"] < ALPHA and not is_sign_open(entry)


def is_shown_alone(entry: SummaryPart) -> bool:
    """Whether the difference would be significant as the only comparison, but is not after correction."""
    return entry["p"] is not None and entry["p"] < ALPHA and not is_shown(entry) and not is_sign_open(entry)


def _evidence(entry: SummaryPart, sign: float = 1.0) -> str:
    """Interval and number of runs, or why there is no interval. A `sign` of −1 gives b − a instead of a − b."""
    if entry["ci95"] is None:
        text = "1 run, so no interval" if entry["n"] == 1 else f"the same in all {entry['n']} runs, so no interval"
    else:
        low, high = sorted(sign * bound for bound in entry["ci95"])
        text = f"95% CI {points(low)} to {points(high)}, {count(entry['n'], 'run')}"
    if entry["difference"] and is_sign_open(entry):
        low, high = sorted(sign * bound for bound in entry["bounds"]["difference"])
        text += f"; anywhere from {points(low)} to {points(high)} by where the losses lie between two probes"
    if is_shown_alone(entry):
        text += f"; not significant after Holm's correction for all comparisons, p = {entry['p_holm']:.2g}"
    return text


def _is_inconclusive(entry: SummaryPart) -> bool:
    """Whether there is an interval and it includes zero, or the sign is open."""
    known = entry["ci95"] is not None or is_sign_open(entry)
    return known and not is_shown(entry) and not is_shown_alone(entry)


def _where(entry: SummaryPart) -> str:
    if entry["method"] == "interpolated":
        return "within a stage, at a matched new-task score"
    return "at the ends of the stages, unmatched"


def within_stages(entry: SummaryPart) -> SummaryPart:
    """A matched entry with the numbers that claims are about: those within the stages if it was matched."""
    return entry if entry["within_stage"] is None else {**entry, **entry["within_stage"]}


def _claim(entry: SummaryPart) -> tuple[str, str, float]:
    """Who forgot more, who forgot less, and the sign that turns a − b into more − less."""
    return (entry["a"], entry["b"], 1.0) if entry["difference"] > 0 else (entry["b"], entry["a"], -1.0)


def _forgot_more(entry: SummaryPart) -> str:
    more, less, sign = _claim(entry)
    return (
        f"{more} forgot {points(abs(entry['difference']))} points more of earlier skills than {less} "
        f"{_where(entry)} ({_evidence(entry, sign)})."
    )


def _a_minus_b(entry: SummaryPart) -> str:
    return f"{entry['a']} minus {entry['b']} is {points(entry['difference'])} points ({_evidence(entry)})."


def matched_sentence(entry: SummaryPart) -> str:
    """One matched comparison in words, an entry of `within_stages`. Its difference must not be null."""
    if _is_inconclusive(entry) or entry["difference"] == 0:
        return (
            f"Inconclusive: no difference in forgetting was shown between {entry['a']} and {entry['b']} "
            f"{_where(entry)}. {_a_minus_b(entry)}"
        )
    return _forgot_more(entry)


def comparison_verdict(summary: SummaryPart) -> list[str]:
    """The verdict on a comparison's summary, headline first."""
    recipes = [r for r in summary["recipes"] if r["metrics"]["learned_score"]["mean"] is not None]
    unjudged = unjudged_in_comparison(summary)
    if not recipes and unjudged:
        complete = [r for r in summary["recipes"] if r["runs"]]
        rest = [*failed_judgments_in_comparison(summary), *_stopped(summary), *guard_in_comparison(summary)]
        rest += [*_budgets(complete), *_scope(summary, complete)]
        return [*unjudged, *rest]
    if not recipes:
        return ["No run is complete yet, so there is nothing to conclude.", *_stopped(summary)]
    able = [r for r in recipes if has_learned(r["metrics"])]
    learned = [r["label"] for r in able]
    pairs = [within_stages(m) for m in summary["matched"] if m["a"] in learned and m["b"] in learned]
    fair = [m for m in pairs if m["difference"] is not None]
    fair.sort(key=lambda m: (not is_shown(m), not is_shown_alone(m), -abs(m["difference"])))
    return [
        *_headline(recipes, learned, fair, _tasks(summary)),
        *_beyond_headline(fair, summary["matched"]),
        *_not_compared(pairs),
        *failed_judgments_in_comparison(summary),
        *_stopped(summary),
        *guard_in_comparison(summary),
        *_not_learned(summary, recipes),
        *_extremes(summary, recipes, "learned_score"),
        *_extremes(summary, recipes, "final_score"),
        # A recipe that learned nothing has little to forget, so it cannot be the best here.
        *_extremes(summary, able, "loss_of_earlier"),
        *unjudged,
        *nothing_to_lose_in_comparison(summary),
        *same_answers_in_comparison(summary),
        *_front(summary),
        *_prediction(summary),
        *_budgets(recipes),
        *_scope(summary, recipes),
    ]


def _tasks(summary: SummaryPart) -> str:
    """The tasks that scores are about, in words: some may have none."""
    unjudged = {name for run in summary["runs"] for name in unjudged_sets(run["summary"])}
    return "the judged tasks" if unjudged & set(summary["tasks"]) else "the tasks"


def _headline(
    recipes: Sequence[SummaryPart], learned: Sequence[str], fair: Sequence[SummaryPart], tasks: str
) -> list[str]:
    if len(recipes) == 1:
        (only,) = recipes
        loss = only["metrics"]["loss_of_earlier"]["mean"]
        change = "" if loss is None else f" and {change_in_words(loss)}"
        final = points(only["metrics"]["final_score"]["mean"])
        runs = count(only["runs"], "run")
        return [f"{only['label']} scored {final} points on {tasks} at the end{change} ({runs})."]
    if not learned:
        best = max(recipes, key=lambda r: r["metrics"]["learned_score"]["mean"])
        reached = points(best["metrics"]["learned_score"]["mean"])
        return [
            f"No recipe learned {tasks}. The best, {best['label']}, reached {reached} points right after a task's "
            "own stage."
        ]
    if len(learned) == 1:
        return [f"Only {learned[0]} learned {tasks}, so forgetting cannot be compared fairly."]
    if len(fair) > 1 and all(m["ci95"] is not None and not is_shown(m) for m in fair):
        clearest = _a_minus_b(fair[0]) if _is_inconclusive(fair[0]) else _forgot_more(fair[0])
        return [
            f"Inconclusive: no difference in forgetting was shown between any two of {join(learned)} "
            f"{_where(fair[0])}, after correction for all comparisons. The clearest: {clearest}"
        ]
    return [matched_sentence(m) for m in fair[:1]]


def _beyond_headline(fair: Sequence[SummaryPart], matched: Sequence[SummaryPart]) -> list[str]:
    """How well the headline's pair was matched, what it forgot with earlier stages, and the other pairs.

    Args:
        fair: entries of `within_stages`.
        matched: the summary's entries.
    """
    if not fair:
        return []
    first, sentences = fair[0], []
    a, b, end = first["a"], first["b"], first["end_of_stage"]
    whole = next(m for m in matched if (m["a"], m["b"]) == (a, b))
    scores = f"At the ends of their stages they scored {points(end['new_task_a'])} and {points(end['new_task_b'])}."
    if first["method"] == "interpolated":
        stages = first["stages_used"] + first["stages_skipped"]
        sentences.append(
            f"{a} and {b} were matched at {points(first['matched_score'])} points on the new task, on average, in "
            f"{first['stages_used']} of {stages} stages of their runs. {scores}"
        )
        sentences += _around(first) + _too_wide(fair)
    else:
        sentences.append(f"Without probes, {a} and {b} could not be matched on the new task. {scores}")
    if abs(whole["difference"] - first["difference"]) > 1e-9:
        sentences.append(
            f"With what earlier stages had cost by then, {a} minus {b} is {points(whole['difference'])} points "
            f"({_evidence(whole)}). This part also depends on how far each learned earlier tasks, which is not matched."
        )
    claims, unclear = [], []
    for m in fair[1:]:
        if m["method"] != first["method"]:
            sentences.append(matched_sentence(m))
        elif _is_inconclusive(m) or m["difference"] == 0:
            unclear.append(f"{m['a']} and {m['b']} ({points(m['difference'])} points, {_evidence(m)})")
        else:
            more, less, sign = _claim(m)
            by = points(abs(m["difference"]))
            claims.append(f"{more} forgot {by} points more than {less} ({_evidence(m, sign)})")
    if claims:
        sentences.append(f"Other pairs, compared in the same way: {'; '.join(claims)}.")
    if unclear and not all(_is_inconclusive(m) for m in fair):
        sentences.append(f"Inconclusive: no difference in forgetting was shown between {'; '.join(unclear)}.")
    return sentences


def _around(entry: SummaryPart) -> list[str]:
    """The losses at the points around the match."""
    if (bounds := entry.get("bounds")) is None:
        return []
    ranges = [f"{points(min(bounds[side]))} to {points(max(bounds[side]))} of {entry[side]}" for side in ("a", "b")]
    return [f"Forgetting at the two points around the match, on average: {join(ranges)}."]


def _too_wide(entries: Sequence[SummaryPart]) -> list[str]:
    """How many stages were left out of matched comparisons, because a score jumped over the match."""
    jumped = [m for m in entries if m.get("stages_too_wide")]
    if not jumped:
        return []
    listed = "; ".join(
        f"{m['stages_too_wide']} of {m['stages_used'] + m['stages_skipped']} of {m['a']} and {m['b']}" for m in jumped
    )
    return [f"Stages that were not matched, because {_JUMPED}: {listed}."]


_JUMPED = (
    f"a score rose by more than {points(WIDEST_GAP)} points between the two probes around the match (lower "
    "`eval.probe_steps` or `eval.probe_gap`)"
)


def _not_compared(pairs: Sequence[SummaryPart]) -> list[str]:
    sentences = []
    reasons = {
        "jumped": _JUMPED,
        "flat": "in no stage did both rise above their starting scores",
        "nothing": "no pair of runs has an earlier task or a retention suite with something to lose",
    }
    for reason, why in reasons.items():
        out = [m for m in pairs if m["difference"] is None and reason == _why_unmatched(m)]
        if out:
            who = "; ".join(f"{m['a']} and {m['b']}" for m in out)
            who = "any two of the recipes" if len(out) == len(pairs) > 1 else who
            sentences.append(f"Forgetting could not be compared between {who}: {why}.")
    return sentences


def _why_unmatched(entry: SummaryPart) -> str:
    if entry["stages_used"]:
        return "nothing"
    if entry.get("stages_too_wide"):
        return "jumped"
    return "flat" if entry["stages_skipped"] else "nothing"


def _stopped(summary: SummaryPart) -> list[str]:
    """How many runs the guard ended. Otherwise a recipe whose runs collapse could look as good as another."""
    ended = {r["label"]: (r["stopped"], r["runs"] + r["stopped"]) for r in summary["recipes"]}
    listed = [f"{stopped} of {runs} of {label}" for label, (stopped, runs) in ended.items() if stopped]
    if not listed:
        return []
    total = sum(stopped for stopped, _ in ended.values())
    return [
        f"The guard ended {count(total, 'run')} before the last stage: {', '.join(listed)}. No statistic includes "
        "these runs: a recipe's numbers are about its other runs only."
    ]


def _not_learned(summary: SummaryPart, recipes: Sequence[SummaryPart]) -> list[str]:
    failed, partly = [], []
    for recipe in recipes:
        label, learned = recipe["label"], recipe["metrics"]["learned_score"]["mean"]
        if not has_learned(recipe["metrics"]):
            failed.append(f"{label} ({_not_enough(learned)})")
            continue
        runs = [r["summary"] for r in summary["runs"] if r["label"] == label and r["summary"]["status"] == "complete"]
        metrics = [run["metrics"] for run in runs if run["metrics"]]
        for task in summary["tasks"]:
            average, gain = (
                mean(per_task[task] for m in metrics if task in (per_task := m[name]["per_task"]))
                for name in ("learned_score", "learning")
            )
            if average is not None and (average < LEARNED or (gain is not None and gain <= 0)):
                partly.append(f"{task} by {label} ({_not_enough(average)})")
    below = f"below {points(LEARNED)} points right after a task's own stage, or no gain over the base"
    sentences = []
    if failed:
        its = "its" if len(failed) == 1 else "their"
        sentences.append(
            f"{join(failed)} failed to learn {_tasks(summary)} ({below}), so {its} forgetting is not comparable."
        )
    if partly:
        sentences.append(f"Not learned ({below}): {'; '.join(partly)}.")
    return sentences


def _not_enough(score: float) -> str:
    """A score, and why it is not called learned if it is high enough."""
    return points(score) if score < LEARNED else f"{points(score)}, not above the base"


def _extremes(summary: SummaryPart, recipes: Sequence[SummaryPart], name: str) -> list[str]:
    """Best and worst recipe by the mean of a metric, and whether the runs show a difference."""
    metric = METRICS[name]
    means = {r["label"]: r["metrics"][name]["mean"] for r in recipes if r["metrics"][name]["mean"] is not None}
    if len(means) < 2:
        return []
    higher = bool(metric.higher_is_better)
    best, *_, worst = sorted(means, key=means.__getitem__, reverse=higher)
    if abs(means[best] - means[worst]) < 1e-9:
        return [f"{metric.label}: {points(means[best])} points of {join(list(means))} alike."]
    text = f"{metric.label}: best {best}, {points(means[best])} points; worst {worst}, {points(means[worst])}."
    entry = next(p for p in summary["paired"] if p["metric"] == name and {p["a"], p["b"]} == {best, worst})
    if entry["difference"] is None:
        return [f"{text} No runs of the two share seed and task order, so no difference is given."]
    sign = 1.0 if (entry["a"] == best) == higher else -1.0
    difference = f"difference of {points(sign * entry['difference'])} points ({_evidence(entry, sign)})"
    difference += if_other_runs(sign * entry["difference"], abs(means[best] - means[worst]))
    if _is_inconclusive(entry) or entry["difference"] == 0:
        return [f"{text} Inconclusive: {difference}."]
    return [f"{text} This is a {difference}."]


def _front(summary: SummaryPart) -> list[str]:
    front = summary["pareto"]
    if len(summary["labels"]) < 2 or not front:
        return []
    lead = "Pareto front by mean final score and mean forgetting"
    if len(front) == 1:
        return [f"{lead}: {front[0]} alone. No recipe has a higher score or forgot less."]
    return [f"{lead}: {join(front)}. No recipe beats one of them on both."]


def _prediction(summary: SummaryPart) -> list[str]:
    """Whether forgetting follows KL to the base over the runs, all recipes together."""
    measured = summary["forgetting_prediction"]
    fits = (
        ("on the tasks' prompts", measured["fit"]),
        ("on the demonstrations of held-out suites", measured["fit_old"]),
    )
    return [_prediction_sentence(where, fit) for where, fit in fits if fit is not None]


def _prediction_sentence(where: str, fit: SummaryPart) -> str:
    low, high = fit["slope_ci95"]
    numbers = (
        f"{points(fit['slope'] / 10)} points per 0.1 nats per token (95% CI {points(low / 10)} to {points(high / 10)}, "
        f"R² {fit['r2']:.2f}, rank correlation {fit['spearman']:.2f}, {fit['n']} runs of all recipes together)."
    )
    if low > 0:
        return f"Runs that moved further from the base {where} forgot more: {numbers}"
    if high < 0:
        return f"Runs that moved further from the base {where} forgot less: {numbers}"
    return f"Inconclusive whether KL to the base {where} predicts forgetting: {numbers}"


def _budgets(recipes: Sequence[SummaryPart]) -> list[str]:
    uneven = [key for key in ("optimizer_steps", "prompts") if len({r["budget"][key] for r in recipes}) > 1]
    if not uneven:
        return []
    what = join([key.replace("optimizer_steps", "optimizer steps") for key in uneven])
    return [f"The budgets were not equal: the recipes differ in {what}."]


def _scope(summary: SummaryPart, recipes: Sequence[SummaryPart]) -> list[str]:
    """What the numbers do not cover."""
    sentences = []
    planned = len(summary["labels"]) * len(summary["seeds"]) * len(summary["orders"])
    done = sum(r["runs"] + r["stopped"] for r in summary["recipes"])
    if done < planned:
        sentences.append(f"The comparison is not complete: {done} of {planned} runs are done.")
    single = [r["label"] for r in recipes if r["runs"] == 1]
    if single:
        sentences.append(
            f"There is only one run of {join(single)}: no interval over runs, and differences may be chance."
        )
    if len(single) < len(recipes):
        sentences.append(
            f"Intervals are over runs ({count(len(summary['seeds']), 'seed')}, "
            f"{count(len(summary['orders']), 'task order')}). All runs answered the same items."
        )
    unjudged = {name for run in summary["runs"] for name in unjudged_sets(run["summary"])}
    sizes = [s["n"] for s in summary["sets"] if s["name"] not in unjudged]
    if sizes:
        smallest = min(sizes)
        margin = points(largest_margin(smallest))
        sentences.append(
            f"The smallest set has {count(smallest, 'item')}: one model's score is known to within {margin} points."
        )
    return sentences

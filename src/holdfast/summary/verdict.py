"""The verdict: plain sentences that follow from the numbers of a summary and claim no more than they show.

The first sentence is the headline. Fractions are written as points (percentage points). Where there is an interval, a
difference is claimed only if it excludes zero; if it does so alone but not after Holm's correction for the number of
comparisons, the sentence says so, and it is no headline; of the rest, "no difference could be shown". Where there is no
interval, what was observed is stated together with why there is none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.measure.scores import mean
from holdfast.measure.statistics import largest_margin

Summary = Mapping[str, Any]

ALPHA = 0.05

LEARNED = 0.5
"""A task counts as learned from this score on, right after its own stage."""


def points(fraction: float) -> str:
    """A fraction as percentage points with one decimal; never "-0.0"."""
    return f"{round(100 * fraction, 1) + 0.0:.1f}"


def is_shown(entry: Summary) -> bool:
    """Whether a paired or matched entry's difference stands after correction for the size of its family."""
    return entry["p_holm"] is not None and entry["p_holm"] < ALPHA


def is_shown_alone(entry: Summary) -> bool:
    """Whether it would stand if it were the only comparison made, but does not stand among all of them."""
    return entry["p"] is not None and entry["p"] < ALPHA and not is_shown(entry)


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _kept(loss: float) -> str:
    return f"{'lost' if loss >= 0 else 'gained'} {points(abs(loss))} points"


def _evidence(entry: Summary, sign: float = 1.0) -> str:
    """Interval and runs, or why there is no interval; `sign` turns the interval of a − b into that of b − a."""
    if entry["ci95"] is None:
        return "1 run, so no interval" if entry["n"] == 1 else f"the same in all {entry['n']} runs, so no interval"
    low, high = sorted(sign * bound for bound in entry["ci95"])
    text = f"95% interval {points(low)} to {points(high)}, {_count(entry['n'], 'run')}"
    if is_shown_alone(entry):
        text += f"; not significant among all comparisons, Holm's p {entry['p_holm']:.2g}"
    return text


def _is_open(entry: Summary) -> bool:
    """Whether there is an interval, and it leaves open who is ahead."""
    return entry["ci95"] is not None and not is_shown(entry) and not is_shown_alone(entry)


def _where(entry: Summary) -> str:
    return "at a matched new-task score" if entry["method"] == "interpolated" else "at the end of a stage, unmatched"


def _claim(entry: Summary) -> tuple[str, str, float]:
    """Who lost more, who less, and the sign that turns a − b into more − less."""
    return (entry["a"], entry["b"], 1.0) if entry["difference"] > 0 else (entry["b"], entry["a"], -1.0)


def matched_sentence(entry: Summary) -> str:
    """One matched comparison, whose difference is not null, in words."""
    a, b, d = entry["a"], entry["b"], entry["difference"]
    if _is_open(entry) or d == 0:
        return (
            f"No difference in what was lost could be shown between {a} and {b} {_where(entry)}: "
            f"{a} minus {b} is {points(d)} points ({_evidence(entry)})."
        )
    more, less, sign = _claim(entry)
    return (
        f"{more} lost {points(abs(d))} points more of what was known before than {less} {_where(entry)} "
        f"({_evidence(entry, sign)})."
    )


def comparison_verdict(summary: Summary) -> list[str]:
    """The verdict on a comparison's summary, headline first."""
    recipes = [r for r in summary["recipes"] if r["metrics"]["learned_score"]["mean"] is not None]
    if not recipes:
        return ["No run is complete yet, so nothing can be said.", *_stopped(summary)]
    able = [r for r in recipes if r["metrics"]["learned_score"]["mean"] >= LEARNED]
    learned = [r["label"] for r in able]
    pairs = [m for m in summary["matched"] if m["a"] in learned and m["b"] in learned]
    fair = [m for m in pairs if m["difference"] is not None]
    fair.sort(key=lambda m: (not is_shown(m), not is_shown_alone(m), -abs(m["difference"])))
    return [
        *_headline(recipes, learned, fair),
        *_beyond_headline(fair),
        *_not_compared(pairs),
        *_stopped(summary),
        *_decided(summary),
        *_not_learned(summary, recipes),
        *_extremes(summary, recipes, "learned_score", "Highest score right after a task's own stage", True),
        *_extremes(summary, recipes, "final_score", "Highest score on all tasks at the end", True),
        *_extremes(summary, able, "loss_of_earlier", "Least lost of earlier tasks and suites at the end", False),
        *_front(summary),
        *_prediction(summary),
        *_budgets(recipes),
        *_scope(summary, recipes),
    ]


def _headline(recipes: Sequence[Summary], learned: Sequence[str], fair: Sequence[Summary]) -> list[str]:
    if len(recipes) == 1:
        (only,) = recipes
        loss = only["metrics"]["loss_of_earlier"]["mean"]
        kept = "" if loss is None else f" and {_kept(loss)} of what was known before"
        final = points(only["metrics"]["final_score"]["mean"])
        return [f"{only['label']} scored {final} points on the tasks at the end{kept} ({_count(only['runs'], 'run')})."]
    if not learned:
        best = max(recipes, key=lambda r: r["metrics"]["learned_score"]["mean"])
        reached = points(best["metrics"]["learned_score"]["mean"])
        return [
            f"No recipe learned the tasks: {best['label']}, the best, reached {reached} points right after their stage."
        ]
    if len(learned) == 1:
        return [f"Only {learned[0]} learned the tasks, so what the recipes lost cannot be compared fairly."]
    if len(fair) > 1 and all(m["ci95"] is not None and not is_shown(m) for m in fair):
        clearest = matched_sentence(fair[0])
        clearest = clearest.split(": ", 1)[1] if _is_open(fair[0]) else clearest
        return [
            f"No difference in what was lost could be shown between any two of {_join(learned)} {_where(fair[0])}, "
            f"corrected for all comparisons; the clearest: {clearest}"
        ]
    return [matched_sentence(m) for m in fair[:1]]


def _beyond_headline(fair: Sequence[Summary]) -> list[str]:
    """How well the headline's pair was matched, what it lost within the stages, and the other pairs."""
    if not fair:
        return []
    first, sentences = fair[0], []
    a, b, end, within = first["a"], first["b"], first["end_of_stage"], first["within_stage"]
    ended = f"at the end of their stages they stood at {points(end['new_task_a'])} and {points(end['new_task_b'])}"
    if first["method"] == "interpolated":
        stages = first["stages_used"] + first["stages_skipped"]
        sentences.append(
            f"{a} and {b} were matched at {points(first['matched_score'])} points on the new task, on average, in "
            f"{first['stages_used']} of {stages} stages of their runs; {ended}."
        )
    else:
        sentences.append(f"For want of probes {a} and {b} could not be matched on the new task: {ended}.")
    if within and abs(within["difference"] - first["difference"]) > 1e-9:
        unclear_too = ", so no difference is shown" if _is_open(within) else ""
        sentences.append(
            f"Counting only what went within the stage up to the match, {a} minus {b} is "
            f"{points(within['difference'])} points ({_evidence(within)}){unclear_too}."
        )
    claims, unclear = [], []
    for m in fair[1:]:
        if m["method"] != first["method"]:
            sentences.append(matched_sentence(m))
        elif _is_open(m) or m["difference"] == 0:
            unclear.append(f"{m['a']} and {m['b']} ({points(m['difference'])} points, {_evidence(m)})")
        else:
            more, less, sign = _claim(m)
            claims.append(f"{more} lost {points(abs(m['difference']))} points more than {less} ({_evidence(m, sign)})")
    if claims:
        sentences.append(f"Of the other pairs, in the same way: {'; '.join(claims)}.")
    if unclear and not all(_is_open(m) for m in fair):
        sentences.append(f"No difference in what was lost could be shown between {'; '.join(unclear)}.")
    return sentences


def _not_compared(pairs: Sequence[Summary]) -> list[str]:
    sentences = []
    reasons = {True: "in no stage did both rise above where they began", False: "no paired runs with anything to lose"}
    for skipped, why in reasons.items():
        out = [m for m in pairs if m["difference"] is None and skipped == bool(m["stages_skipped"])]
        if out:
            who = "; ".join(f"{m['a']} and {m['b']}" for m in out)
            who = "any two of the recipes" if len(out) == len(pairs) > 1 else who
            sentences.append(f"What was lost could not be compared between {who}: {why}.")
    return sentences


def _stopped(summary: Summary) -> list[str]:
    """How many runs the guard ended: what is said of the others is not what a recipe does in every run."""
    ended = {r["label"]: (r.get("stopped", 0), r["runs"] + r.get("stopped", 0)) for r in summary["recipes"]}
    listed = [f"{stopped} of {runs} of {label}" for label, (stopped, runs) in ended.items() if stopped]
    if not listed:
        return []
    count = sum(stopped for stopped, _ in ended.values())
    return [
        f"The guard ended {_count(count, 'run')} before the last stage: {', '.join(listed)}. What was ended is in no "
        "statistic, so that what is said of a recipe is of its other runs alone."
    ]


def _not_learned(summary: Summary, recipes: Sequence[Summary]) -> list[str]:
    failed, partly = [], []
    for recipe in recipes:
        label, learned = recipe["label"], recipe["metrics"]["learned_score"]["mean"]
        if learned < LEARNED:
            failed.append(f"{label} ({points(learned)})")
            continue
        runs = [r["summary"] for r in summary["runs"] if r["label"] == label and r["summary"]["status"] == "complete"]
        learned_by_run = [run["metrics"]["learned_score"]["per_task"] for run in runs if run["metrics"]]
        for task in summary["tasks"]:
            average = mean(per_task[task] for per_task in learned_by_run if task in per_task)
            if average is not None and average < LEARNED:
                partly.append(f"{task} by {label} ({points(average)})")
    below = f"below {points(LEARNED)} points right after a task's own stage"
    sentences = []
    if failed:
        kept = "that it kept what it knew" if len(failed) == 1 else "that they kept what they knew"
        sentences.append(f"{_join(failed)} failed to learn the tasks ({below}): {kept} says nothing about holding on.")
    if partly:
        sentences.append(f"Not learned ({below}): {'; '.join(partly)}.")
    return sentences


def _extremes(summary: Summary, recipes: Sequence[Summary], metric: str, lead: str, higher: bool) -> list[str]:
    """Best and worst recipe by the mean of a metric, and whether the runs show the two to differ."""
    means = {r["label"]: r["metrics"][metric]["mean"] for r in recipes if r["metrics"][metric]["mean"] is not None}
    if len(means) < 2:
        return []
    best, *_, worst = sorted(means, key=means.__getitem__, reverse=higher)
    other = "lowest" if higher else "most"
    text = f"{lead}: {best}, {points(means[best])} points; {other}: {worst}, {points(means[worst])}"
    entry = next(p for p in summary["paired"] if p["metric"] == metric and {p["a"], p["b"]} == {best, worst})
    if entry["difference"] is None:
        return [f"{text}; no run of one has its partner of the other, so no difference is stated."]
    sign = 1.0 if (entry["a"] == best) == higher else -1.0
    difference = points(sign * entry["difference"])
    if _is_open(entry) or entry["difference"] == 0:
        return [f"{text}; no difference could be shown ({difference} points, {_evidence(entry, sign)})."]
    return [f"{text}; a difference of {difference} points ({_evidence(entry, sign)})."]


def _front(summary: Summary) -> list[str]:
    front = summary["pareto"]
    if len(summary["labels"]) < 2 or not front:
        return []
    if len(front) == 1:
        return [f"By the means, no recipe ends with a higher score than {front[0]} or has lost less."]
    return [
        f"By the means, {_join(front)} are on the front: none of the recipes beats one of them on both score and loss."
    ]


def _prediction(summary: Summary) -> list[str]:
    """Whether what was lost follows KL to the base over the runs, all recipes together."""
    fit = summary["forgetting_prediction"]["fit"]
    if fit is None:
        return []
    low, high = fit["slope_ci95"]
    numbers = (
        f"{points(fit['slope'] / 10)} points for each 0.1 nats per token, 95% interval {points(low / 10)} to "
        f"{points(high / 10)}, R² {fit['r2']:.2f}, rank correlation {fit['spearman']:.2f}, {fit['n']} runs of all "
        "recipes together"
    )
    if low > 0:
        return [f"Runs that moved further from the base on the tasks' prompts lost more: {numbers}."]
    if high < 0:
        return [f"Runs that moved further from the base on the tasks' prompts lost less: {numbers}."]
    return [f"That KL to the base on the tasks' prompts predicts what is lost could not be shown: {numbers}."]


def _budgets(recipes: Sequence[Summary]) -> list[str]:
    uneven = [key for key in ("optimizer_steps", "prompts") if len({r["budget"][key] for r in recipes}) > 1]
    if not uneven:
        return []
    what = _join([key.replace("optimizer_steps", "optimizer steps") for key in uneven])
    return [f"The budgets were not equal: the recipes differ in {what}."]


def _scope(summary: Summary, recipes: Sequence[Summary]) -> list[str]:
    sentences = []
    planned = len(summary["labels"]) * len(summary["seeds"]) * len(summary["orders"])
    done = sum(r["runs"] + r.get("stopped", 0) for r in summary["recipes"])
    if done < planned:
        sentences.append(f"The comparison is not complete: {done} of {planned} runs are done.")
    single = [r["label"] for r in recipes if r["runs"] == 1]
    if single:
        sentences.append(
            f"There is only one run of {_join(single)}: no interval over runs, and differences may be chance."
        )
    if len(single) < len(recipes):
        sentences.append(
            f"Intervals are over runs ({_count(len(summary['seeds']), 'seed')}, "
            f"{_count(len(summary['orders']), 'task order')}), which all answered the same items."
        )
    if summary["sets"]:
        smallest = min(s["n"] for s in summary["sets"])
        margin = points(largest_margin(smallest))
        sentences.append(
            f"The smallest set has {smallest} items, which fix one model's score to within {margin} points."
        )
    return sentences


def run_verdict(summary: Summary) -> list[str]:
    """The verdict on one run's summary, headline first."""
    metrics, label = summary["metrics"], summary["label"]
    if metrics is not None and len(summary["evaluations"]) > 1 and metrics["final_score"]["mean"] is None:
        return [*_watched(summary), *_guarded(summary), *_lost_beyond_chance(summary)]
    if metrics is None or metrics["final_score"]["mean"] is None:
        return ["No stage is finished yet, so nothing can be said of what was learned or lost."]
    evaluations, planned = summary["evaluations"], len(summary["order"])
    stages, loss = len(evaluations) - 1, metrics["loss_of_earlier"]["mean"]
    kept = "" if loss is None else f" and {_kept(loss)} of what was known before"
    final = points(metrics["final_score"]["mean"])
    sentences = [f"After {_count(stages, 'stage')} {label} scored {final} points on the tasks{kept}."]
    if stages < planned:
        sentences.append(f"The run is not complete: {stages} of {planned} stages are done.")
    if metrics["learning"]["mean"] is not None:
        reached = "; ".join(f"{task} {points(value)}" for task, value in metrics["learned_score"]["per_task"].items())
        gain = points(metrics["learning"]["mean"])
        sentences.append(f"Scores right after a task's own stage: {reached}; on average {gain} points above the base.")
    failed = [task for task, value in metrics["learned_score"]["per_task"].items() if value < LEARNED]
    if failed:
        sentences.append(f"Not learned (below {points(LEARNED)} points right after its own stage): {_join(failed)}.")
    sentences += _guarded(summary)
    sentences += _lost_beyond_chance(summary)
    sentences.append("This is one run: what another seed or task order would change cannot be told from it.")
    return sentences


def _watched(summary: Summary) -> list[str]:
    """What can be said of a training whose own task is not scored here."""
    loss, label = summary["metrics"]["loss_of_earlier"]["mean"], summary["label"]
    kept = "" if loss is None else f" {label} {_kept(loss)} of what was known before;"
    return [f"After training{kept} its own task is not scored here."]


def _of_guard(run: Summary) -> list[Mapping[str, Any]]:
    """The guard's decisions; the others are a recipe's own."""
    return [d for d in run.get("decisions") or [] if d["rule"] != "near_future"]


def _decisions(runs: Sequence[Summary]) -> tuple[str, bool, int]:
    """The rules that fired in some runs, whether more than a warning followed, and the steps that were undone."""
    decisions = [d for run in runs for d in _of_guard(run)]
    undone = sum(
        d["to_step"] - d["from_step"] + 1
        for run in runs
        for d in run.get("discarded") or []
        if run["decisions"][d["decision"]]["rule"] != "near_future"
    )
    rules = _join(list(dict.fromkeys(d["rule"] for d in decisions)))
    return rules, any(set(d["actions"]) - {"warn"} for d in decisions), undone


def _decided(summary: Summary) -> list[str]:
    """In how many runs of each recipe the guard saw something, and what was undone."""
    sentences = []
    for label in summary["labels"]:
        runs = [run["summary"] for run in summary["runs"] if run["label"] == label]
        fired = [run for run in runs if _of_guard(run)]
        if not fired:
            continue
        rules, acted, undone = _decisions(fired)
        told = f"The guard {'decided' if acted else 'warned'} in {len(fired)} of {len(runs)} runs of {label}: {rules}."
        if undone:
            told += f" It undid {_count(undone, 'optimizer step')}, which count in the budget."
        sentences.append(told)
    return sentences


def _guarded(summary: Summary) -> list[str]:
    """What the guard saw and did."""
    decisions = _of_guard(summary)
    if not decisions:
        return _planned(summary)
    rules, acted, undone = _decisions([summary])
    sentences = [f"The guard {'decided' if acted else 'warned'} {_count(len(decisions), 'time')}: {rules}."]
    if undone:
        sentences.append(f"It undid {_count(undone, 'optimizer step')}, which count in the budget.")
    if summary["status"] == "stopped":
        sentences.append("It ended the run.")
    return sentences + _planned(summary)


def _planned(summary: Summary) -> list[str]:
    """What the recipe itself has undone."""
    every = summary.get("decisions") or []
    undone = [
        d["to_step"] - d["from_step"] + 1
        for d in summary.get("discarded") or []
        if every[d["decision"]]["rule"] == "near_future"
    ]
    if not undone:
        return []
    back = f"{_count(len(undone), 'time')}, by {_count(sum(undone), 'optimizer step')} in all"
    return [f"The recipe went back {back}, with answers of its near future; these steps count in the budget."]


def _lost_beyond_chance(summary: Summary) -> list[str]:
    """Sets whose intervals before and at the end lie apart: a cautious test, over items, of a loss."""
    evaluations, order = summary["evaluations"], summary["order"]
    since = {task: stage for stage, task in enumerate(order, 1)}
    losses: dict[str, float] = {}
    for name in summary["metrics"]["loss_of_earlier"]["per_set"]:
        before, end = evaluations[since.get(name, 0)]["scores"][name], evaluations[-1]["scores"][name]
        if end["ci95"][1] < before["ci95"][0]:
            losses[name] = before["mean"] - end["mean"]
    if not summary["metrics"]["loss_of_earlier"]["per_set"]:
        return []
    if not losses:
        return ["No earlier task or suite fell by more than the choice of test items can explain."]
    worst = sorted(losses, key=losses.__getitem__, reverse=True)
    listed = "; ".join(f"{name} by {points(losses[name])} points" for name in worst)
    return [f"Fell by more than the choice of test items can explain (95% intervals apart): {listed}."]

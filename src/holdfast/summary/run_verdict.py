"""The verdict on a run: plain sentences that follow from the numbers of its summary and claim no more than they show.

The first sentence is the headline. The rules for claims:

- A set fell if the paired, exact test over its items shows it after Holm's correction for the number of sets. A loss
  that is significant only before the correction is named as such.
- A set with nothing to lose is named, and no claim is made about its forgetting.
- A task is learned if its score right after its own stage is at least `LEARNED`, and a gain over the base is shown in
  the same way. What the base could do already was not learned.
- A set that is answered nearly always in the same way is named.

Sets that nothing judges have their own rules; see `holdfast.summary.likelihood`.
"""

from collections.abc import Sequence

from holdfast.summary.empty_sets import nothing_to_lose, same_answers
from holdfast.summary.guard_sentences import guard_in_run
from holdfast.summary.judging import failed_judgment_sentences
from holdfast.summary.likelihood import unjudged_headline, unjudged_sentences, unjudged_sets
from holdfast.summary.score_changes import is_uncorrected_loss
from holdfast.summary.words import LEARNED, SummaryPart, change_in_words, count, join, points, signed_points

_ONE_RUN = "This is one run. Another seed or task order may give a different result."


def run_verdict(summary: SummaryPart) -> list[str]:
    """The verdict on one run's summary, headline first."""
    metrics, label = summary["metrics"], summary["label"]
    rest = [
        *failed_judgment_sentences(summary),
        *guard_in_run(summary),
        *_what_fell(summary),
        *nothing_to_lose(summary),
        *same_answers(summary),
    ]
    if (headline := unjudged_headline(summary)) is not None:
        return [headline, *_incomplete(summary), *unjudged_sentences(summary), *rest, _ONE_RUN]
    if metrics is not None and len(summary["evaluations"]) > 1 and metrics["final_score"]["mean"] is None:
        return [_watched(summary), *unjudged_sentences(summary), *rest]
    if metrics is None or metrics["final_score"]["mean"] is None:
        return ["No stage is finished yet, so there is nothing to conclude about learning or forgetting."]
    stages, loss = len(summary["evaluations"]) - 1, metrics["loss_of_earlier"]["mean"]
    change = "" if loss is None else f" and {change_in_words(loss)}"
    final = points(metrics["final_score"]["mean"])
    judged = "judged " if set(unjudged_sets(summary)) & set(summary["order"][:stages]) else ""
    return [
        f"After {count(stages, 'stage')} {label} scored {final} points on the {judged}tasks{change}.",
        *_incomplete(summary),
        *_learned(summary),
        *unjudged_sentences(summary),
        *rest,
        _ONE_RUN,
    ]


def _incomplete(summary: SummaryPart) -> list[str]:
    done, planned = len(summary["evaluations"]) - 1, len(summary["order"])
    return [f"The run is not complete: {done} of {planned} stages are done."] if done < planned else []


def _watched(summary: SummaryPart) -> str:
    """The headline of a run whose own task is not scored, such as a run that the callback watches."""
    loss, label = summary["metrics"]["loss_of_earlier"]["mean"], summary["label"]
    if loss is None:
        return f"{label} was trained. Its own task is not scored here."
    return f"After training {label} {change_in_words(loss)}. Its own task is not scored here."


def _changes(summary: SummaryPart, what: str) -> list[SummaryPart]:
    return [entry for entry in summary["score_changes"] if entry["what"] == what]


def _learned(summary: SummaryPart) -> list[str]:
    """What each task scored before and after its own stage, and which tasks were not learned."""
    learned = summary["metrics"]["learned_score"]["per_task"]
    changes = {entry["set"]: entry for entry in _changes(summary, "learning")}
    if not learned:
        return []
    reached = "; ".join(
        f"{task} {points(value)}" + (f" (base {points(changes[task]['before'])})" if task in changes else "")
        for task, value in learned.items()
    )
    sentence = f"Scores right after a task's own stage: {reached}"
    gain = summary["metrics"]["learning"]["mean"]
    sentences = [f"{sentence}." if gain is None else f"{sentence}; on average {points(gain)} points above the base."]
    failed = [task for task, value in learned.items() if value < LEARNED]
    if failed:
        sentences.append(f"Not learned (below {points(LEARNED)} points right after its own stage): {join(failed)}.")
    known = [e for task, e in changes.items() if task not in failed and e["outcome"] in ("fell", "not shown")]
    if known:
        listed = "; ".join(f"{e['set']} ({points(e['before'])} to {points(e['after'])})" for e in known)
        sentences.append(f"Not learned (no gain over the base is shown on the same items): {listed}.")
    return sentences


def _what_fell(summary: SummaryPart) -> list[str]:
    """The earlier tasks and retention suites that fell, by the paired test over the same items."""
    entries = [entry for entry in _changes(summary, "forgetting") if entry["has_to_lose"]]
    tested = [entry for entry in entries if entry["p"] is not None]
    sentences = []
    if untested := [entry["set"] for entry in entries if entry["p"] is None]:
        sentences.append(
            f"Not tested, because the scores of single items were not kept: {join(untested)}. Whether a drop there is "
            "more than the choice of items explains is not known."
        )
    if not tested:
        return sentences
    over = f"after Holm's correction for {count(len(tested), 'set')}" if len(tested) > 1 else "on 1 set"
    fell = _largest_first([entry for entry in tested if entry["outcome"] == "fell"])
    nearly = _largest_first([entry for entry in tested if is_uncorrected_loss(entry)])
    if fell:
        listed = "; ".join(f"{_lost(entry)}, p {entry['p_holm']:.2g})" for entry in fell)
        sentences.append(f"Fell, by a paired test over the same items {over}: {listed}.")
    if nearly:
        listed = "; ".join(f"{_lost(entry)}, p {entry['p']:.2g}; corrected {entry['p_holm']:.2g})" for entry in nearly)
        sentences.append(f"Fell before that correction only, so not shown: {listed}.")
    if not fell and not nearly:
        which = "judged earlier task" if unjudged_sets(summary) else "earlier task"
        sentences.append(f"No {which} or suite is shown to have fallen, by paired tests over the same items {over}.")
    return sentences


def _largest_first(entries: Sequence[SummaryPart]) -> list[SummaryPart]:
    return sorted(entries, key=lambda entry: entry["change"])


def _lost(entry: SummaryPart) -> str:
    """One loss in words, without the closing bracket."""
    low, high = map(signed_points, entry["ci95"])
    return (
        f"{entry['set']} by {points(-entry['change'])} points (lost {entry['lost']} items and gained "
        f"{entry['gained']} of {entry['n']}; 95% CI {low} to {high}"
    )

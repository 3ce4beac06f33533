"""Sentences of a verdict about sets that say little: with nothing to lose, or answered always in the same way."""

from collections.abc import Iterable

from holdfast.measure.chance import are_nearly_all_the_same
from holdfast.summary.words import SummaryPart, points


def nothing_to_lose(summary: SummaryPart) -> list[str]:
    """The sets of a run that had nothing to lose: they count in no number of forgetting."""
    return _nothing_to_lose([summary])


def nothing_to_lose_in_comparison(summary: SummaryPart) -> list[str]:
    """The same for a comparison: of the retention suites, because its runs start from the same base."""
    return _nothing_to_lose((run["summary"] for run in summary["runs"]), only_from_base=True)


def _nothing_to_lose(runs: Iterable[SummaryPart], *, only_from_base: bool = False) -> list[str]:
    listed: dict[str, str] = {}
    for run in runs:
        chance = {each["name"]: each["chance"] for each in run["sets"]}
        for e in run["score_changes"]:
            if e["what"] != "forgetting" or e["has_to_lose"] or (only_from_base and e["from_stage"] > 0):
                continue
            level = f", chance {points(chance[e['set']])}" if chance[e["set"]] else ""
            whose = "for the base" if e["from_stage"] == 0 else "when learned"
            listed.setdefault(e["set"], f"{e['set']} ({points(e['before'])} {whose}{level})")
    if not listed:
        return []
    names = "; ".join(listed.values())
    return [f"Nothing to lose, so not counted as retained or forgotten: {names}. The score is not above chance."]


def same_answers(summary: SummaryPart) -> list[str]:
    """Sets that a run answers nearly always in the same way, before or at the end."""
    if len(summary["evaluations"]) < 2:
        return []
    listed = []
    for each in summary["sets"]:
        name = each["name"]
        whens = (("before", summary["evaluations"][0]), ("at the end", summary["evaluations"][-1]))
        found = [said for when, evaluation in whens if (said := _said_alike(evaluation, name, when))]
        if found:
            listed.append(f"{name}: {', '.join(found)}")
    return [f"Nearly all answers are the same. {'; '.join(listed)}."] if listed else []


def same_answers_in_comparison(summary: SummaryPart) -> list[str]:
    """Sets that runs of a recipe answer nearly always in the same way at the end, with the first such run's answer."""
    listed = []
    for label in summary["labels"]:
        runs = [r["summary"] for r in summary["runs"] if r["label"] == label and r["summary"]["status"] == "complete"]
        for each in summary["sets"]:
            said = [_said_alike(run["evaluations"][-1], each["name"], "at the end") for run in runs]
            if any(said):
                share = f"in {sum(map(bool, said))} of {len(said)} runs"
                listed.append(f"{each['name']} by {label} {share} ({next(filter(None, said))})")
    return [f"Nearly all answers are the same: {'; '.join(listed)}."] if listed else []


def _said_alike(evaluation: SummaryPart, name: str, when: str) -> str:
    """ "45 of 45 answers at the end say 'B'", if nearly all answers to a set are the same; else empty."""
    own = evaluation["scores"].get(name)
    most = None if own is None else own["most_frequent"]
    if own is None or most is None or not are_nearly_all_the_same(most["count"], own["n"], own["mean"]):
        return ""
    return f"{most['count']} of {own['n']} answers {when} say {most['answer']!r}"

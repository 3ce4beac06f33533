"""The answers of a run, of a comparison's runs or of an evaluation that were not judged."""

from collections.abc import Iterable, Mapping
from typing import Any

from holdfast.data.failures import add_failures
from holdfast.measure.scores import Json
from holdfast.summary.inputs import Measured, RunLogs
from holdfast.summary.words import SummaryPart, count


def failed_judgments(logs: RunLogs, measured: Measured) -> Json:
    """`failed_judgments` of a run's summary: over its steps and probes, discarded ones included, its searches for
    near-future answers, and its evaluations."""
    discarded = [line["record"] for line in logs.discarded]
    searches = [decision["saw"] for decision in logs.decisions]
    sets = [own for evaluation in measured.evaluations for own in evaluation["sets"].values()]
    return failures_in([*logs.metrics, *logs.probes, *discarded, *searches, *sets])


def failures_in(records: Iterable[Mapping[str, Any]]) -> Json:
    """The sum over records that count answers which were not judged; those that do not count are left out."""
    counted = add_failures([_counts(each) for each in records])
    return {
        "timeouts": int(counted["verifier_timeouts"]),
        "errors": int(counted["verifier_errors"]),
        "first": counted["verifier_failures"],
    }


def _counts(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in record if name.startswith("verifier_")}


def failed_judgment_sentences(summary: SummaryPart) -> list[str]:
    """What the verdict on a run says of answers that were not judged."""
    return sentences_on(_of_run(summary))


def failed_judgments_in_comparison(summary: SummaryPart) -> list[str]:
    """What the verdict on a comparison says of them. Runs share the base's evaluation, so their sum would mislead."""
    by_run = [_of_run(run["summary"]) for run in summary["runs"]]
    failed = [each for each in by_run if _total(each)]
    if not failed:
        return []
    first = next((f" The first: {each['first'][0]}." for each in failed if each["first"]), "")
    most = max(map(_total, failed))
    runs = f"{len(failed)} of {count(len(by_run), 'run')}"
    return [f"In {runs} judgments of a verifier did not succeed, at most {most} in one; each scored 0.{first}"]


def _of_run(summary: SummaryPart) -> Json:
    """Summaries of versions that did not count are read as without failures."""
    return summary.get("failed_judgments") or {"timeouts": 0, "errors": 0, "first": []}


def _total(failed: Json) -> int:
    return int(failed["timeouts"] + failed["errors"])


def sentences_on(failed: Json) -> list[str]:
    """What is said of answers that were not judged; nothing if all were.

    Args:
        failed: as `failures_in` gives it.
    """
    total = _total(failed)
    if not total:
        return []
    how = [f"{failed['timeouts']} took too long"] if failed["timeouts"] else []
    how += [f"{failed['errors']} failed"] if failed["errors"] else []
    first = f" The first: {failed['first'][0]}." if failed["first"] else ""
    return [f"{count(total, 'judgment')} of a verifier did not succeed ({', '.join(how)}); each scored 0.{first}"]

"""The answers of a run that were not judged."""

from collections.abc import Mapping
from typing import Any

from holdfast.data.failures import add_failures
from holdfast.measure.scores import Json
from holdfast.summary.inputs import Measured, RunLogs
from holdfast.summary.words import SummaryPart, count


def failed_judgments(logs: RunLogs, measured: Measured) -> Json:
    """`failed_judgments` of a run's summary: over its steps, discarded ones included, and its evaluations."""
    discarded = [line["record"] for line in logs.discarded if line["log"] == "metrics.jsonl"]
    sets = [own for evaluation in measured.evaluations for own in evaluation["sets"].values()]
    counted = add_failures([_counts(each) for each in [*logs.metrics, *discarded, *sets]])
    return {
        "timeouts": counted["verifier_timeouts"],
        "errors": counted["verifier_errors"],
        "first": counted["verifier_failures"],
    }


def _counts(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in record if name.startswith("verifier_")}


def failed_judgment_sentences(summary: SummaryPart) -> list[str]:
    """What the verdict says of answers that were not judged."""
    failed = summary.get("failed_judgments") or {"timeouts": 0, "errors": 0, "first": []}
    total = failed["timeouts"] + failed["errors"]
    if not total:
        return []
    how = [f"{failed['timeouts']} took too long"] if failed["timeouts"] else []
    how += [f"{failed['errors']} failed"] if failed["errors"] else []
    first = f" The first: {failed['first'][0]}." if failed["first"] else ""
    return [f"{count(total, 'judgment')} of a verifier did not succeed ({', '.join(how)}); each scored 0.{first}"]

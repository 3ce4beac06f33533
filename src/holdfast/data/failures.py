"""How many answers were not judged, and why. Importable without torch."""

from collections.abc import Iterable, Mapping
from typing import Any

from holdfast.data.example import Verdict

NAMED_FAILURES = 3
"""Failures that are named in words, the first ones."""

NO_FAILURES: dict[str, Any] = {"verifier_timeouts": 0, "verifier_errors": 0, "verifier_failures": []}
"""What `count_failures` gives where every answer was judged."""


def count_failures(verdicts: Iterable[Verdict | None]) -> dict[str, Any]:
    """The number of judgments that took too long, the number that failed otherwise, and the first ones in words."""
    failed = [verdict for verdict in verdicts if verdict is not None and verdict.failure]
    return {
        "verifier_timeouts": sum(verdict.failure == "timeout" for verdict in failed),
        "verifier_errors": sum(verdict.failure == "error" for verdict in failed),
        "verifier_failures": [verdict.reason for verdict in failed[:NAMED_FAILURES]],
    }


def add_failures(counts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of what `count_failures` gave. Records of versions that did not count are read as without failures."""
    every = [{**NO_FAILURES, **each} for each in counts]
    return {
        "verifier_timeouts": sum(each["verifier_timeouts"] for each in every),
        "verifier_errors": sum(each["verifier_errors"] for each in every),
        "verifier_failures": [reason for each in every for reason in each["verifier_failures"]][:NAMED_FAILURES],
    }

"""Judgments that failed: what becomes of the answer, and who is told."""

import warnings
from collections import Counter
from dataclasses import dataclass

from holdfast.data.example import FailureKind, Verdict
from holdfast.data.task import Suite, Task
from holdfast.errors import DataError

NAMED = 3
"""Failures of each task or suite and kind that a warning names. All are counted in the metrics and the summary."""

_named: Counter[tuple[str, str]] = Counter()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an answer was not judged.

    Attributes:
        kind: `timeout` if the judgment took longer than its limit, `error` for any other failure.
        error: says what failed, where, and how to mend it.
    """

    kind: FailureKind
    error: DataError

    def ends(self, judge: Task | Suite) -> bool:
        """Whether it ends the run, and does not only cost the answer its reward."""
        return self.kind == "error" and judge.verifier_errors == "stop"

    def verdict(self, judge: Task | Suite) -> Verdict:
        """The verdict on the answer: reward 0, and the failure. A warning names the first failures.

        Raises:
            DataError: the failure ends the run.
        """
        if self.ends(judge):
            raise self.error
        key = (judge.name, self.kind)
        _named[key] += 1
        if _named[key] <= NAMED:
            last = "; later ones are only counted" if _named[key] == NAMED else ""
            warnings.warn(f"{self.error.where}: {self.error.what}, so it scores 0{last}", stacklevel=2)
        return Verdict(0.0, failure=self.kind, reason=f"{self.error.where}: {self.error.what}")


def took_too_long(seconds: float, where: str) -> Failure:
    """The failure of a judgment that took longer than its limit."""
    fix = "raise `verifier_timeout`, or make it faster"
    return Failure("timeout", DataError(f"it took longer than {seconds:g} s", where=where, fix=fix))


def forget_named() -> None:
    """Name the first failures again: a new run has begun."""
    _named.clear()

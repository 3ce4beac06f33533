"""The commits and the time behind findings. Torch-free."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.findings.records import RecordStore


def commit() -> str | None:
    """The commit of the checkout that this package runs from, marked if files differ from it.

    None if the package is installed, even into a folder of another project's checkout.
    """
    here = Path(__file__)

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here.parent), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        known = git("rev-parse", "--short=12", "HEAD")
        return known + (" with changes" if git("status", "--porcelain", "--", str(here.parent.parent)) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@dataclass(frozen=True)
class Provenance:
    """The origin of the measurements that findings were read from.

    Attributes:
        commits: those that made them. Several, if code changed in between: finished measurements are reused.
        hours: training and evaluation time of all runs, on one core each.
    """

    runs: int
    commits: tuple[str, ...]
    hours: float

    def as_json(self) -> dict[str, Any]:
        return {"runs": self.runs, "commits": list(self.commits), "hours": self.hours}


def provenance(records: RecordStore, names: Sequence[str]) -> Provenance:
    """The provenance of measurements by name."""
    found = [records[name] for name in names]
    commits = dict.fromkeys(each.get("commit") or "unknown" for each in found)
    seconds = sum(sum((each.get("seconds") or {}).values()) for each in found)
    return Provenance(len(found), tuple(commits), seconds / 3600)

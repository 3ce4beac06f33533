"""The commits that completed a finding's runs. Torch-free."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.store.files import read_json, write_json
from holdfast.store.run_directory import RunDirectory
from holdfast.summary.read import read_summary

_FILE = "commit.json"


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
    """The origin of the runs behind a set of findings.

    Attributes:
        commits: those that completed the runs. Several, if code changed in between: finished runs are reused.
        seconds: training and evaluation time, summed over all runs, on one core each.
    """

    runs: int
    commits: tuple[str, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {"runs": self.runs, "commits": list(self.commits), "run_seconds": self.seconds}


def sign(run: Path, by: str | None) -> None:
    """Record the commit that completed a run."""
    write_json(run / _FILE, {"commit": by})


def provenance(runs: Sequence[Path]) -> Provenance:
    """The provenance of finished runs."""
    signed = [read_json(run / _FILE)["commit"] if (run / _FILE).exists() else None for run in runs]
    spent = [read_summary(RunDirectory(run).summary)["budget"]["seconds"] for run in runs]
    commits = dict.fromkeys(each or "unknown" for each in signed)
    return Provenance(len(runs), tuple(commits), sum(sum(seconds.values()) for seconds in spent))

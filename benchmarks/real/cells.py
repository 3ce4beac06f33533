"""One run as a process of its own: one arm with one seed and one learning rate. A stopped run resumes.

python -m benchmarks.real.cells FORM ARM SEED RATE INTO
python -m benchmarks.real.cells FORM untrained INTO       evaluates the base once for all runs of the form
"""

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.real.arms import ARMS, FORMS, Arm, Form, run_config
from holdfast.config.load import dump_config
from holdfast.config.settings import RunConfig
from holdfast.errors import RunError
from holdfast.model.quiet import silence_progress_bars
from holdfast.stop import Stopped, listening
from holdfast.store.files import write_text
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.compare import baseline_of
from holdfast.stream.run import Run, open_run
from holdfast.summary.read import read_summary

UNTRAINED = "untrained"


@dataclass(frozen=True)
class Cell:
    """One run of a form."""

    form: Form
    arm: Arm
    seed: int
    rate: float

    @property
    def label(self) -> str:
        """Of the run: the arm's, with the rate where several are tried."""
        return f"{self.arm.label}-{self.rate:g}" if self.form.tries_rates else self.arm.label

    @property
    def path(self) -> str:
        """Of its folder within the form's, as in a comparison."""
        return f"runs/{self.label}-s{self.seed}-o0"

    def config(self, into: Path) -> RunConfig:
        return run_config(self.form, self.arm, self.seed, self.rate, into / "model", self.form.data_folder(into))

    def asked(self, into: Path) -> Path:
        """The file of the settings with which the run was begun."""
        return into / self.form.name / "asked" / f"{self.label}-s{self.seed}.yaml"

    def directory(self, into: Path) -> RunDirectory:
        return RunDirectory(into / self.form.name / self.path)


def plan(form: Form) -> list[Cell]:
    """The runs of a form. The arms that take longest come first, so that no process waits long at the end."""
    arms = {arm.label: arm for arm in ARMS}
    return [
        Cell(form, arms[label], seed, rate)
        for seed in form.seeds
        for label in reversed(form.arms)
        for rate in (arms[label].rates if form.tries_rates else (arms[label].rate,))
    ]


def untrained_directory(form: Form, into: Path) -> RunDirectory:
    """The folder of the base's evaluation."""
    return RunDirectory(into / form.name / "runs" / UNTRAINED)


def evaluate_untrained(form: Form, into: Path) -> None:
    """Evaluate the base, unless that is done. The arm does not matter: all have the same test items."""
    directory = untrained_directory(form, into)
    if not directory.evaluation(0).exists():
        run = Run(plan(form)[0].config(into), directory, label=UNTRAINED)
        run.prepare()
        run.measuring.evaluate(0)


def is_complete(directory: RunDirectory) -> bool:
    return directory.summary.exists() and read_summary(directory.summary)["status"] != "running"


def refuse_other_settings(cells: Iterable[Cell], into: Path) -> None:
    """Refuse runs that were begun with other settings: they would be taken for these.

    Raises:
        RunError: there is such a run.
    """
    for cell in cells:
        directory, asked = cell.directory(into), cell.asked(into)
        if asked.exists() and asked.read_text(encoding="utf-8") != dump_config(cell.config(into)):
            raise RunError(
                "was begun with other settings", where=str(directory.path), fix=f"remove {into / cell.form.name}"
            )


def run_cell(cell: Cell, into: Path) -> None:
    """Run a cell, or resume it. Its weights and checkpoints, gigabytes of them, are removed at the end.

    Raises:
        Stopped: a signal stopped the run. It has saved what the next call needs.
    """
    directory = cell.directory(into)
    if not is_complete(directory):
        # A run that was killed before its first step has nothing to resume from.
        resumes = directory.manifest.exists()
        if not resumes:
            shutil.rmtree(directory.path, ignore_errors=True)
            write_text(cell.asked(into), dump_config(cell.config(into)))
        run = open_run(directory.path) if resumes else Run(cell.config(into), directory, label=cell.label)
        run.baseline = baseline_of(untrained_directory(cell.form, into))
        if resumes:
            run.resume()
        else:
            run.start()
    for folder in (directory.checkpoints, directory.path / "models"):
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Do one cell's work; returns the exit code."""
    torch.set_num_threads(1)
    silence_progress_bars()
    form, into = FORMS[arguments[0]], Path(arguments[-1])
    try:
        with listening():
            if arguments[1] == UNTRAINED:
                evaluate_untrained(form, into)
            else:
                label, seed, rate = arguments[1], int(arguments[2]), float(arguments[3])
                (arm,) = (arm for arm in ARMS if arm.label == label)
                run_cell(Cell(form, arm, seed, rate), into)
    except Stopped as stopped:
        return stopped.code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

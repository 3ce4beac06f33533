"""The command line: `python -m benchmarks.real [--quick | --full | --tune]`, which `make real` runs."""

import argparse
import json
import os
import signal
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.engine.machine import Machine
from benchmarks.real.arms import EVERY, FORMS, Form
from benchmarks.real.cells import UNTRAINED, Cell, is_complete, plan, refuse_other_settings, untrained_directory
from benchmarks.real.data import write_data
from benchmarks.real.model import model_folder
from benchmarks.real.processes import Job, run_jobs
from benchmarks.real.results import results
from benchmarks.real.tables import all_tables
from benchmarks.real.tuning import chosen_rates
from holdfast import __version__
from holdfast.errors import HoldfastError
from holdfast.reporting.page import write_report
from holdfast.store.files import write_json
from holdfast.summary.comparison import build_comparison_summary
from holdfast.summary.inputs import ComparisonDescription
from holdfast.summary.read import read_summary

KEPT = Path(__file__).parents[1] / "results"
"""For results that the documentation shows."""

KEPT_FILES = {"full": "real.json", "tuning": "real_tuning.json"}


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing of a form, and write and print its results."""
    form, into, processes = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        model_folder(into / "model")
        write_data(form.data_folder(into), form.which_facts)
        run_form(form, into, processes)
    except HoldfastError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return 130
    found = about(processes) | results(form, into)
    if form.tries_rates:
        found["chosen_rates"] = chosen_rates(found["arms"])
    path = results_file(form, into)
    write_json(path, found)
    print(all_tables(found))
    if form.tries_rates:
        print("\nchosen rates:", json.dumps(found["chosen_rates"]))
    print(f"\nresults: {path}\nreport: {report(form, into)}")
    return 0


def results_file(form: Form, into: Path) -> Path:
    """Where the results go. A part of a form, with other seeds or fewer arms, replaces no stored results."""
    is_stored = form.name in KEPT_FILES and form == FORMS[form.name]
    return KEPT / KEPT_FILES[form.name] if is_stored else into / form.name / "results.json"


def run_form(form: Form, into: Path, processes: int) -> None:
    """Evaluate the base, then run every cell that is not complete."""

    def job(name: str, *more: str) -> Job:
        own = name.replace(" ", "-")
        log = into / form.name / "logs" / f"{own}.log"
        return Job(name, "benchmarks.real.cells", (form.name, *more, str(into)), log)

    refuse_other_settings(plan(form), into)
    cells = [cell for cell in plan(form) if not is_complete(cell.directory(into))]
    total = len(cells)
    print(
        f"{total} of {len(plan(form))} runs to do, {processes} at a time; stop with Ctrl-C, go on with the same command"
    )
    if not untrained_directory(form, into).evaluation(0).exists():
        run_jobs([job(UNTRAINED, UNTRAINED)], 1, lambda _, seconds: print(f"the base is evaluated ({seconds:.0f} s)"))
    finished: list[str] = []

    def done(one: Job, seconds: float) -> None:
        finished.append(one.name)
        print(f"[{len(finished)}/{total}] {one.name}: {seconds / 60:.1f} minutes", flush=True)

    names = {f"{cell.label} seed {cell.seed}": cell for cell in cells}
    jobs = [job(name, cell.arm.label, str(cell.seed), repr(cell.rate)) for name, cell in names.items()]
    run_jobs(jobs, processes, done)


def report(form: Form, into: Path) -> Path:
    """Write the runs as one comparison with its report; returns the report's path."""
    cells = plan(form)
    runs = [_place(cell) | {"summary": read_summary(cell.directory(into).summary)} for cell in cells]
    comparison = ComparisonDescription(
        name=f"real-{form.name}",
        holdfast_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        status="complete",
        labels=list(dict.fromkeys(cell.label for cell in cells)),
        seeds=list(form.seeds),
        orders=[runs[0]["summary"]["order"]],
    )
    summary = build_comparison_summary(comparison, runs)
    folder = into / form.name
    write_json(folder / "summary.json", summary)
    return write_report(summary, folder / "report.html")


def _place(cell: Cell) -> dict[str, Any]:
    return {"label": cell.label, "seed": cell.seed, "order_index": 0, "path": cell.path}


def about(processes: int) -> dict[str, Any]:
    """What the results were made with."""
    machine = Machine.here("cpu", 1)
    return {
        "holdfast_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": machine.processor,
        "processes": processes,
    }


def _parse(arguments: list[str] | None) -> tuple[Form, Path, int]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real", description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_const", dest="form", const="quick", help="three arms, one stage")
    which.add_argument("--full", action="store_const", dest="form", const="full", help="three seeds and all items")
    which.add_argument(
        "--tune", action="store_const", dest="form", const="tuning", help="try three rates for every arm"
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="other seeds than the form's")
    parser.add_argument("--arms", nargs="+", choices=EVERY, metavar="ARM", help=f"only these arms: {', '.join(EVERY)}")
    parser.add_argument("--into", type=Path, default=Path("runs/real"), help="folder of model, data and runs")
    processes = min(2, os.cpu_count() or 1)
    parser.add_argument("--processes", type=int, default=processes, help=f"runs beside each other ({processes})")
    given = parser.parse_args(arguments)
    form = FORMS[given.form or "standard"]
    return (
        replace(form, seeds=tuple(given.seeds or form.seeds), arms=tuple(given.arms or form.arms)),
        given.into,
        given.processes,
    )


if __name__ == "__main__":
    sys.exit(main())

"""`holdfast blend`: models between a base model and models trained from it, each evaluated if tasks are named."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.options import EvaluatedItems, EvaluatedSuites, EvaluatedTasks, JsonFile, Quiet, RunCode
from holdfast.cli.progress_bars import set_progress
from holdfast.cli.say import say
from holdfast.cli.tables import table
from holdfast.errors import ConfigError
from holdfast.model.quiet import silence_progress_bars


def blend(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help="A model folder, a hub id, or `lab`.", show_default=False)
    ],
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Models trained from BASE, or adapters. The changes of several models are added.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="Where to write. Must not exist yet.", show_default=False),
    ],
    sweep: Annotated[
        str,
        typer.Option(
            "--sweep", metavar="A,A,...", help="Values of a, separated by commas; 0 is BASE. One model folder each."
        ),
    ] = "1",
    scale: Annotated[
        list[float] | None,
        typer.Option(
            "--scale", metavar="S", help="Factor s of a model, in the order of models. Repeatable. Default: 1."
        ),
    ] = None,
    config: EvaluatedTasks = None,
    suites: EvaluatedSuites = None,
    items: EvaluatedItems = None,
    run_code: RunCode = False,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Average weights after training: write base + a · Σ s (model − base) for each a, and evaluate each result."""
    from holdfast.evaluation.standalone import evaluate_model, evaluation_plan
    from holdfast.model.blend import Blend
    from holdfast.store.files import write_json

    silence_progress_bars()
    points = _points(sweep)
    folders = [out if len(points) == 1 else out / f"a-{a:g}" for a in points]
    plan = evaluation_plan(config, suites or (), items, run_code) if config is not None or suites else None
    blended = Blend(base, models, scale or ())
    if out.exists():
        raise ConfigError("already exists", where=str(out), fix="name another folder with --out")
    show = set_progress(quiet)
    rows: list[dict[str, Any]] = []
    for a, folder in zip(points, folders, strict=True):
        blended.write(a, folder)
        measured: Mapping[str, Any] = {"sets": {}}
        if plan is not None:
            measured = evaluate_model(plan.for_model(str(folder)), partial(show, str(folder)))
        sets = measured["sets"]
        scores = {name: numbers["mean"] for name, numbers in sets.items() if numbers["mean"] is not None}
        nll = {name: numbers["nll"] for name, numbers in sets.items() if numbers.get("nll") is not None}
        rows.append({"a": a, "folder": str(folder), "scores": scores, "nll": nll})
    say(_table(rows))
    if json_file is not None:
        write_json(json_file, {"base": base, "models": models, "scales": blended.scales, "points": rows})


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One row for each a. A set that nothing judges shows the NLL of its demonstrations instead of a score."""
    unjudged = [name for name in rows[0]["nll"] if name not in rows[0]["scores"]]
    header = ("a", *rows[0]["scores"], *(f"{name} (not judged: NLL)" for name in unjudged), "folder")
    return table(
        header,
        [
            (
                f"{r['a']:g}",
                *(f"{score:.1%}" for score in r["scores"].values()),
                *(f"{r['nll'][name]:.3f}" for name in unjudged),
                r["folder"],
            )
            for r in rows
        ],
    )


def _points(sweep: str) -> list[float]:
    try:
        points = [float(part) for part in sweep.split(",")]
    except ValueError:
        raise ConfigError(f"--sweep {sweep!r} is not a list of numbers", fix="write it as 0,0.25,0.5,0.75,1") from None
    if not all(map(math.isfinite, points)):
        raise ConfigError(f"--sweep {sweep!r} has a number that is not finite", fix="write it as 0,0.25,0.5,0.75,1")
    if len({f"{a:g}" for a in points}) < len(points):
        raise ConfigError(f"--sweep {sweep!r} has a number twice", fix="name each number once")
    return points

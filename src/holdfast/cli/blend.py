"""`holdfast blend`: models between a base and what was trained from it, each evaluated where that is asked for."""

import math
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.console import is_main_process
from holdfast.errors import ConfigError
from holdfast.model.quiet import silence_progress_bars


def blend(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help="A model folder, a hub id, or `lab`.", show_default=False)
    ],
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Models trained from it, or adapters; several are added up.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="Where to write; not there yet.", show_default=False),
    ],
    sweep: Annotated[
        str, typer.Option("--sweep", metavar="A,A,...", help="How far to go: 0 is the base. One model folder for each.")
    ] = "1",
    scale: Annotated[
        list[float] | None,
        typer.Option("--scale", metavar="S", help="A model's share, in the order of models; repeatable; by default 1."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="YAML file whose tasks and suites blends are evaluated on."),
    ] = None,
    suites: Annotated[
        list[str] | None,
        typer.Option("--suites", metavar="NAME", help="In their place, as for `holdfast gate`; repeatable."),
    ] = None,
    items: Annotated[
        int | None, typer.Option("--items", min=1, help="Evaluate on the first so many items of each set.")
    ] = None,
    run_code: Annotated[
        bool, typer.Option("--run-code", help="Let suites run code that a model wrote, unprotected; HumanEval does.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write JSON.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Average weights afterwards: write base + a · Σ s (model − base) for each a, and evaluate what was written."""
    from holdfast.cli.tables import table
    from holdfast.evaluate.standalone import evaluate_model, evaluation_plan
    from holdfast.model.blend import Blend
    from holdfast.store.files import write_json

    def show(model: str, name: str) -> None:
        if not quiet and is_main_process():
            print(f"evaluating {model}: {name}", file=sys.stderr, flush=True)

    silence_progress_bars()
    points = _points(sweep)
    folders = [out if len(points) == 1 else out / f"a-{a:g}" for a in points]
    plan = evaluation_plan(config, suites or (), items, run_code) if config is not None or suites else None
    blended = Blend(base, models, scale or ())
    if out.exists():
        raise ConfigError("is there already", where=str(out), fix="name another folder with --out")
    rows: list[dict[str, Any]] = []
    for a, folder in zip(points, folders, strict=True):
        blended.write(a, folder)
        measured: Mapping[str, Any] = {"sets": {}}
        if plan is not None:
            measured = evaluate_model(plan.for_model(str(folder)), partial(show, str(folder)))
        scores = {name: numbers["mean"] for name, numbers in measured["sets"].items()}
        rows.append({"a": a, "folder": str(folder), "scores": scores})
    header = ("a", *rows[0]["scores"], "folder")
    print(table(header, [(f"{r['a']:g}", *(f"{s:.1%}" for s in r["scores"].values()), r["folder"]) for r in rows]))
    if json_file is not None:
        write_json(json_file, {"base": base, "models": models, "scales": blended.scales, "points": rows})


def _points(sweep: str) -> list[float]:
    try:
        points = [float(part) for part in sweep.split(",")]
    except ValueError:
        raise ConfigError(f"--sweep {sweep!r} is no list of numbers", fix="write it as 0,0.25,0.5,0.75,1") from None
    if not all(map(math.isfinite, points)):
        raise ConfigError(f"--sweep {sweep!r} has a number that is not finite", fix="write it as 0,0.25,0.5,0.75,1")
    if len({f"{a:g}" for a in points}) < len(points):
        raise ConfigError(f"--sweep {sweep!r} names a number twice", fix="name each once")
    return points

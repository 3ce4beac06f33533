"""`holdfast gate`: refuse a candidate model that scores lower than its base on some held-out suite or task."""

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.options import EvaluatedItems, EvaluatedSuites, EvaluatedTasks, JsonFile, Quiet, RunCode, output_file
from holdfast.cli.progress_bars import set_progress
from holdfast.cli.run_command import is_main_process
from holdfast.cli.say import say
from holdfast.model.quiet import silence_progress_bars

SOURCE_HELP = "a model, a file of `holdfast eval --json`, or a run directory"


def gate(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help=f"The model to compare with: {SOURCE_HELP}.", show_default=False)
    ],
    candidate: Annotated[
        str | None,
        typer.Argument(
            metavar="CANDIDATE",
            help=f"The model to release: {SOURCE_HELP}. Default: the last stage of BASE, if BASE is a run.",
            show_default=False,
        ),
    ] = None,
    config: EvaluatedTasks = None,
    suites: EvaluatedSuites = None,
    margin: Annotated[float, typer.Option("--margin", help="The largest accepted drop, in points.")] = 2.0,
    strict: Annotated[bool, typer.Option("--strict", help="Also refuse if a set is inconclusive.")] = False,
    items: EvaluatedItems = None,
    run_code: RunCode = False,
    junit: Annotated[Path | None, output_file("--junit", help="Write the result as JUnit XML.")] = None,
    markdown: Annotated[Path | None, output_file("--markdown", help="Write the result as Markdown.")] = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Refuse a model that dropped below its base on some set. Exit code: 0 passed, 1 refused, 2 not evaluated."""
    from holdfast.cli.tables import table
    from holdfast.gate.output import as_junit, as_markdown, rows
    from holdfast.gate.sources import gate as run_gate
    from holdfast.store.files import write_json, write_text

    if not all(Path(source).is_file() for source in (base, candidate or base)):
        silence_progress_bars()
    verdict, base_name, candidate_name = run_gate(
        base,
        candidate,
        config=config,
        suites=suites or (),
        margin=margin,
        strict=strict,
        items=items,
        run_code=run_code,
        on_set=set_progress(quiet),
    )
    header, *body = rows(verdict)
    say(table(header, body))
    for each in verdict.sets:
        if each.outcome != "holds":
            say(each.sentence(verdict.margin))
    for unjudged in verdict.unjudged:
        say(unjudged.sentence())
    say(verdict.sentence())
    if is_main_process():
        if junit is not None:
            write_text(junit, as_junit(verdict, base_name, candidate_name))
        if markdown is not None:
            write_text(markdown, as_markdown(verdict, base_name, candidate_name))
        if json_file is not None:
            write_json(json_file, verdict.as_json() | {"base": base_name, "candidate": candidate_name})
    if not verdict.passed:
        raise typer.Exit(1)

"""`holdfast gate`: refuse a candidate that has quietly forgotten something."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.console import is_main_process
from holdfast.model.quiet import silence_progress_bars

SOURCE_HELP = "a model, a file of `holdfast eval --json`, or a run directory"


def gate(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help=f"What it is to hold on to: {SOURCE_HELP}.", show_default=False)
    ],
    candidate: Annotated[
        str | None,
        typer.Argument(
            metavar="CANDIDATE",
            help="What is to be let through, likewise; by default the last stage of the run named as BASE.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="YAML file whose tasks and suites models are evaluated on."),
    ] = None,
    suites: Annotated[
        list[str] | None,
        typer.Option(
            "--suites",
            metavar="NAME",
            help="In their place: lab, lab-wide, lab:NAME, gym:NAME, sdft, a task (file) of lm-eval; repeatable.",
        ),
    ] = None,
    margin: Annotated[float, typer.Option("--margin", help="The largest fall that is accepted, in points.")] = 2.0,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse inconclusive sets too.")] = False,
    items: Annotated[
        int | None, typer.Option("--items", min=1, help="Evaluate models on the first so many items of each set.")
    ] = None,
    run_code: Annotated[
        bool, typer.Option("--run-code", help="Let suites run code that a model wrote, unprotected; HumanEval does.")
    ] = False,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="Write Markdown.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write JSON.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Refuse a model that fell below its base on some set; exit code 0 passed, 1 refused, 2 could not be judged."""
    from holdfast.cli.tables import table
    from holdfast.gate.output import as_junit, as_markdown, rows
    from holdfast.gate.sources import gate as judged
    from holdfast.store.files import write_json, write_text

    def show(model: str, name: str) -> None:
        if not quiet and is_main_process():
            print(f"evaluating {model}: {name}", file=sys.stderr, flush=True)

    if not all(Path(source).is_file() for source in (base, candidate or base)):
        silence_progress_bars()
    verdict, base_name, candidate_name = judged(
        base,
        candidate,
        config=config,
        suites=suites or (),
        margin=margin,
        strict=strict,
        items=items,
        run_code=run_code,
        on_set=show,
    )
    header, *body = rows(verdict)
    print(table(header, body))
    for each in verdict.sets:
        if each.outcome != "holds":
            print(each.sentence(verdict.margin))
    print(verdict.sentence())
    if is_main_process():
        if junit is not None:
            write_text(junit, as_junit(verdict, base_name, candidate_name))
        if markdown is not None:
            write_text(markdown, as_markdown(verdict, base_name, candidate_name))
        if json_file is not None:
            write_json(json_file, verdict.as_json() | {"base": base_name, "candidate": candidate_name})
    if not verdict.passed:
        raise typer.Exit(1)

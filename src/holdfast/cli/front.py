"""`holdfast front`: recipes with and without replay, measured on the lab, and which to take."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.options import (
    FiguresBesidePage,
    JsonFile,
    KeepRecords,
    KeptRecords,
    MeasurementsDir,
    Minutes,
    Quiet,
    Workers,
    output_file,
)
from holdfast.cli.say import say, say_aside


def front(
    worlds: Annotated[int, typer.Option("--worlds", min=2, help="Number of worlds: 0, 1, and so on.")] = 10,
    workers: Workers = 2,
    output_dir: MeasurementsDir = Path("runs/findings"),
    records: KeptRecords = None,
    keep: KeepRecords = None,
    minutes: Minutes = None,
    json_file: JsonFile = None,
    page: Annotated[Path | None, output_file("--page", help="Also write a Markdown page.")] = None,
    figures: FiguresBesidePage = False,
    quiet: Quiet = False,
) -> None:
    """Compare recipes with and without replay on three tasks in two orders, each at its own learning rate."""
    from holdfast.cli.tables import table
    from holdfast.errors import ConfigError
    from holdfast.findings.front.arms import FRONT_ARMS
    from holdfast.findings.front.figure import front_figure
    from holdfast.findings.front.page import HEADER, as_json, as_page, table_rows
    from holdfast.findings.front.run import measure_front
    from holdfast.findings.provenance import provenance
    from holdfast.findings.records import RecordStore
    from holdfast.reporting.save_figures import save_figures
    from holdfast.store.files import write_json, write_text

    if figures and page is None:
        raise ConfigError("--figures writes beside the page, and there is none", fix="add --page FILE")

    def watch(line: str) -> None:
        if not quiet:
            say_aside(line)

    store = RecordStore(output_dir, records)
    measured = measure_front(
        FRONT_ARMS, store, output_dir, worlds=range(worlds), workers=workers, watch=watch, minutes=minutes
    )
    if keep is not None:
        store.keep(keep)
    if measured is None:
        say("time ran out before all runs were there; the same command goes on")
        return
    say(table(HEADER, table_rows(measured)))
    made: dict[str, Any] = {
        "command": f"holdfast front --worlds {worlds}",
        **provenance(store, measured.runs).as_json(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if json_file is not None:
        write_json(json_file, as_json(measured, made))
    if page is not None:
        drawn = save_figures([front_figure(measured)], page.parent) if figures else []
        write_text(page, as_page(measured, made, drawn[0].name if drawn else None))

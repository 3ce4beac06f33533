"""`holdfast findings`: claims of papers, tested as experiments on the lab."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from holdfast.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from holdfast.findings.claim import Claim


def findings(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Claims to test. Default: all.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Four worlds; by default only the claims of the papers behind holdfast."),
    ] = False,
    worlds: Annotated[int | None, typer.Option("--worlds", min=2, help="Number of worlds: 0, 1, and so on.")] = None,
    workers: Workers = 2,
    output_dir: MeasurementsDir = Path("runs/findings"),
    records: KeptRecords = None,
    keep: KeepRecords = None,
    minutes: Minutes = None,
    json_file: JsonFile = None,
    page: Annotated[
        Path | None,
        output_file(
            "--page",
            help="Also write a Markdown page, with a page per claim in the folder FILE without its suffix.",
        ),
    ] = None,
    figures: FiguresBesidePage = False,
    listed: Annotated[bool, typer.Option("--list", help="Only list the claims.")] = False,
    quiet: Quiet = False,
) -> None:
    """Test claims of papers on the lab, and show which hold, with 95% CIs over worlds."""
    from holdfast.cli.tables import table
    from holdfast.findings.curves import curve_figures
    from holdfast.findings.page import HEADER, as_json, as_pages, table_rows
    from holdfast.findings.provenance import provenance
    from holdfast.findings.records import RecordStore
    from holdfast.findings.run import FULL_WORLDS, QUICK_WORLDS, decide
    from holdfast.reporting.save_figures import save_figures
    from holdfast.store.files import write_json, write_text

    if figures and page is None:
        raise ConfigError("--figures writes beside the page, and there is none", fix="add --page FILE")
    chosen = _chosen(names, quick=quick)
    if listed:
        say(table(("claim", "source", "statement"), [(c.name, c.source, c.statement) for c in chosen]))
        return

    def watch(line: str) -> None:
        if not quiet:
            say_aside(line)

    tested = tuple(range(worlds)) if worlds is not None else QUICK_WORLDS if quick else FULL_WORLDS
    store = RecordStore(output_dir, records)
    found = decide(
        chosen, store, output_dir, worlds=tested, full=not quick, workers=workers, watch=watch, minutes=minutes
    )
    if keep is not None:
        store.keep(keep)
    if found is None:
        say("time ran out before all runs were there; the same command goes on")
        return
    say(table(HEADER, table_rows(found.findings)))
    made: dict[str, Any] = {
        "command": " ".join(["holdfast findings", *(names or ()), *(["--quick"] if quick else [])])
        + (f" --worlds {worlds}" if worlds is not None else ""),
        "worlds": list(tested),
        "rates": found.rates,
        **provenance(store, found.runs).as_json(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if json_file is not None:
        write_json(json_file, as_json(found.findings, made))
    if page is not None:
        drawn = save_figures(curve_figures(found.curves, found.rates), page.parent) if figures and found.curves else []
        links = [path.name for path in drawn]
        for path, text in as_pages(found.findings, made, page, curves=found.curves, figures=links).items():
            write_text(Path(path), text)


def _chosen(names: list[str] | None, *, quick: bool) -> "list[Claim]":
    """The claims of these names; without names all, or those of the quick form."""
    from holdfast.findings.claims import CLAIMS
    from holdfast.renamed import CLAIM_NAMES

    by_name = {claim.name: claim for claim in CLAIMS}
    for name in names or ():
        if name not in by_name:
            renamed = f"it is called {CLAIM_NAMES[name]!r} now" if name in CLAIM_NAMES else None
            raise ConfigError(f"no claim is called {name!r}", fix=renamed or did_you_mean(name, by_name))
    if names:
        return [by_name[name] for name in dict.fromkeys(names)]
    return [claim for claim in CLAIMS if claim.is_quick or not quick]

"""`holdfast findings`: claims of papers, tested as experiments on the lab."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.options import JsonFile, Quiet
from holdfast.errors import ConfigError, did_you_mean
from holdfast.renamed import CLAIM_NAMES


def findings(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Claims to test. Default: all.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Three seeds, smaller batches, fewer test items, and only the closest competitors of `anchored`.",
        ),
    ] = False,
    seeds: Annotated[int | None, typer.Option("--seeds", min=2, help="Number of seeds: 0, 1, and so on.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Runs in parallel, with one thread each.")] = 2,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Where to write runs. Finished runs are not repeated.")
    ] = Path("runs/findings"),
    json_file: JsonFile = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--page",
            metavar="FILE",
            help="Also write a Markdown page, with a page per claim in the folder FILE without its suffix.",
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only list the claims.")] = False,
    quiet: Quiet = False,
) -> None:
    """Test claims of papers on the lab, and show which hold, with 95% CIs over seeds."""
    from holdfast.cli.tables import table
    from holdfast.findings.claims import CLAIMS
    from holdfast.findings.page import HEADER, as_json, as_pages, table_rows
    from holdfast.findings.provenance import commit
    from holdfast.findings.run import FULL_SEEDS, QUICK_SEEDS, find, made_by
    from holdfast.store.files import write_json, write_text

    by_name = {claim.name: claim for claim in CLAIMS}
    for name in names or ():
        if name not in by_name:
            renamed = f"it is called {CLAIM_NAMES[name]!r} now" if name in CLAIM_NAMES else None
            raise ConfigError(f"no claim is called {name!r}", fix=renamed or did_you_mean(name, by_name))
    chosen = [by_name[name] for name in dict.fromkeys(names)] if names else list(CLAIMS)
    if listed:
        print(table(("claim", "source", "statement"), [(c.name, c.source, c.statement) for c in chosen]))
        return

    def watch(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr, flush=True)

    chosen_seeds = tuple(range(seeds)) if seeds is not None else QUICK_SEEDS if quick else FULL_SEEDS
    started = time.perf_counter()
    results = find(chosen, output_dir, seeds=chosen_seeds, full=not quick, workers=workers, watch=watch)
    print(table(HEADER, table_rows(results)))
    made: dict[str, Any] = {
        "command": " ".join(["holdfast findings", *(names or ()), *(["--quick"] if quick else [])])
        + (f" --seeds {seeds}" if seeds is not None else ""),
        "seeds": list(chosen_seeds),
        "commit": commit(),
        **made_by(chosen, output_dir, seeds=chosen_seeds, full=not quick).as_json(),
        "date": datetime.now(UTC).date().isoformat(),
        "minutes": (time.perf_counter() - started) / 60,
    }
    if json_file is not None:
        write_json(json_file, as_json(results, made))
    if page is not None:
        for path, text in as_pages(results, made, page).items():
            write_text(Path(path), text)

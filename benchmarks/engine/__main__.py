"""The command line of the engine's benchmarks."""

import argparse
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers.utils import logging

from benchmarks.engine.machine import Machine
from benchmarks.engine.models import SHAPES
from benchmarks.engine.suite import PARTS, Record, Settings, Suite
from benchmarks.engine.table import fit_scaling, show_record, show_records, show_scaling

RESULTS = Path(__file__).parents[1] / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run the comparisons, write the results as JSON, and return 1 if a side failed or the two sides disagree."""
    settings, output = _parse(arguments)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    console = Console(width=None if sys.stdout.isatty() else 170)
    machine = Machine.here(settings.device, settings.threads)
    console.print(f"{machine.processor}, {machine.threads} threads, {settings.dtype}", highlight=False)
    fresh: list[Record] = []

    def keep(record: Record) -> None:
        """Show and write a record at once, so that an interrupted run keeps its results."""
        show_record(console, record)
        fresh.append(record)
        _write(output, _merged(output, fresh, {"machine": asdict(machine), "peaks": suite.peaks}))

    suite = Suite(settings, on_record=keep)
    fresh[:] = suite.run()
    result = _merged(output, fresh, {"machine": asdict(machine), "peaks": suite.peaks})
    _write(output, result)
    show_records(console, result["records"])
    if result["scaling"]:
        show_scaling(console, result["scaling"], result["records"])
    peaks = suite.peaks
    console.print(
        f"measured peaks: {peaks['float32_flops'] / 1e9:.0f} GFLOP/s in float32,"
        f" {peaks['bfloat16_flops'] / 1e9:.0f} in bfloat16, {peaks['bytes_per_second'] / 1e9:.0f} GB/s",
        highlight=False,
    )
    console.print(f"results: {output}", highlight=False)
    return 0 if all(record.get("agree", "skipped" in record) for record in fresh) else 1


def _write(output: Path, result: dict[str, Any]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")


def _merged(output: Path, fresh: list[Record], about: dict[str, Any]) -> dict[str, Any]:
    """The new file: earlier results of the same machine stay, except comparisons that were made again."""
    records: dict[tuple[str, str], Record] = {}
    if output.exists():
        earlier = json.loads(output.read_text())
        if earlier.get("machine") == about["machine"]:
            records = {(record["name"], record["dtype"]): record for record in earlier["records"]}
    records |= {(record["name"], record["dtype"]): record for record in fresh}
    kept = list(records.values())
    return {**about, "scaling": fit_scaling(kept), "records": kept}


def _parse(arguments: list[str] | None) -> tuple[Settings, Path]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which parts to run: {', '.join(PARTS)} (all)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="dtype of matrix products (bfloat16 on cuda)")
    parser.add_argument("--models", nargs="+", choices=sorted(SHAPES), help="shapes for steps and generation")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="threads of each side (2)")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats of each side (3)")
    parser.add_argument("--quick", action="store_true", help="toy shapes, to check that every part runs")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    given = parser.parse_args(arguments)
    unknown = set(given.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {min(unknown)!r}; known: {', '.join(PARTS)}")
    on_cpu = given.device == "cpu"
    settings = Settings(
        device=given.device,
        dtype=given.dtype or ("float32" if on_cpu else "bfloat16"),
        threads=given.threads,
        repeats=given.repeats,
        quick=given.quick,
        only=given.parts or PARTS,
        models=given.models or (("11.5m", "qwen3-0.6b") if on_cpu else ("qwen3-0.6b", "qwen3-1.7b")),
    )
    return settings, given.output or _default_output(settings)


def _default_output(settings: Settings) -> Path:
    if settings.quick:
        return Path("runs") / "benchmark-quick.json"
    if settings.device == "cpu":
        return RESULTS / "cpu.json"
    name = Machine.here(settings.device, settings.threads).processor.lower()
    return RESULTS / (re.sub(r"[^a-z0-9]+", "-", name).strip("-") + ".json")


if __name__ == "__main__":
    sys.exit(main())

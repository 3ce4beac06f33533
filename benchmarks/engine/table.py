"""Records as tables on the terminal, and the exponents of the scaling table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

MEASURES = ("seconds", "peak_bytes")
SIDES = ("ours", "peer")


def show_record(console: Console, record: Mapping[str, Any]) -> None:
    """Print one line, as soon as a comparison is done."""
    console.print(f"{record['name']:46} {_line(record)}", highlight=False)


def _line(record: Mapping[str, Any]) -> str:
    if "time_ratio" not in record:
        return why_not(record)
    ours, peer = record["ours"], record["peer"]
    low, high = record["spread"]
    agree = "" if record["agree"] else "  LOSSES DIFFER"
    return (
        f"{seconds(ours['seconds'])} against {seconds(peer['seconds'])}: {record['time_ratio']:.2f} times"
        f" ({low:.2f} to {high:.2f}); {size(ours['peak_bytes'])} against {size(peer['peak_bytes'])}{agree}"
    )


def show_records(console: Console, records: Sequence[Mapping[str, Any]]) -> None:
    """Print the table of all comparisons except those of the scaling table."""
    table = Table("comparison", "dtype", title="Time and memory of the peer compared with ours", title_justify="left")
    for heading in (
        "ours",
        "peer",
        "time ratio",
        "range",
        "bound",
        "ours",
        "peer",
        "memory ratio",
        "loss difference",
        "share of peak",
    ):
        table.add_column(heading, justify="right")
    without_numbers = []
    for record in records:
        if "axis" in record:
            continue
        if "time_ratio" not in record:
            without_numbers.append(f"{record['name']}: {why_not(record)}")
            continue
        ours, peer = record["ours"], record["peer"]
        low, high = record["spread"]
        shares = record.get("share_of_peak")
        table.add_row(
            record["name"],
            record["dtype"],
            seconds(ours["seconds"]),
            seconds(peer["seconds"]),
            f"{record['time_ratio']:.2f}",
            f"{low:.2f}–{high:.2f}",
            f"{record['time_ratio_bound']:.2f}" if "time_ratio_bound" in record else "–",
            size(ours["peak_bytes"]),
            size(peer["peak_bytes"]),
            f"{record['memory_ratio']:.2f}" if record["memory_ratio"] else "–",
            f"{record['loss_difference']:.0e}" + ("" if record["agree"] else " !"),
            f"{shares['ours']:.0%} / {shares['peer']:.0%}" if shares else "–",
        )
    console.print(table)
    for line in without_numbers:
        console.print(line, highlight=False)


def why_not(record: Mapping[str, Any]) -> str:
    """The reason why a record has no numbers."""
    return f"skipped: {record['skipped']}" if "skipped" in record else f"FAILED: {record['failed']}"


def show_scaling(console: Console, fits: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]) -> None:
    """Print time and memory of both sides along each axis, and the fitted exponents."""
    table = Table("axis", "dtype", "value", title="Scaling", title_justify="left")
    for heading in ("ours, time", "peer, time", "ours, memory", "peer, memory"):
        table.add_column(heading, justify="right")
    for fit in fits:
        for point in _points(records, fit["axis"], fit["dtype"]):
            sides = point["ours"], point["peer"]
            cells = [seconds(s["seconds"]) for s in sides] + [size(s["peak_bytes"]) for s in sides]
            table.add_row(fit["axis"], fit["dtype"], str(point["value"]), *cells)
        exponents = [fit[side][measure] for measure in MEASURES for side in SIDES]
        cells = ["–" if value is None else f"{value:.2f}" for value in exponents]
        table.add_row(fit["axis"], fit["dtype"], "exponent", *cells, end_section=True)
    console.print(table)


def fit_scaling(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each axis, side and measure, the exponent a of measure ~ valueᵃ, by least squares on logarithms."""
    fits = []
    for axis, dtype in dict.fromkeys((record["axis"], record["dtype"]) for record in records if "axis" in record):
        points = _points(records, axis, dtype)
        values = [point["value"] for point in points]
        fit: dict[str, Any] = {"axis": axis, "dtype": dtype}
        for side in SIDES:
            fit[side] = {m: exponent(values, [point[side][m] for point in points]) for m in MEASURES}
        fits.append(fit)
    return fits


def _points(records: Sequence[Mapping[str, Any]], axis: str, dtype: str) -> list[Mapping[str, Any]]:
    return [r for r in records if r.get("axis") == axis and r["dtype"] == dtype and "time_ratio" in r]


def exponent(xs: Sequence[float], ys: Sequence[float | None]) -> float | None:
    """The slope of log y over log x; None with fewer than two positive values of y."""
    points = {x: y for x, y in zip(xs, ys, strict=True) if y is not None and y > 0}
    if len(points) < 2:
        return None
    slope, _ = np.polyfit(np.log(list(points)), np.log(list(points.values())), 1)
    return round(float(slope), 3)


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms"


def size(value: int | None) -> str:
    if value is None:
        return "–"
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"

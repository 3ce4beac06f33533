"""How the report writes numbers: scores, points, nats, counts, durations, intervals and p values."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from holdfast.measure.metrics import NumberKind

DASH = "–"
"""Shown if there is no number."""


@dataclass(frozen=True)
class ShownEstimate:
    """A mean over runs with its 95% CI, which is None if there is only one run."""

    mean: float | None
    ci95: tuple[float, float] | None = None
    n: int = 1


def number(value: Any) -> float | None:
    """A finite float, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def estimate(value: Any) -> ShownEstimate:
    """An estimate from a summary's `{"mean", "ci95", "n"}`, or from the bare number of one run."""
    if not isinstance(value, Mapping):
        return ShownEstimate(number(value))
    ci = value.get("ci95")
    low, high = (number(ci[0]), number(ci[1])) if isinstance(ci, list | tuple) and len(ci) == 2 else (None, None)
    interval = (low, high) if low is not None and high is not None else None
    return ShownEstimate(number(value.get("mean")), interval, int(value.get("n", 1)))


def average(values: Iterable[Any]) -> float | None:
    """The mean of the finite numbers among `values`; None if there are none."""
    known = [x for v in values if (x := number(v)) is not None]
    return fmean(known) if known else None


def percent(value: Any, digits: int = 1) -> str:
    """A share from 0 to 1 as a percentage, without the % sign."""
    x = number(value)
    return DASH if x is None else _plain(100 * x, digits)


def points(value: Any, digits: int = 1) -> str:
    """A difference of scores in percentage points, always signed."""
    x = number(value)
    return DASH if x is None else _signed(100 * x, digits)


def nats(value: Any) -> str:
    """A divergence to three decimals; below 0.01 to two significant figures."""
    x = number(value)
    if x is None:
        return DASH
    return _plain(x, 3) if x == 0 or abs(x) >= 0.01 else f"{x:.1e}".replace("-", "−").replace("e−0", "e−")


def small(value: Any, figures: int = 3) -> str:
    """A quantity of any size to three significant figures: 0.0123, 2.60e−5, 41.2."""
    x = number(value)
    if x is None:
        return DASH
    if x == 0:
        return "0"
    if 1e-3 <= abs(x) < 1e5:
        return _plain(x, max(0, figures - 1 - math.floor(math.log10(abs(x)))))
    return f"{x:.{figures - 1}e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")


def count(value: Any) -> str:
    """A whole number with commas, e.g. 12,345."""
    x = number(value)
    return DASH if x is None else f"{round(x):,}"


def seconds(value: Any) -> str:
    """A duration in seconds, minutes or hours, whichever reads best."""
    x = number(value)
    if x is None:
        return DASH
    if x < 100:
        return f"{x:.1f} s" if x < 10 else f"{x:.0f} s"
    return f"{x / 60:.1f} min" if x < 6000 else f"{x / 3600:.1f} h"


def value_text(value: Any, kind: NumberKind) -> str:
    """A metric's number as tables show it, without its unit."""
    if kind == "nats":
        return nats(value)
    return points(value) if kind == "gain" else percent(value)


def difference_text(value: Any, kind: NumberKind) -> str:
    """The difference of two numbers of a metric, signed."""
    x = number(value)
    if kind == "nats":
        return DASH if x is None else _signed(x, 3)
    return points(value)


def interval_text(value: ShownEstimate, kind: NumberKind) -> str:
    """The 95% CI, or why there is none."""
    if value.mean is None:
        return "not defined here"
    if value.ci95 is None:
        return "1 run: no CI" if value.n == 1 else f"{value.n} runs: no CI"
    return f"[{value_text(value.ci95[0], kind)}, {value_text(value.ci95[1], kind)}]"


def p_text(value: Any) -> str:
    """A p value to three decimals; anything below 0.001 is written as "< .001"."""
    x = number(value)
    if x is None:
        return DASH
    return "< .001" if x < 0.001 else f"{x:.3f}".removeprefix("0")


def _plain(x: float, digits: int) -> str:
    text = f"{x:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def _signed(x: float, digits: int) -> str:
    text = _plain(x, digits)
    return text if text.startswith("−") or not float(text) else f"+{text}"

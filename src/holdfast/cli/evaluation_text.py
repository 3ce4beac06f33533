"""An evaluation for the terminal: one row for each set."""

from collections.abc import Mapping
from typing import Any

from holdfast.cli.tables import interval, table

NOT_JUDGED = "not judged"
"""Stands for the score of a set that nothing judges."""


def score_text(score: float | None) -> str:
    """A score in percent, or that there is none."""
    return NOT_JUDGED if score is None else f"{score:.1%}"


def evaluation_table(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """Score, form and length by set. What was measured besides has columns of its own: calibration, NLL of
    demonstrations, probability of the right answer, pass@k and avg@k.

    Args:
        sets: numbers by set, as in an evaluation's "sets".
    """
    has_forced = any(s.get("forced") for s in sets.values())
    has_calibration = any(s.get("calibration") for s in sets.values())
    has_nll = any(s.get("nll") is not None for s in sets.values())
    sampled = next((s["sampled"] for s in sets.values() if s.get("sampled")), None)
    ks = [] if sampled is None else [each["k"] for each in sampled["pass_at_k"]]
    header = ["set", "items", "score", "95% CI", "well-formed", "tokens"]
    header += ["ECE (by chance)"] if has_calibration else []
    header += ["NLL, nats per token"] if has_nll else []
    header += ["P(right)"] if has_forced else []
    header += [f"avg@{sampled['num_samples']}", *(f"pass@{k}" for k in ks)] if sampled is not None else []
    rows = []
    for name, s in sets.items():
        formed = "–" if s["format_ok"] is None else f"{s['format_ok']:.1%}"
        row = [name, s["n"], score_text(s["mean"]), interval(s["ci95"]), formed, f"{s['length']:.1f}"]
        row += [_calibration(s.get("calibration"))] if has_calibration else []
        row += [_nll(s)] if has_nll else []
        row += [_forced(s.get("forced"))] if has_forced else []
        row += _sampled(s.get("sampled"), len(ks)) if sampled is not None else []
        rows.append(row)
    return table(header, rows)


def _nll(numbers: Mapping[str, Any]) -> str:
    """An NLL with its standard error over items."""
    if numbers.get("nll") is None:
        return "–"
    error = numbers["nll_se"]
    return f"{numbers['nll']:.3f}" + ("" if error is None else f" ± {error:.3f}")


def _calibration(block: Mapping[str, Any] | None) -> str:
    """The calibration error, and what a calibrated model would show."""
    return "–" if block is None else f"{block['ece']:.1%} ({block['ece_if_calibrated']:.1%})"


def _forced(block: Mapping[str, Any] | None) -> str:
    """The probability of the right answer with its beginning forced, with its standard error over items."""
    if block is None:
        return "–"
    error = block["probability_se"]
    return f"{block['probability']:.1%}" + ("" if error is None else f" ± {error:.1%}")


def _sampled(block: Mapping[str, Any] | None, columns: int) -> list[str]:
    if block is None:
        return ["–"] * (columns + 1)
    return [f"{block['avg_at_k']:.1%}", *(f"{each['mean']:.1%}" for each in block["pass_at_k"])]

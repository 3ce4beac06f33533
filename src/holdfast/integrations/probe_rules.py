"""Apply the guard's rules to answers to probes, compared with the answers at the start. Importable without torch.

The rules themselves are the guard's. Over training steps they compare the two ends of a series, and the noise is the
scatter of the steps. A probe asks the same items greedily each time. So the two ends are the first answers and the
latest ones, and the noise is the standard error of their paired difference over items.
"""

import math
from collections.abc import Sequence
from typing import Any

from holdfast.data.batch_metrics import repetition
from holdfast.guard.rules import RULES, Severity, Sign, StageMetrics
from holdfast.guard.series import Series
from holdfast.guard.settings import GuardSettings
from holdfast.measure.artifacts.ngrams import units_of_text
from holdfast.measure.response import distinct
from holdfast.summary.responses import Answers

RULES_OVER_ANSWERS = ("repetition", "truncation", "distinct_collapse")
"""Rules that need nothing but answers. The last one fires only if the probe's reward falls too."""


class _PairedEnds(Series):
    """A value for each item, at the start and now, in the form of a series with two windows.

    Args:
        has_noise: whether the values are independent over items; if not, the difference counts as it is.
    """

    def __init__(self, first: Sequence[float], last: Sequence[float], has_noise: bool = True) -> None:
        super().__init__(window=len(first))
        self.values = [*first, *last]
        self.best = self.first
        differences = [b - a for a, b in zip(first, last, strict=True)]
        center = math.fsum(differences) / len(differences)
        squares = math.fsum((each - center) ** 2 for each in differences)
        error = math.sqrt(squares / max(1, len(differences) - 1) / len(differences))
        self._error = error if has_noise else 0.0

    @property
    def error(self) -> float:
        return self._error


class _ProbeStage(StageMetrics):
    """The answers at the start and now, in the form of a stage that rules read."""

    def __init__(self, first: Answers, now: Answers) -> None:
        pairs = [pair for name, own in now.items() for pair in zip(first[name], own, strict=True)]
        super().__init__(len(pairs), {}, None)
        units = [tuple(units_of_text(each["text"]) for each in pair) for pair in pairs]
        # The share of distinct bigrams falls with length, so both answers are cut to the length of the shorter one.
        cut = [(a[: len(b)], b[: len(a)]) for a, b in units]
        self._series = {
            "repetition": _paired_ends([tuple(map(_repetition, pair)) for pair in units]),
            "truncated_fraction": _paired_ends([tuple(float(each["truncated"]) for each in pair) for pair in pairs]),
            # One number for all items together, so it has no scatter over items.
            "distinct_2": _paired_ends(
                [tuple(distinct([pair[side] for pair in cut], 2) for side in (0, 1))], has_noise=False
            ),
        }
        judged = [pair for pair in pairs if all(each["reward"] is not None for each in pair)]
        if judged:
            self._series["reward"] = _paired_ends([tuple(float(each["reward"]) for each in pair) for pair in judged])


def _paired_ends(pairs: Sequence[tuple[float, ...]], has_noise: bool = True) -> _PairedEnds:
    return _PairedEnds([first for first, _ in pairs], [last for _, last in pairs], has_noise)


def _repetition(units: Sequence[Any]) -> float:
    numbers: dict[Any, int] = {}
    return repetition([numbers.setdefault(unit, len(numbers)) for unit in units])


def probe_signs(first: Answers, now: Answers, settings: GuardSettings) -> list[tuple[str, Severity, Sign]]:
    """The rules that fire on answers to the same items, at the start and now.

    Args:
        first, now: by suite, items in the same order, each with `text`, `truncated` and `reward`. The reward is None
            in a suite that nothing judges.
    """
    stage = _ProbeStage(first, now)
    signs = []
    for name in RULES_OVER_ANSWERS:
        rule, severity = RULES[name]
        sign = rule(stage, settings.rules) if getattr(settings.rules, name).action else None
        if sign is not None and sign.level >= 1:
            signs.append((name, severity, sign))
    return signs

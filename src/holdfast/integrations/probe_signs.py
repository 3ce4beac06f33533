"""Signs of a collapse in the answers to a probe, compared with the first model's. Importable without torch.

The guard's own rules are asked. Over steps they compare the ends of a series, whose noise is the scatter of its steps.
A probe asks the same items greedily each time, so its two ends are the first answers and the latest ones, and the noise
is the standard error of the paired difference over items.
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

ASKED = ("repetition", "truncation", "distinct_collapse")
"""The rules over what answers to probes read like; for the last the probe's own reward is the success that falls."""


class _Ends(Series):
    """A value of each item, first and last, in the place of a series.

    Args:
        noisy: whether items are independent looks; where they are not, the difference is taken as it is.
    """

    def __init__(self, first: Sequence[float], last: Sequence[float], noisy: bool = True) -> None:
        super().__init__(window=len(first))
        self.values = [*first, *last]
        self.best = self.first
        moved = [b - a for a, b in zip(first, last, strict=True)]
        center = math.fsum(moved) / len(moved)
        squares = math.fsum((each - center) ** 2 for each in moved)
        self._error = math.sqrt(squares / max(1, len(moved) - 1) / len(moved)) if noisy else 0.0

    @property
    def error(self) -> float:
        return self._error


class _Probed(StageMetrics):
    """Two readings of the same items, as rules ask for them."""

    def __init__(self, first: Answers, now: Answers) -> None:
        pairs = [pair for name, own in now.items() for pair in zip(first[name], own, strict=True)]
        super().__init__(len(pairs), {}, None)
        units = [tuple(units_of_text(each["text"]) for each in pair) for pair in pairs]
        # Distinct bigrams fall with the number of words, so both are read to the length of the shorter one.
        cut = [(a[: len(b)], b[: len(a)]) for a, b in units]
        self._series = {
            "repetition": _ends([tuple(map(_repetition, pair)) for pair in units]),
            "truncated_fraction": _ends([tuple(float(each["truncated"]) for each in pair) for pair in pairs]),
            "reward": _ends([tuple(float(each["reward"]) for each in pair) for pair in pairs]),
            "distinct_2": _ends([tuple(distinct([pair[side] for pair in cut], 2) for side in (0, 1))], noisy=False),
        }


def _ends(pairs: Sequence[tuple[float, ...]], noisy: bool = True) -> _Ends:
    return _Ends([first for first, _ in pairs], [last for _, last in pairs], noisy)


def _repetition(units: Sequence[Any]) -> float:
    numbers: dict[Any, int] = {}
    return repetition([numbers.setdefault(unit, len(numbers)) for unit in units])


def probe_signs(first: Answers, now: Answers, settings: GuardSettings) -> list[tuple[str, Severity, Sign]]:
    """The rules that fire on answers to the same items, first and now.

    Args:
        first, now: by suite, items in the same order: `text`, `truncated`, `reward`.
    """
    stage = _Probed(first, now)
    found = []
    for name in ASKED:
        rule, severity = RULES[name]
        sign = rule(stage, settings.rules) if getattr(settings.rules, name).action else None
        if sign is not None and sign.level >= 1:
            found.append((name, severity, sign))
    return found

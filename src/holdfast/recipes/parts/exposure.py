"""How much of a solution the teacher sees, learned during training (ATESD, arXiv 2605.11458).

A Beta policy draws an exposure and holds it for some optimizer steps. The policy's reward is the student's progress on
a probe in these steps. Reconstruction: we know the paper's controller only in outline. Its features, its step sizes and
the credit for later progress are ours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.special import digamma, polygamma

from holdfast.data.seeds import numpy_rng
from holdfast.recipes.parts.controllers import Controller, Moment

FEATURES = ("loss", "slope", "grad_norm", "entropy", "kl_teacher", "reward", "progress")
"""The policy's features: averages of metrics, the change of the loss over a window, the fraction of the stage done."""

SMOOTHING = 0.1
"""Rate of these moving averages, per optimizer step."""

_MAX_ADVANTAGE = 3.0
"""An advantage is clipped at this many standard deviations: one lucky window must not decide the policy."""

Coefficients = list[list[float]]
"""The policy's parameters, or a gradient of them: one row for a, one for b; the last column is the bias."""


def _no_parameters() -> Coefficients:
    return [[0.0] * (len(FEATURES) + 1) for _ in range(2)]


@dataclass
class _State:
    parameters: Coefficients = field(default_factory=_no_parameters)
    trace: Coefficients = field(default_factory=_no_parameters)
    """Σ_j discount^j · ∇ log π of the window j before the last. Progress is credited to these choices."""
    averages: dict[str, float] = field(default_factory=dict)
    loss_before: float | None = None
    """The average loss at the start of the window."""
    window: int = -1
    exposure: float = 0.0
    """The exposure of this window."""
    probe: float | None = None
    """The probe's loss at the start of the window."""
    mean: float = 0.0
    """Mean progress of all windows so far: the baseline."""
    squares: float = 0.0
    """Σ (progress − mean)² over these windows."""
    windows: int = 0


class BetaExposure(Controller):
    """Draws the exposure α ~ Beta(a, b), (a, b) = 1 + softplus(W s + u), for every window of `hold` steps.

    REINFORCE with the running mean of progress as the baseline, and an entropy bonus:

        (W, u) += rate · [ A_k · Σ_j discount^j ∇ log Beta(α_{k−j}) + entropy_weight · ∇ H ]
        A_k     = (progress_k − mean) / deviation, within ±3

    Over a stage this sums to ∇ log π of each window times the discounted progress after it. The metrics of a window's
    first step hold `probe_loss`, the loss on the probe before that step; progress_k is its decrease in window k. Mean
    and deviation are those of the windows so far. The policy therefore learns at the same speed whether a window gains
    0.01 nats or 1. Before there is a deviation, the advantage is 0.
    """

    def __init__(self, *, hold: int, discount: float, entropy_weight: float, rate: float) -> None:
        self.hold, self.discount, self.entropy_weight, self.rate = hold, discount, entropy_weight, rate
        self._state = _State()
        self._drawn: tuple[int, float, list[float]] | None = None
        """Window, exposure and features of a new window, from `value` to `see`. Not part of the state: a resumed run
        calls `value` again and draws the same."""

    def value(self, moment: Moment) -> float:
        window = moment.step // self.hold
        if window == self._state.window:
            return self._state.exposure
        features = [*self._features(), moment.step / moment.steps, 1.0]
        exposure = float(numpy_rng(moment.seed, "exposure", window).beta(*shape(self._state.parameters, features)))
        self._drawn = window, exposure, features
        return exposure

    def see(self, numbers: Mapping[str, Any]) -> None:
        state = self._state
        if self._drawn is not None:
            (window, exposure, features), self._drawn = self._drawn, None
            # The gradient belongs to the policy that drew the exposure, so it comes before that policy learns.
            score = log_density_gradient(state.parameters, features, exposure)
            probe = numbers.get("probe_loss")
            if probe is not None and state.probe is not None:
                self._learn(state.probe - probe, features)
            state.probe = probe
            state.trace = _add(_scale(state.trace, self.discount), score)
            state.window, state.exposure = window, exposure
            state.loss_before = state.averages.get("loss")
        for name in ("loss", "grad_norm", "entropy", "kl_teacher", "reward"):
            if (value := numbers.get(name)) is not None:
                average = state.averages.get(name, value)
                state.averages[name] = (1 - SMOOTHING) * average + SMOOTHING * value

    def state(self) -> dict[str, Any]:
        return asdict(self._state)

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._state = _State(**state)

    def _features(self) -> list[float]:
        """All features except the fraction of the stage; 0 for a metric that has no value yet."""
        averages, before = self._state.averages, self._state.loss_before
        loss = averages.get("loss", 0.0)
        slope = 0.0 if before is None else loss - before
        rest = [averages.get(name, 0.0) for name in FEATURES[2:-1]]
        return [max(-10.0, min(10.0, each)) for each in (loss, slope, *rest)]

    def _learn(self, progress: float, features: Sequence[float]) -> None:
        state = self._state
        before = state.mean
        state.windows += 1
        state.mean += (progress - before) / state.windows
        state.squares += (progress - before) * (progress - state.mean)
        advantage = 0.0
        if state.squares > 0:
            deviation = math.sqrt(state.squares / (state.windows - 1))
            advantage = max(-_MAX_ADVANTAGE, min(_MAX_ADVANTAGE, (progress - before) / deviation))
        step = _add(
            _scale(state.trace, advantage),
            _scale(entropy_gradient(state.parameters, features), self.entropy_weight),
        )
        state.parameters = _add(state.parameters, _scale(step, self.rate))


def shape(parameters: Coefficients, features: Sequence[float]) -> tuple[float, float]:
    """(a, b) of the Beta distribution, both above 1."""
    a, b = (1 + float(np.logaddexp(0, np.dot(row, features))) for row in parameters)
    return a, b


def log_density_gradient(parameters: Coefficients, features: Sequence[float], exposure: float) -> Coefficients:
    """∇ log Beta(exposure; a, b)."""
    a, b = shape(parameters, features)
    both = float(digamma(a + b))
    tiny = 1e-12  # a draw may round to 0 or 1, whose logarithm is infinite
    slopes = math.log(max(exposure, tiny)) - digamma(a) + both, math.log(max(1 - exposure, tiny)) - digamma(b) + both
    return _through(parameters, features, slopes)


def entropy_gradient(parameters: Coefficients, features: Sequence[float]) -> Coefficients:
    """∇ H[Beta(a, b)]."""
    a, b = shape(parameters, features)
    both = (a + b - 2) * polygamma(1, a + b)
    return _through(parameters, features, (both - (a - 1) * polygamma(1, a), both - (b - 1) * polygamma(1, b)))


def _through(parameters: Coefficients, features: Sequence[float], slopes: Sequence[float]) -> Coefficients:
    """The chain rule from derivatives in a and b to the parameters."""
    gradient = []
    for row, slope in zip(parameters, slopes, strict=True):
        sigmoid = 1 / (1 + math.exp(-float(np.dot(row, features))))
        gradient.append([float(slope) * sigmoid * each for each in features])
    return gradient


def _scale(gradient: Coefficients, factor: float) -> Coefficients:
    return [[factor * each for each in row] for row in gradient]


def _add(one: Coefficients, other: Coefficients) -> Coefficients:
    return [[x + y for x, y in zip(first, second, strict=True)] for first, second in zip(one, other, strict=True)]

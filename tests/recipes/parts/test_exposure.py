"""`holdfast.recipes.parts.exposure`: the policy's gradients and updates; what a run shows and measures."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.example import Example, Message
from holdfast.data.rows import Group, Row
from holdfast.data.task import Task
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.recipes import ATESD, OPSD
from holdfast.recipes.parts.controllers import Moment
from holdfast.recipes.parts.exposure import FEATURES, BetaExposure, entropy_gradient, log_density_gradient, shape
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Sampler
from holdfast.train.step import StageTrainer
from holdfast.train.teacher import Teacher

QUESTION = Example("e", (Message(role="user", content="Q"),), solution=("first", "second", "so 3"))


def _policy(**settings: float) -> BetaExposure:
    return BetaExposure(**({"hold": 4, "discount": 0.5, "entropy_weight": 0.0, "rate": 0.1} | settings))  # type: ignore[arg-type]


def _numerical(function: Any, parameters: np.ndarray) -> np.ndarray:
    found = np.zeros_like(parameters)
    for index in np.ndindex(*parameters.shape):
        up, down = parameters.copy(), parameters.copy()
        up[index] += 1e-5
        down[index] -= 1e-5
        found[index] = (function(up) - function(down)) / 2e-5
    return found


def test_gradients_are_those_of_the_beta_distribution() -> None:
    rng = np.random.default_rng(0)
    parameters, features = rng.normal(size=(2, 4)), rng.normal(size=4).tolist()
    a, b = shape(parameters.tolist(), features)
    assert min(a, b) > 1
    density = _numerical(lambda p: beta(*shape(p.tolist(), features)).logpdf(0.3), parameters)
    np.testing.assert_allclose(log_density_gradient(parameters.tolist(), features, 0.3), density, rtol=1e-5)
    entropy = _numerical(lambda p: beta(*shape(p.tolist(), features)).entropy(), parameters)
    np.testing.assert_allclose(entropy_gradient(parameters.tolist(), features), entropy, rtol=1e-4, atol=1e-8)


def _steps(policy: BetaExposure, losses: list[float], start: int = 0, seed: int = 0, **numbers: float) -> list[float]:
    """The exposures of successive windows, for given probe losses."""
    exposures = []
    for window, loss in enumerate(losses, start):
        for step in range(policy.hold):
            moment = Moment(window * policy.hold + step, 1000, seed)
            exposures.append(policy.value(moment))
            assert policy.value(moment) == exposures[-1], "asking changes nothing"
            policy.see({"loss": 1.0, **numbers} | ({"probe_loss": loss} if step == 0 else {}))
    return exposures


def test_an_exposure_is_constant_in_a_window() -> None:
    held = _steps(_policy(), [1.0, 0.5, 0.2])
    assert [len(set(held[at : at + 4])) for at in (0, 4, 8)] == [1, 1, 1]
    assert len(set(held)) == 3
    assert all(0 < each < 1 for each in held)
    assert _steps(_policy(), [1.0, 0.5, 0.2]) == held
    assert _steps(_policy(), [1.0, 0.5, 0.2], seed=1) != held


def test_a_restored_state_continues_identically() -> None:
    whole, first, second = _policy(), _policy(), _policy()
    expected = _steps(whole, [1.0, 0.7, 0.1, 0.4], grad_norm=2.0)
    assert _steps(first, [1.0, 0.7], grad_norm=2.0) == expected[:8]
    first.value(Moment(8, 1000, 0))  # for a step that is then interrupted
    second.load_state(json.loads(json.dumps(first.state())))
    assert _steps(second, [0.1, 0.4], start=2, grad_norm=2.0) == expected[8:]
    assert second.state() == whole.state()


def test_progress_above_the_mean_is_credited_to_earlier_choices() -> None:
    """Two windows by hand: progress .3, then .5."""
    policy = _policy(discount=0.5, rate=0.2)
    nothing = [0.0] * (len(FEATURES) - 1)
    features = [[*nothing, 4 * window / 1000, 1.0] for window in range(3)]
    for window in features[1:]:
        window[0] = 1.0  # the average loss
    drawn = _steps(policy, [1.0, 0.7, 0.2])[::4]
    zero = [[0.0] * (len(FEATURES) + 1) for _ in range(2)]
    first, second = (np.array(log_density_gradient(zero, features[k], drawn[k])) for k in (0, 1))
    # The first progress equals its mean; the second is .2 above it, and the standard deviation of both is .1 · √2.
    expected = 0.2 * (0.2 / math.sqrt(0.02)) * (0.5 * first + second)
    np.testing.assert_allclose(policy.state()["parameters"], expected, rtol=1e-9)
    assert policy.state()["mean"] == pytest.approx(0.4)


def _learned(best: float, gain: float, windows: int, seed: int) -> float:
    """The mean of the last ten exposures with default settings, if a window gains more at exposures closer to 1."""
    policy = next(iter(ATESD().controllers().values()))
    loss, drawn = 1.0, []
    for window in range(windows):
        for step in range(ATESD().hold):
            exposure = policy.value(Moment(window * ATESD().hold + step, windows * ATESD().hold, seed))
            policy.see({"loss": loss, "entropy": 0.5, "kl_teacher": 0.4} | ({"probe_loss": loss} if step == 0 else {}))
        drawn.append(exposure)
        loss -= gain * (1 - abs(best - exposure))
    return sum(drawn[-10:]) / 10


@pytest.mark.parametrize("gain", [0.005, 0.5])
def test_with_default_settings_it_learns_the_best_exposure(gain: float) -> None:
    whole, half, none = (sum(_learned(best, gain, 40, seed) for seed in range(5)) / 5 for best in (1.0, 0.5, 0.0))
    assert whole > 0.65
    assert 0.4 < half < 0.6
    assert none < 0.35


def test_the_entropy_bonus_widens_the_distribution() -> None:
    def spread(weight: float) -> float:
        policy = _policy(hold=1, rate=0.3, entropy_weight=weight)
        policy.load_state(policy.state() | {"parameters": [[0.0] * len(FEATURES) + [3.0]] * 2})
        _steps(policy, [1.0] * 200)
        return float(beta(*shape(policy.state()["parameters"], [*[0.0] * (len(FEATURES) - 1), 1.0, 1.0])).std())

    assert spread(1.0) > 1.05 * spread(0.0)


# --- In the recipe ------------------------------------------------------------------------------------------------


def _shown(recipe: ATESD, exposure: float) -> str:
    row = Row(QUESTION, [1], [2])
    recipe.model_copy(update={"exposure": exposure}).annotate([Group(QUESTION, [row])])
    assert row.teacher_messages is not None
    return row.teacher_messages[-1]["content"]


def test_the_teacher_sees_the_first_steps_and_the_answer() -> None:
    recipe = ATESD(template="{prompt}\n{demonstration}")
    assert _shown(recipe, 1.0) == "Q\nfirst\nsecond\nso 3"
    assert _shown(recipe, 0.5) == "Q\nfirst\nsecond\nso 3"
    assert _shown(recipe, 0.2) == "Q\nfirst\nso 3"
    assert _shown(recipe, 0.0) == "Q\nso 3"
    without = ATESD(template="{prompt}\n{demonstration}", keep_answer=False)
    assert _shown(without, 0.4) == "Q\nfirst\nsecond"
    assert _shown(without, 0.0) == "Q", "a teacher that sees nothing is asked as the student is"


def test_a_fixed_exposure_of_one_is_opsd() -> None:
    rows = [Row(QUESTION, [1], [2]) for _ in range(2)]
    ATESD(exposure=1.0).annotate([Group(QUESTION, rows[:1])])
    OPSD().annotate([Group(QUESTION, rows[1:])])
    assert rows[0] == rows[1]
    assert ATESD(exposure=1.0).controllers() == {}
    assert ATESD(exposure=1.0).objective() == OPSD().objective()


def test_the_probe_uses_the_same_rows_at_a_fixed_exposure_and_changes_nothing(tiny_model: Path) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    train = TrainSettings(prompts_per_step=4, max_completion_length=8)
    recipe = ATESD()
    task = Task("t", [Example(f"e{i}", QUESTION.messages, solution=QUESTION.solution) for i in range(8)], [])
    collector = Collector(policy, Sampler(policy), recipe, train, 0)
    collector.prepare(task)
    spec = recipe.teacher()
    assert spec is not None
    trainer = StageTrainer(policy, Teacher(spec, policy, Base(policy)), None, recipe.objective(), train)
    losses = {}
    for exposure in (0.0, 1.0, 1.0):
        fixed = recipe.model_copy(update={"exposure": exposure})
        rows = collector.probe(task, 1, 3, fixed)
        assert len(rows) == 3
        found = trainer.measure(rows, where="here")["loss"]
        assert losses.setdefault(exposure, found) == found
    assert losses[0.0] != losses[1.0]
    assert all(parameter.grad is None for parameter in policy.named_trainable().values())
    stepped = trainer.forward_backward(rows, where="here")["loss"]
    assert stepped == pytest.approx(losses[1.0])

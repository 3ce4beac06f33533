"""`holdfast.stream.near_future.triggers`: when a run rolls back, and what a trigger remembers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Row
from holdfast.recipes import AutoNPO
from holdfast.recipes.parts.rollouts import NearFutureSpec
from holdfast.rollouts.sources.near_future import sample_entropy
from holdfast.stream.near_future.triggers import make_trigger


def test_it_fires_when_the_reward_stalls_although_the_entropy_has_fallen() -> None:
    spec = NearFutureSpec(kind="stalled", samples=1, patience=3, entropy_share=0.8, fast_rate=1.0, slow_rate=0.5)

    def steps(rewards: list[float], entropies: list[float], spec: NearFutureSpec = spec) -> list[bool]:
        trigger, due = make_trigger(spec), []
        for step, (reward, entropy) in enumerate(zip(rewards, entropies, strict=True), 1):
            trigger.see(step, reward, entropy, {"e": 0.0})
            due.append(trigger.due)
        return due

    falling = [1.0, 0.9, 0.7, 0.7, 0.7]
    assert steps([0.5] * 5, falling) == [False, False, True, True, True]
    assert not any(steps([0.5] * 5, [1.0] * 5)), "the entropy has not fallen"
    assert steps([0.5] * 5, [1.0] * 5, replace(spec, entropy_share=None)) == [False, False, True, True, True]
    assert not any(steps([0.1, 0.2, 0.3, 0.4, 0.5], falling)), "the reward rises"


def test_it_starts_again_after_a_return() -> None:
    spec = NearFutureSpec(kind="stalled", samples=1, patience=1, fast_rate=1.0, rounds=2)
    trigger = make_trigger(spec)
    for step, entropy in enumerate((1.0, 0.5), 1):
        trigger.see(step, 0.0, entropy, {"e": 0.0, "f": 1.0})
    assert trigger.due
    assert trigger.failed_prompts() == ["e"]
    again = make_trigger(spec)
    again.load_state(json.loads(json.dumps(trigger.state())))
    assert again == trigger
    trigger.went_back()
    for step, entropy in enumerate((0.5, 0.45), 1):
        trigger.see(step, 0.0, entropy, {"e": 0.0})
    assert not trigger.due, "the entropy must fall from its value at the return"
    trigger.see(3, 0.0, 0.3, {})
    assert trigger.due
    trigger.went_back()
    assert not trigger.is_return_point(0)


def test_a_search_without_answers_is_no_return() -> None:
    trigger = make_trigger(NearFutureSpec(kind="stalled", samples=1, patience=2, fast_rate=1.0, rounds=1))
    for step, entropy in enumerate((1.0, 0.5), 1):
        trigger.see(step, 0.0, entropy, {"e": 0.0, "f": 0.0})
    assert trigger.due
    trigger.stayed()
    assert not trigger.due, "it watches from here again"
    assert trigger.failed_prompts() == ["e", "f"]
    assert trigger.is_return_point(0)
    trigger.see(3, 0.0, 0.3, {"f": 0.0})
    assert not trigger.due, "the reward must stall as long again"
    trigger.see(4, 0.0, 0.3, {})
    assert trigger.due
    assert trigger.failed_prompts() == ["f", "e"]
    trigger.went_back()
    assert not trigger.is_return_point(0)


@pytest.mark.parametrize("rise", [15, 30, 60])
def test_by_default_it_goes_back_soon_after_the_reward_has_stopped_rising(rise: int) -> None:
    """The reward rises from .1 to .6, then stays; 64 samples a batch. The entropy halves meanwhile."""
    spec, delays = AutoNPO().near_future(), []
    for seed in range(100):
        rng, trigger = np.random.default_rng(seed), make_trigger(spec)
        for step in range(1, rise + 61):
            done = min(1.0, step / rise)
            reward = float(rng.binomial(64, 0.1 + 0.5 * done) / 64)
            trigger.see(step, reward, 0.6 - 0.3 * done + float(rng.normal(0, 0.03)), {"e": 0.0})
            if trigger.due:
                delays.append(step - rise)
                break
    assert len(delays) == 100
    assert 0 < np.median(delays) <= 20
    assert np.mean(np.array(delays) < 0) <= 0.3, "a slow rise looks like a stall in some batches"


def test_what_it_watches_is_logged() -> None:
    trigger = make_trigger(AutoNPO(fast_rate=0.5).near_future())
    trigger.see(1, 0.5, 1.0, {})
    trigger.see(2, 0.5, 0.5, {})
    trigger.see(3, None, None, {})
    assert trigger.numbers() == {"stalled_batches": 2, "sample_entropy": 0.75}
    assert make_trigger(NearFutureSpec(kind="ahead", samples=1, steps=3)).numbers() == {}


def test_the_entropy_is_that_of_all_own_samples() -> None:
    """Also of groups without variance, which have no loss."""
    example = Example("e", (Message(role="user", content="?"),))
    rows = [Row(example, [1], [2, 3], sampled_logprobs=[-1.0, -2.0], verdict=Verdict(0.0))]
    rows.append(Row(example, [1], [2], sampled_logprobs=[-6.0], verdict=Verdict(0.0)))
    rows.append(Row(example, [1], [2], sampled_logprobs=[-60.0], replayed=True))
    rows.append(Row(example, [1], [2], source_logprobs=[-60.0]))
    rows.append(Row(example, [1], [2, 3], sampled_logprobs=[-60.0, -3.0], tool_mask=[0, 1]))
    assert sample_entropy(rows) == pytest.approx((1 + 2 + 6 + 3) / 4)
    assert sample_entropy(rows[3:4]) is None

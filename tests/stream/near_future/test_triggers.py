"""`holdfast.stream.near_future.triggers`: when a run rolls back, and what a trigger remembers."""

import json

from holdfast.recipes.parts.rollouts import NearFutureSpec
from holdfast.stream.near_future.triggers import make_trigger


def test_it_fires_when_the_reward_stalls_although_the_entropy_has_fallen() -> None:
    spec = NearFutureSpec(kind="stalled", samples=1, patience=3, entropy_share=0.8, fast_rate=1.0, slow_rate=0.5)

    def steps(rewards: list[float], entropies: list[float], spec: NearFutureSpec = spec) -> list[bool]:
        trigger, due = make_trigger(spec), []
        for step, (reward, entropy) in enumerate(zip(rewards, entropies, strict=True), 1):
            trigger.see(step, {"reward": reward, "entropy": entropy}, {"e": 0.0})
            due.append(trigger.due)
        return due

    falling = [1.0, 0.9, 0.7, 0.7, 0.7]
    assert steps([0.5] * 5, falling) == [False, False, True, True, True]
    assert not any(steps([0.5] * 5, [1.0] * 5)), "the entropy has not fallen"
    assert not any(steps([0.1, 0.2, 0.3, 0.4, 0.5], falling)), "the reward rises"


def test_it_starts_again_after_a_return() -> None:
    spec = NearFutureSpec(kind="stalled", samples=1, patience=1, fast_rate=1.0, rounds=2)
    trigger = make_trigger(spec)
    for step, entropy in enumerate((1.0, 0.5), 1):
        trigger.see(step, {"reward": 0.0, "entropy": entropy}, {"e": 0.0, "f": 1.0})
    assert trigger.due
    assert trigger.failed_prompts() == ["e"]
    again = make_trigger(spec)
    again.load_state(json.loads(json.dumps(trigger.state())))
    assert again == trigger
    trigger.went_back()
    for step, entropy in enumerate((0.5, 0.45), 1):
        trigger.see(step, {"reward": 0.0, "entropy": entropy}, {"e": 0.0})
    assert not trigger.due, "the entropy must fall from its value at the return"
    trigger.see(3, {"reward": 0.0, "entropy": 0.3}, {})
    assert trigger.due
    trigger.went_back()
    assert not trigger.is_return_point(0)


def test_a_search_without_answers_is_no_return() -> None:
    trigger = make_trigger(NearFutureSpec(kind="stalled", samples=1, patience=2, fast_rate=1.0, rounds=1))
    for step, entropy in enumerate((1.0, 0.5), 1):
        trigger.see(step, {"reward": 0.0, "entropy": entropy}, {"e": 0.0, "f": 0.0})
    assert trigger.due
    trigger.stayed()
    assert not trigger.due, "it watches from here again"
    assert trigger.failed_prompts() == ["e", "f"]
    assert trigger.is_return_point(0)
    trigger.see(3, {"reward": 0.0, "entropy": 0.3}, {"f": 0.0})
    assert not trigger.due, "the reward must stall as long again"
    trigger.see(4, {"reward": 0.0, "entropy": 0.3}, {})
    assert trigger.due
    assert trigger.failed_prompts() == ["f", "e"]
    trigger.went_back()
    assert not trigger.is_return_point(0)

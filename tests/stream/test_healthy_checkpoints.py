"""`holdfast.stream.healthy_checkpoints`: a checkpoint must prove itself before a roll-back may go to it."""

import json

from holdfast.stream.healthy_checkpoints import HealthyCheckpoints


def test_a_checkpoint_is_healthy_only_after_calm_steps_with_a_reward_as_good_as_any() -> None:
    healthy = HealthyCheckpoints(0)
    healthy.candidates = {10: 10}
    healthy.see(17, True, (0.5, 0.02), 8)
    assert healthy.number == 0
    healthy.see(18, True, (0.5, 0.02), 8)
    assert healthy.number == 10
    healthy.candidates = {20: 20}
    healthy.see(28, True, (0.45, 0.02), 8)  # worse by more than its error
    assert (healthy.number, healthy.candidates) == (10, {})
    healthy.candidates = {30: 30}
    healthy.see(31, False, (0.6, 0.02), 8)
    assert healthy.candidates == {}


def test_what_a_checkpoint_saves_is_what_it_loads_under_the_keys_of_earlier_versions() -> None:
    healthy = HealthyCheckpoints(30, 10, {40: 12}, 0.5)
    saved = json.loads(json.dumps(healthy.as_json()))
    assert saved == {"number": 30, "before": 10, "candidates": {"40": 12}, "best_reward": 0.5}
    assert HealthyCheckpoints.from_json(saved) == healthy

"""`holdfast.guard.messages`: every rule's message gives its numbers first, and then how to fix the problem."""

import math

import pytest

from holdfast.guard import RULES, message
from holdfast.guard.messages import MESSAGES

REWARD = {"best_reward": 0.8, "reward": 0.1}
VALUES = {
    "not_finite": {"loss": math.nan, "grad_norm": 1.0},
    "stale_sampler": {"is_ratio_mean": 1e-7},
    "agreement_without_success": {"kl_teacher_first": 0.8, "kl_teacher": 0.2, **REWARD},
    "reward_collapse": REWARD,
    "entropy_collapse": {"entropy_first": 0.5, "entropy": 0.1, **REWARD},
    "distinct_collapse": {"distinct_2_first": 0.6, "distinct_2": 0.2, "entropy_first": 0.5, "entropy": 0.1},
    "repetition": {"repetition_first": 0.02, "repetition": 0.44},
    "truncation": {"truncated_first": 0.0, "truncated": 0.75},
    "silent_stall": {"active_rows": 0.0},
    "kl_budget": {"kl_to_base": 0.25, "budget": 0.2},
    "retention": {"base": 0.84, "score": 0.61},
}
FIRST = {
    "not_finite": "The loss is nan.",
    "stale_sampler": "The mean probability ratio of trainer to sampler is 1e-07; it should be 1.",
    "agreement_without_success": "The divergence of student and teacher is 0.2, down from 0.8 at the start of the "
    "stage, but the reward is 0.1, down from its best of 0.8.",
    "reward_collapse": "The reward is 0.1, down from its best of 0.8.",
    "entropy_collapse": "The entropy is 0.1, down from 0.5 at the start of the stage, "
    "and the reward is 0.1, down from its best of 0.8.",
    "distinct_collapse": "The share of distinct bigrams is 0.2, down from 0.6 at the start of the stage, "
    "and the entropy is 0.1, down from 0.5 at the start of the stage.",
    "repetition": "44% of bigrams repeat within their completion, up from 2% at the start of the stage.",
    "truncation": "75% of completions reach max_completion_length, up from 0% at the start of the stage.",
    "silent_stall": "0 rows have carried a training signal for three windows of steps.",
    "kl_budget": "KL to the base is 0.25 nats per token, above the budget of 0.2.",
    "retention": "old scores 61.0%, down from 84.0% before training: the model forgets it.",
}


@pytest.mark.parametrize("rule", RULES)
def test_the_numbers_come_first_and_then_the_fix(rule: str) -> None:
    assert set(MESSAGES) == set(RULES)
    text = message(rule, VALUES[rule], "old")
    assert text.startswith(f"{FIRST[rule]} ")
    assert text.endswith(".")
    assert "\n" not in text


def test_everything_that_is_not_finite_is_named() -> None:
    assert message("not_finite", {"loss": math.inf, "grad_norm": math.nan}).startswith(
        "The loss is inf and the gradient norm is nan."
    )


def test_a_lost_teacher_has_another_message_than_a_lost_signal() -> None:
    assert message("silent_stall", {"teacher_share": 0.0}).startswith("0% of rows have had a teacher")


def test_a_divergence_of_another_trainer_is_read_like_the_kl() -> None:
    values = {"teacher_divergence_first": 0.8, "teacher_divergence": 0.2, **REWARD}
    assert message("agreement_without_success", values) == message(
        "agreement_without_success", VALUES["agreement_without_success"]
    )

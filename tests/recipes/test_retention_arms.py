"""`holdfast.recipes`: what OPR replays, and what RaPO makes of rewards, drifts and their running deviation."""

import statistics
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Group, Row
from holdfast.recipes import OPR, RAD, TALR, RaPO
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.controllers import Moment
from holdfast.recipes.parts.objective import EntropyWeight, Objective, TokenWeight
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.stream.controls import Controls

EXAMPLE = Example("e", (Message(role="user", content="?"),), demonstration="so")


def sample(reward: float, logprobs: list[float], before: list[float] | None = None) -> Row:
    return Row(
        EXAMPLE,
        [1],
        list(range(len(logprobs))),
        sampled_logprobs=logprobs,
        teacher_logprobs=before,
        verdict=Verdict(reward),
    )


class TestRaPO:
    def test_the_reward_falls_with_the_drift_and_never_rises_with_a_negative_one(self) -> None:
        rows = [
            sample(0.0, [-1.0, -2.0], [-1.0, -2.0]),
            sample(0.0, [-1.0, -2.0], [-1.2, -2.0]),  # 0.1 nats per token
            sample(0.0, [-1.0, -2.0], [-0.5, -1.0]),
            sample(1.0, [-1.0, -2.0], None),
        ]
        recipe = RaPO(scale_rewards="none")
        numbers = recipe.annotate([Group(EXAMPLE, rows)])
        shaped = torch.tensor([0.5, 0.5 * torch.tensor(-2.0).exp(), 0.5, 1.0], dtype=torch.float64)
        assert [row.advantage for row in rows] == pytest.approx((shaped - shaped.mean()).tolist())
        assert numbers["drift"] == pytest.approx(0.1 / 3)
        assert [row.base_kl for row in rows] == [1.0] * 4

    @given(
        batches=st.lists(
            st.lists(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=3, max_size=3), min_size=2, max_size=2),
            min_size=1,
            max_size=6,
        ),
        decay=st.sampled_from([0.0, 0.5, 0.999]),
        stages=st.integers(1, 3),
    )
    def test_the_running_deviation_is_that_of_all_batches_of_all_stages(
        self, batches: list[list[list[float]]], decay: float, stages: int
    ) -> None:
        recipe = RaPO(std_decay=decay)
        lasting = {name: each for name, each in recipe.controllers().items() if each.lasts}
        expected: float | None = None
        for stage in range(stages):
            controls = Controls(recipe, len(batches), stage, lasting=lasting)
            for step, batch in enumerate(batches):
                now = statistics.stdev(reward for rewards in batch for reward in rewards)
                expected = now if not expected else decay * expected + (1 - decay) * now
                groups = [Group(EXAMPLE, [sample(reward, [-1.0]) for reward in rewards]) for rewards in batch]
                numbers = controls.recipe(controls.settings(step)).annotate(groups)
                controls.see(numbers)
                assert numbers["reward_std_average"] == pytest.approx(expected, abs=1e-12)
                for group, rewards in zip(groups, batch, strict=True):
                    centered = [reward - sum(rewards) / 3 for reward in rewards]
                    advantages = [each / (expected + 1e-4) for each in centered]
                    if max(map(abs, advantages)) > 5:
                        advantages = [each / (statistics.stdev(rewards) + 1e-4) for each in centered]
                    assert [row.advantage for row in group.rows] == pytest.approx(advantages, abs=1e-9)

    def test_a_batch_without_variance_does_not_begin_the_running_deviation(self) -> None:
        flat, mixed = ([sample(reward, [-1.0]) for reward in rewards] for rewards in ([1.0, 1.0], [1.0, 0.0]))
        recipe = RaPO()
        (controller,) = recipe.controllers().values()
        controller.see(recipe.annotate([Group(EXAMPLE, flat)]))
        assert [row.advantage for row in flat] == [0.0, 0.0]
        numbers = recipe.model_copy(update={"running_std": controller.value(Moment(1, 2, 0))}).annotate(
            [Group(EXAMPLE, mixed)]
        )
        assert numbers["reward_std_average"] == pytest.approx(0.5**0.5)

    def test_its_teacher_scores_and_does_not_teach(self) -> None:
        recipe = RaPO()
        assert recipe.teacher().stage_start == "student"
        assert not recipe.is_taught()
        assert recipe.rollouts().scored_from_stage == 2
        with pytest.raises(ValueError, match="std_decay is used only if scale_rewards is running"):
            RaPO(scale_rewards="group", std_decay=0.5)
        with pytest.raises(ValueError, match="scored_from_stage needs samples of the student"):
            RolloutSpec(source="demonstrations", scored_from_stage=1)


class TestOPR:
    def test_the_first_right_answer_is_replayed_and_nothing_else(self) -> None:
        def replays(*rewards: float) -> Group:
            rows = [sample(reward, [-1.0]) for reward in rewards]
            for row in rows:
                row.replayed = True
            return Group(EXAMPLE, rows)

        groups = [Group(EXAMPLE, [Row(EXAMPLE, [1], [2])]), replays(0.5, 1.0, 1.0), replays(0.0, 0.5), replays()]
        numbers = OPR().annotate(groups)
        assert [[row.ce for row in group.rows] for group in groups] == [[1.0], [0.0, 1.0, 0.0], [0.0, 0.0], []]
        assert [[row.excluded for row in group.rows] for group in groups[1:3]] == [[True, False, True], [True, True]]
        assert numbers == {"replayed_fraction": 0.25, "replay_success_fraction": 0.5}
        OPR(success_threshold=0.5).annotate(groups)
        assert [row.ce for row in groups[1].rows] == [1.0, 0.0, 0.0]
        assert [row.ce for row in groups[2].rows] == [0.0, 1.0]

    def test_replay_of_a_teacher_is_for_demonstrations(self) -> None:
        with pytest.raises(ValueError, match="replay_source: teacher is for rows that are demonstrations"):
            RolloutSpec(source="student", replay_source="teacher")
        with pytest.raises(ValueError, match="replay_generations is for replay_source: teacher"):
            RolloutSpec(source="demonstrations", replay_generations=2)
        assert not OPR().is_taught()
        assert not OPR().uses_base()


class TestRAD:
    @pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
    def test_demonstrations_and_texts_have_a_mean_each(self, aggregation: Any) -> None:
        rows = [Row(EXAMPLE, [1], [2] * length, replayed=length > 3) for length in (1, 3, 4, 8)]
        RAD(aggregation=aggregation).annotate([Group(EXAMPLE, [row]) for row in rows])
        expected = (4.0, 16 / 12) if aggregation == "token_mean" else (2.0, 2.0)
        assert [(row.ce, row.base_kl) for row in rows[1:3]] == [(expected[0], 0.0), (0.0, expected[1])]

    def test_without_texts_it_is_sft(self) -> None:
        rows = [Row(EXAMPLE, [1], [2]), Row(EXAMPLE, [1], [2, 3])]
        assert RAD().annotate([Group(EXAMPLE, rows)]) == {"text_fraction": 0.0}
        assert [row.ce for row in rows] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: TokenWeight(tau=0.0), "tau is 0"),
        (lambda: TokenWeight(least=1.0), "least weight is 1"),
        (lambda: EntropyWeight(top_k=1), "set top_k to 2 or more"),
        (lambda: EntropyWeight(scale=0.0), "must be above 0"),
        (lambda: Objective(reference_without_token=True), "needs reference_kl_form: forward_kl"),
        (lambda: TALR(tau=0.0), "greater than 0"),
    ],
)
def test_what_cannot_work_is_refused(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("recipe", [TALR(), TALR(tau=2.0)], ids=["measured", "constant"])
def test_talr_says_which_tau_it_uses(recipe: Recipe) -> None:
    assert recipe.wiring()["signal"].endswith("τ 2" if recipe == TALR(tau=2.0) else "measured τ")

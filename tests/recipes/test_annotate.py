"""`holdfast.recipes`: what `annotate` of sft, sdft, sdpo and grpo writes on rows; defaults and refused settings."""

import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig, dump_recipe
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Group, Row
from holdfast.data.teacher_prompts import fill, strip_thinking
from holdfast.errors import ConfigError, DataError
from holdfast.recipes import GRPO, RECIPES, SDFT, SDPO, SFT, StableOPD
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.objective import Objective

CONVERSATION = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Hello {name}."),
    Message(role="assistant", content="Hello."),
    Message(role="user", content="What is {x} + 1? {prompt}"),
)


def example(messages: Sequence[Message] = CONVERSATION, **fields: str) -> Example:
    return Example("e1", tuple(messages), **fields)


def group(
    rewards: Sequence[float],
    *,
    completions: Sequence[str] | None = None,
    feedback: str = "",
    praise: str = "well done",
    of: Example | None = None,
) -> Group:
    """Rows of one prompt; a row that failed has the feedback, one that succeeded the praise."""
    of = of or example()
    texts = completions or [f"answer {i}" for i in range(len(rewards))]
    rows = [
        Row(of, [1], [2, 3, 4, 5], completion=text, verdict=Verdict(r, feedback=feedback if r < 0.5 else praise))
        for r, text in zip(rewards, texts, strict=True)
    ]
    return Group(of, rows)


def shown(row: Row) -> str:
    """The teacher's last message."""
    assert row.teacher_messages is not None
    return row.teacher_messages[-1]["content"]


# --- SFT ----------------------------------------------------------------------------------------------------------


def test_sft_counts_every_token_of_every_demonstration() -> None:
    one = group([0.0, 0.0])
    assert SFT().annotate([one]) == {}
    assert [(r.ce, r.div, r.advantage, r.skip_tokens, r.teacher_messages) for r in one.rows] == [(1, 0, 0, 0, None)] * 2


# --- SDFT ---------------------------------------------------------------------------------------------------------


def test_sdft_shows_the_demonstration_to_the_teacher_and_skips_the_lead_in() -> None:
    one = group([0.0], of=example(demonstration="It is {demonstration} {{2}}."))
    SDFT().annotate([one])
    (row,) = one.rows
    assert (row.div, row.ce, row.advantage, row.skip_tokens) == (1.0, 0.0, 0.0, 3)
    assert list(row.loss_positions()) == [3]
    assert shown(row).startswith("What is {x} + 1? {prompt}\n\n")
    assert "It is {demonstration} {{2}}." in shown(row)
    assert tuple(row.teacher_messages or ())[:3] == CONVERSATION[:3]
    assert row.example.messages == CONVERSATION, "the student's prompt is left as it was"


def test_sdft_prefers_the_privileged_context_to_the_demonstration() -> None:
    one = group([0.0], of=example(demonstration="the demonstration", privileged_context="the article"))
    SDFT().annotate([one])
    assert "the article" in shown(one.rows[0])
    assert "the demonstration" not in shown(one.rows[0])


def test_sdft_skip_is_a_setting_and_may_leave_nothing() -> None:
    of = example(demonstration="d")
    for skip, left in ((0, 4), (2, 2), (4, 0), (9, 0)):
        one = group([0.0], of=of)
        SDFT(num_loss_tokens_to_skip=skip).annotate([one])
        assert len(one.rows[0].loss_positions()) == left
        assert one.rows[0].has_signal == bool(left)


def test_sdft_takes_your_own_template() -> None:
    one = group([0.0], of=example([Message(role="user", content="Q")], demonstration="D"))
    SDFT(template='{"q": "{prompt}", "hint": "{demonstration}"}').annotate([one])
    assert shown(one.rows[0]) == '{"q": "Q", "hint": "D"}'


# --- SDPO ---------------------------------------------------------------------------------------------------------


def test_sdpo_shows_the_first_other_success() -> None:
    one = group([0.0, 1.0, 0.4, 1.0], feedback="wrong")
    metrics = SDPO().annotate([one])
    failed, first, partly, second = one.rows
    assert "Correct solution:\nanswer 1" in shown(failed)
    assert "Correct solution:\nanswer 1" in shown(partly)
    assert "Correct solution:\nanswer 3" in shown(first), "a success is shown another one, never itself"
    assert "Correct solution:\nanswer 1" in shown(second)
    assert all("wrong" not in shown(row) for row in one.rows), "feedback only where there is no solution"
    assert all(row.div == 1.0 and row.skip_tokens == 0 for row in one.rows)
    assert metrics == {
        "success_group_fraction": 1.0,
        "reprompt_fraction": 1.0,
        "solution_fraction": 1.0,
        "feedback_fraction": 0.0,
    }


def test_sdpo_never_shows_the_rows_own_attempt() -> None:
    one = group([0.0, 1.0, 0.0], feedback="wrong")
    SDPO(feedback="always").annotate([one])
    assert "answer 0" not in shown(one.rows[0])
    assert "answer 2" not in shown(one.rows[2])


def test_sdpo_gives_the_only_success_no_loss_unless_it_has_feedback() -> None:
    one = group([0.0, 1.0], praise="")
    metrics = SDPO().annotate([one])
    assert one.rows[0].has_signal
    assert not one.rows[1].has_signal
    assert one.rows[1].teacher_messages is None
    assert metrics["reprompt_fraction"] == 0.5

    praised = group([0.0, 1.0], praise="well done")
    metrics = SDPO().annotate([praised])
    assert praised.rows[1].div == 1.0
    assert "well done" in shown(praised.rows[1])
    assert "answer 1" not in shown(praised.rows[1]), "never its own text"
    assert metrics["feedback_fraction"] == metrics["solution_fraction"] == 0.5
    SDPO(feedback="never").annotate([never := group([0.0, 1.0], praise="well done")])
    assert not never.rows[1].has_signal

    own = group([0.0, 1.0])
    SDPO(exclude_own_success=False).annotate([own])
    assert "Correct solution:\nanswer 1" in shown(own.rows[1])


def test_sdpo_without_success_or_feedback_gives_no_signal() -> None:
    one = group([0.0, 0.4])
    metrics = SDPO().annotate([one])
    assert not any(row.has_signal for row in one.rows)
    assert all(row.teacher_messages is None for row in one.rows)
    assert set(metrics.values()) == {0.0}
    assert SDPO().annotate([])["reprompt_fraction"] == 0.0


def test_sdpo_feedback_settings() -> None:
    alone = group([0.0, 0.0], feedback="off by {one}")
    SDPO().annotate([alone])
    assert all("off by {one}" in shown(row) and "Correct solution" not in shown(row) for row in alone.rows)

    both = group([0.0, 1.0, 1.0], feedback="off by one")
    SDPO(feedback="always").annotate([both])
    assert "answer 1" in shown(both.rows[0])
    assert "off by one" in shown(both.rows[0])
    assert ["well done" in shown(row) for row in both.rows] == [False, True, True], "its own, whatever the reward"

    never = group([0.0, 0.0], feedback="off by one")
    SDPO(feedback="never").annotate([never])
    assert not any(row.has_signal for row in never.rows)

    blank = group([0.0, 0.0], feedback=" \n")
    SDPO().annotate([blank])
    assert not any(row.has_signal for row in blank.rows)


def test_sdpo_threshold_decides_what_is_a_solution() -> None:
    rewards = [0.2, 0.5, 0.8]
    by_default, strict = group(rewards), group(rewards)
    SDPO().annotate([by_default])
    SDPO(success_threshold=1.0).annotate([strict])
    assert "answer 1" in shown(by_default.rows[0])
    assert all("Correct solution" not in shown(row) for row in strict.rows if row.has_signal)
    assert "well done" in shown(strict.rows[2]), "below the threshold it is a failure with feedback"


def test_sdpo_groups_do_not_share_solutions() -> None:
    solved, unsolved = group([1.0, 0.0], praise=""), group([0.0, 0.0])
    metrics = SDPO().annotate([solved, unsolved])
    assert not any(row.has_signal for row in unsolved.rows)
    assert metrics["success_group_fraction"] == 0.5
    assert metrics["reprompt_fraction"] == 0.25


def test_sdpo_keeps_the_conversation_and_every_brace() -> None:
    texts = ["{solution} {feedback}", "def f(): return {prompt: {0}}"]
    one = group([0.0, 1.0], completions=texts, feedback="{feedback}")
    SDPO(feedback="always").annotate([one])
    messages = tuple(one.rows[0].teacher_messages or ())
    assert messages[:3] == CONVERSATION[:3]
    assert messages[3]["role"] == "user"
    assert messages[3]["content"] == (
        "What is {x} + 1? {prompt}"
        "\n\nCorrect solution:\ndef f(): return {prompt: {0}}"
        "\n\nThe following is feedback from your unsuccessful earlier attempt:\n{feedback}"
        "\n\nCorrectly solve the original question."
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>a\nb</think>\n\nAnswer", "Answer"),
        ("a thought without an opening tag</think>\nAnswer", "Answer"),
        ("<think>a</think> One <think>b</think> Two", "One Two"),
        ("opened in the template</think>Now <think>again</think>Answer", "Now Answer"),
        ("no thought at all", "no thought at all"),
    ],
)
def test_thinking_is_stripped(text: str, left: str) -> None:
    assert strip_thinking(text) == left
    one = group([0.0, 1.0], completions=["wrong", text])
    SDPO().annotate([one])
    assert f"Correct solution:\n{left}\n\nCorrectly" in shown(one.rows[0])


def test_thinking_can_be_kept() -> None:
    one = group([0.0, 1.0], completions=["wrong", "<think>a</think>b"])
    SDPO(remove_thinking_from_demonstration=False).annotate([one])
    assert "<think>a</think>b" in shown(one.rows[0])


def test_sdpo_skips_a_success_that_is_only_reasoning() -> None:
    one = group([0.0, 1.0, 1.0], completions=["wrong", "<think>42</think>", "42"], praise="")
    SDPO().annotate([one])
    assert "Correct solution:\n42\n" in shown(one.rows[0])
    assert not one.rows[2].has_signal, "the only other success has nothing to show"


@given(prompt=st.text(), solution=st.text(), feedback=st.text())
def test_text_is_inserted_unchanged(prompt: str, solution: str, feedback: str) -> None:
    filled = fill("<{prompt}|{solution}|{feedback}|{other}>", prompt=prompt, solution=solution, feedback=feedback)
    assert filled == f"<{prompt}|{solution}|{feedback}|{{other}}>"


def test_a_conversation_without_a_question_is_refused() -> None:
    one = group([0.0], of=example([Message(role="system", content="s")], demonstration="d"))
    with pytest.raises(DataError, match="has no user message"):
        SDFT().annotate([one])


# --- GRPO ---------------------------------------------------------------------------------------------------------


def advantages(recipe: GRPO, *groups: Group) -> list[float]:
    recipe.annotate(groups)
    return [row.advantage for one in groups for row in one.rows]


def test_grpo_normalizes_by_the_groups_mean_and_standard_deviation() -> None:
    # mean .5, sample standard deviation sqrt(4 · .25 / 3) = .57735
    expected = 0.5 / (0.5773502692 + 1e-4)
    got = advantages(GRPO(), group([1, 0, 0, 1]))
    assert got == pytest.approx([expected, -expected, -expected, expected])


def test_grpo_scale_rewards() -> None:
    rewards = [1.0, 0.0], [1.0, 1.0]
    # Over the batch: mean .75, sample standard deviation .5; groups are still centered on their own mean.
    batch = advantages(GRPO(scale_rewards="batch"), *map(group, rewards))
    assert batch == pytest.approx([0.5 / 0.5001, -0.5 / 0.5001, 0, 0])
    assert advantages(GRPO(scale_rewards="none"), *map(group, rewards)) == [0.5, -0.5, 0, 0]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("reward", [0.0, 0.1, 0.7, 1.0])
def test_a_group_without_variance_has_no_signal(scale: str, reward: float) -> None:
    equal, mixed = group([reward] * 3), group([0.0, 1.0, 0.3])
    metrics = GRPO(scale_rewards=scale).annotate([equal, mixed])  # type: ignore[arg-type]
    assert [row.advantage for row in equal.rows] == [0.0] * 3, "not even by the rounding of the mean"
    assert not any(row.has_signal for row in equal.rows)
    assert all(row.has_signal for row in mixed.rows)
    assert metrics == {"zero_variance_fraction": 0.5}


def test_grpo_of_nothing_or_of_single_rows() -> None:
    assert GRPO(scale_rewards="batch").annotate([]) == {"zero_variance_fraction": 0.0}
    assert advantages(GRPO(), group([1.0])) == [0.0]


def test_grpo_can_mask_truncated_completions() -> None:
    for recipe, masked in ((GRPO(beta=0.1), False), (GRPO(variant="dapo", beta=0.1), True)):
        one = group([1.0, 0.0])
        one.rows[1].truncated = True
        recipe.annotate([one])
        assert one.rows[0].has_signal
        assert one.rows[1].has_signal == (not masked)
        assert one.rows[0].advantage == pytest.approx(0.5 / (0.7071067812 + 1e-4)), "it counts in the group's mean"


def test_with_beta_every_row_has_a_kl_to_the_base() -> None:
    plain, held = group([1.0, 1.0]), group([1.0, 1.0])
    GRPO().annotate([plain])
    GRPO(beta=0.04).annotate([held])
    assert not any(row.has_signal for row in plain.rows)
    assert all(row.has_signal and row.base_kl == 1.0 and row.advantage == 0.0 for row in held.rows)


def test_variants_are_presets_whose_settings_can_be_overridden() -> None:
    def of(recipe: GRPO) -> tuple[object, ...]:
        o, pg = recipe.objective(), recipe.objective().policy_gradient
        assert pg is not None
        scale, mask = recipe.scale_rewards, recipe.mask_truncated_completions
        return (pg.ratio, pg.surrogate, pg.epsilon, pg.epsilon_high, o.aggregation, scale, mask)

    assert of(GRPO()) == of(GRPO(variant="grpo")) == ("token", "clip", 0.2, 0.2, "sequence_mean", "group", False)
    assert of(GRPO(variant="dr_grpo")) == ("token", "clip", 0.2, 0.2, "constant", "none", False)
    assert of(GRPO(variant="dapo")) == ("token", "clip", 0.2, 0.28, "token_mean", "group", True)
    assert of(GRPO(variant="gspo")) == ("sequence", "clip", 3e-4, 4e-4, "sequence_mean", "group", False)
    assert of(GRPO(variant="cispo")) == ("token", "cispo", 0.2, 5.0, "token_mean", "group", False)
    mixed = GRPO(variant="dapo", epsilon_high=0.3, aggregation="constant", mask_truncated_completions=False)
    assert of(mixed) == ("token", "clip", 0.2, 0.3, "constant", "group", False)


# --- Settings -----------------------------------------------------------------------------------------------------


def test_the_papers_defaults() -> None:
    sdft, sdpo, grpo = SDFT(), SDPO(), GRPO()
    assert sdft.objective() == Objective(divergence="forward_kl", importance="sequence_mean", importance_cap=2.0)
    assert (sdft.rollouts().num_generations, sdft.teacher().kind, sdft.teacher().rate) == (1, "ema", 0.01)
    assert sdft.teacher().cadence == "optimizer_step"
    assert sdpo.objective() == Objective(
        divergence="jsd", jsd_beta=0.5, support="topk_tail", top_k=100, importance="token", importance_cap=2.0
    )
    assert (sdpo.rollouts().num_generations, sdpo.teacher().rate, sdpo.teacher().cadence) == (8, 0.05, "rollout_batch")
    assert (grpo.teacher(), grpo.objective().reference_kl, grpo.rollouts().num_generations) == (None, 0.0, 8)
    assert SFT().objective() == Objective(aggregation="token_mean")
    assert SFT().rollouts().source == "demonstrations"


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_dumped_recipe_reads_back_as_itself(name: str) -> None:
    recipe = RECIPES[name]()
    settings = dump_recipe(recipe)
    assert settings.pop("name") == name
    assert RECIPES[name].model_validate(settings) == recipe
    more = {"controllers", "guide", "guidance", "penalty"}
    assert set(recipe.wiring()) - more == {"rollouts", "teacher", "signal", "reduction"}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_an_unknown_setting_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        RECIPES[name].model_validate({"learning_rat": 1})


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        (SDFT, {"support": "sampled"}, "set divergence: reverse_kl"),
        (SDPO, {"support": "sampled"}, "set divergence: reverse_kl"),
        (SDPO, {"support": "topk_renormalized", "top_k": 1}, "raise top_k"),
        (SDPO, {"num_generations": 1, "feedback": "never"}, "raise num_generations"),
        (SDPO, {"solution_template": "Look:"}, "solution_template has no placeholder {solution}"),
        (SDPO, {"reprompt_template": "{prompt}{solution}"}, "reprompt_template has no placeholder {feedback}"),
        (SDFT, {"template": "{prompt}"}, "template has no placeholder {demonstration}"),
        (GRPO, {"surrogate": "cispo"}, "epsilon_high is 0.2; with surrogate: cispo it caps the ratio itself"),
        (GRPO, {"variant": "ppo"}, "variant"),
        (GRPO, {"variant": ["dapo"]}, "variant"),
        (GRPO, {"num_generations": 1}, "num_generations"),
        (GRPO, {"epsilon": "0.2"}, "epsilon"),
        (SDFT, {"jsd_beta": 1.0}, "jsd_beta"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(
    recipe: type[Recipe], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe.model_validate(settings)
    with pytest.raises(ConfigError, match=message) as refused:
        parse_config({"tasks": ["lab:calculation"], "recipe": {"name": recipe.name, **settings}}, RunConfig)
    assert "\n" not in str(refused.value)


def test_recipes_import_without_torch() -> None:
    modules = "holdfast.recipes, holdfast.recipes.parts.objective, holdfast.data.teacher_prompts"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- StableOPD ----------------------------------------------------------------------------------------------------


def test_stable_opd_counts_repetition_loops() -> None:
    rows = [Row(example(demonstration="d"), [1], [2], text, sampled_logprobs=[-1.0]) for text in ("so " * 400, "yes")]
    assert StableOPD().annotate([Group(rows[0].example, rows)]) == {"looping_fraction": 0.5}
    assert [(row.ce, row.div, row.base_kl) for row in rows] == [(0, 1, 1)] * 2

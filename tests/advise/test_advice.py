"""`holdfast.advise`: the cost of recipes relative to SFT, and which recipes fit a stream."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from commands import Commands
from holdfast.advise.advice import BEGINNINGS, advise, beginning
from holdfast.advise.cost import Passes, cost_of, stream_cost
from holdfast.cli.advise import as_text
from holdfast.cli.methods import recipe_facts
from holdfast.config.settings import ModelSettings
from holdfast.data.environment import Episodes
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import Task
from holdfast.errors import ConfigError
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.recipes import (
    ATESD,
    DFT,
    EWC,
    GRPO,
    ISDFT,
    KLSFT,
    NPO,
    OPSD,
    RECIPES,
    SDFT,
    SDPO,
    SFT,
    SORT,
    AutoNPO,
    Replay,
    RewriteSFT,
    SDZero,
    StableOPD,
)
from holdfast.recipes.base.needs import require
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.penalty import FisherPenalty, MovementPenalty
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.train.penalty import FisherHold, MovementHold
from holdfast.train.teacher import Teacher


def _task(name: str, *, judged: bool = False, **privileges: Any) -> Task:
    example = Example(name, (Message(role="user", content="?"),), **privileges)
    return Task(name, [example], [example], (lambda example, text: Verdict(1.0)) if judged else None)


def test_costs_are_counted_from_the_wiring() -> None:
    sft = cost_of(SFT())
    assert (sft.step, sft.stage, sft.copies, sft.step.total) == (Passes(0, 1, 1), Passes(), 0, 3)
    sdft = cost_of(SDFT())
    assert sdft.step == Passes(1, 2, 1)
    assert sdft.held == ("the EMA teacher", "the base")  # the teacher restarts from it
    assert sdft.relative_to(sft) == pytest.approx(5 / 3)
    assert sdft.memory_relative_to(sft) == 1.5
    assert cost_of(SDFT(teacher_kind="frozen")).held == ("the base",)
    assert cost_of(SDFT(teacher_kind="live")).held == ()
    assert cost_of(SDFT(stage_start="student")).held == ("the EMA teacher",)
    assert cost_of(SDPO()).relative_to(sft) == pytest.approx(8 * 5 / 3)
    assert cost_of(GRPO()).relative_to(sft) == pytest.approx(8 * 4 / 3)
    assert cost_of(GRPO(beta=0.1)).relative_to(sft) == pytest.approx(8 * 5 / 3)
    assert cost_of(GRPO(beta=0.1)).copies == 1
    # Each prompt has four near-future answers.
    assert cost_of(NPO()).step.total == pytest.approx(cost_of(GRPO()).step.total + 4)
    grpo, npo = (cost_of(recipe, prompts_per_step=6) for recipe in (GRPO(), NPO(scout_steps=10)))
    assert npo.stage == Passes(forwards=128) + grpo.step * (10 * 6), "ten more steps per stage, whatever its length"
    # Four steps on one rollout batch sample once and score the base once.
    assert cost_of(GRPO(beta=0.1, num_iterations=4)).step.total == pytest.approx(8 * (3 + 2 / 4))


class Practicing(ISDFT):
    """iSDFT that samples some of earlier tasks' prompts anew."""

    name: ClassVar[str] = "practicing"

    def rollouts(self) -> RolloutSpec:
        return replace(super().rollouts(), replay_ratio=0.25)


def test_replayed_prompts_are_sampled_and_scored_like_others_from_the_second_stage_on() -> None:
    assert cost_of(Practicing()).step == Passes(1.25, 1.25 * 3, 1.25)
    assert cost_of(Practicing(), is_first=True).step == Passes(1, 3, 1)
    assert cost_of(Replay(), is_first=True).step == Passes(0, 1, 1)
    listed = Replay(replay_source="base", prompts="some.jsonl")
    assert cost_of(listed, is_first=True) == cost_of(listed)  # the file replaces earlier tasks
    assert stream_cost(Practicing(), [100]).completions == 100
    assert stream_cost(Practicing(), [100, 40]).completions == 150


def test_the_cost_of_a_probe_is_divided_by_the_prompts_between_two_probes() -> None:
    plain, probed = cost_of(OPSD()).step, cost_of(ATESD(hold=5, probe_prompts=8), prompts_per_step=4).step
    assert (probed.completions, probed.forwards) == pytest.approx((plain.completions + 0.4, plain.forwards + 0.8))
    assert probed.backwards == plain.backwards
    assert cost_of(ATESD(exposure=1.0)).step == plain


def test_work_once_per_stage_is_counted() -> None:
    assert cost_of(EWC()).stage == Passes(200, 200, 200)
    empirical = EWC(sequences="demonstrations", num_sequences=50)
    assert cost_of(empirical).stage == Passes(0, 50, 50)
    assert cost_of(empirical, is_first=True).stage == Passes()  # there is no earlier task
    assert stream_cost(EWC(), [100, 100]).total == 2 * 100 * 3 + 2 * 200 * 4
    # Three of four candidates answer; 3 + 2 + 1 earlier candidates score the right answers.
    assert cost_of(AutoNPO(failures=10, guide_samples=2)).stage == Passes(3 * 20, 6 * 20)
    assert cost_of(AutoNPO(failures=10, guide_samples=2, rounds=2)).stage == Passes(6 * 20, 12 * 20)


def test_a_teacher_that_weights_references_scores_only_these() -> None:
    assert cost_of(SORT()).step == Passes(8, 8 + 2, 8 + 1)
    assert cost_of(SORT(plan_share=0.0)).step == Passes(8, 8 + 1, 8 + 1)
    assert cost_of(StableOPD()).step == Passes(1, 3.25, 1.25)


def test_the_more_expensive_of_two_phases_counts() -> None:
    assert cost_of(SDZero(phase=1)).step == Passes(2, 1, 1)  # answer and revision; only the latter trains
    assert cost_of(SDZero(phase=2)).step == Passes(1, 2, 1)
    assert cost_of(SDZero()).step == cost_of(SDZero(phase=1)).step  # the same total, with more samples


MORE_SETTINGS = (
    SDFT(teacher_kind="frozen", stage_start="student"),
    SDFT(teacher_kind="trust_region"),
    SDFT(teacher_kind="periodic"),
    SDFT(stage_start="keep"),
    GRPO(beta=0.1),
    KLSFT(old_model="stage_start"),
    Replay(replay_source="base"),
    SDZero(phase=1),
)


@pytest.mark.parametrize("recipe", [*(kind() for kind in RECIPES.values()), *MORE_SETTINGS], ids=lambda r: str(r.name))
def test_as_many_copies_are_counted_as_the_engine_holds(tiny_model: Path, recipe: Recipe) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    base = Base(policy) if recipe.uses_base() else None
    teacher = None if (spec := recipe.teacher()) is None else Teacher(spec, policy, base)
    held = sum(each is not None and each.copy is not None for each in (base, teacher))
    if isinstance(penalty := recipe.penalty(), FisherPenalty):
        hold = FisherHold(penalty, policy)
        hold.begin(1, lambda: {name: torch.zeros_like(each) for name, each in policy.named_trainable().items()})
        held += len(hold.state()) // len(policy.named_trainable())
    if isinstance(penalty, MovementPenalty):
        moved = MovementHold(penalty, policy)
        moved.begin(1, dict)
        held += len(moved.start) // len(policy.named_trainable())
    assert cost_of(recipe).copies == held


def test_words_name_as_many_copies_as_are_counted() -> None:
    for name, facts in recipe_facts().items():
        said = re.findall(r"\b(no|\d+)(?: \w+)? cop(?:y|ies)\b", facts["cost"])
        assert said == [str(cost_of(RECIPES[name]()).copies or "no")], f"{name}: {facts['cost']}"


def test_a_recipe_that_cannot_run_names_what_is_missing() -> None:
    found = {each.recipe: each for each in advise([_task("a", demonstration="x"), _task("b")], [50, 50], is_lora=False)}
    assert found["sft"].lacks == {"b": ["demonstration"]}
    assert found["grpo"].lacks == {"a": ["reward"], "b": ["reward"]}
    assert not found["sft"].fits


def test_the_budget_decides_and_lora_holds_no_copies() -> None:
    tasks = [_task("a", demonstration="x", judged=True)]
    found = {each.recipe: each for each in advise(tasks, [100], is_lora=True, most=5)}
    assert found["sdft"].fits
    assert found["grpo"].over_budget
    assert not found["grpo"].fits
    assert found["grpo"].completions == 800
    assert {each.relative_memory for each in found.values()} == {1.0}
    assert all(each.fits for each in advise(tasks, [100], is_lora=True) if not each.lacks)


def test_an_adapter_per_stage_needs_lora() -> None:
    tasks = [_task("a", demonstration="x")]
    lacking = [{a.recipe: a for a in advise(tasks, [1], is_lora=lora)}["olora"].lacks for lora in (True, False)]
    assert lacking == [{}, {"the model": ["LoRA"]}]


def test_the_recommendation_follows_the_order_of_the_evidence() -> None:
    everything = advise([_task("a", demonstration="x", judged=True)], [1], is_lora=False)
    fitting = {each.recipe for each in everything if each.fits}
    found = beginning(everything)
    assert found is not None
    assert found.recipe == next(each.recipe for each in BEGINNINGS if each.recipe in fitting)
    assert beginning(advise([_task("a")], [1], is_lora=False, recipes=[SFT, GRPO])) is None


@pytest.mark.parametrize(
    ("privileges", "judged", "most", "first"),
    [
        ({}, True, None, "grpo"),
        ({}, True, 8, "rft"),
        ({}, True, 2, "sd_zero"),
        ({}, True, 1.5, "ssd"),
        ({}, False, None, "ssd"),
        ({}, False, 1.2, None),
        ({"translation": (Message(role="user", content="¿?"),)}, False, None, "msd"),
        ({"demonstration": "x"}, False, 1.2, "sft"),
    ],
)
def test_if_a_recipe_fits_one_is_recommended(
    privileges: dict[str, Any], judged: bool, most: float | None, first: str | None
) -> None:
    found = beginning(advise([_task("a", judged=judged, **privileges)], [1000], is_lora=False, most=most))
    assert (found.recipe if found is not None else None) == first


def test_without_evidence_the_cheapest_recipe_is_recommended() -> None:
    found = beginning(advise([_task("a", demonstration="x")], [100], is_lora=False, recipes=[Practicing, DFT, KLSFT]))
    assert found is not None
    assert (found.recipe, found.source) == ("dft", None)
    assert "cheapest recipe that fits; we know of no evidence for this case" in found.reason
    assert "Start with dft: it is" in as_text({}, [], found)


def test_a_recipe_fits_if_and_only_if_a_run_accepts_it() -> None:
    episodes = Episodes(lambda example: None, 3)  # type: ignore[arg-type, return-value]
    turns = replace(_task("turns", demonstration="x"), episodes=episodes)
    tasks = [turns, _task("bare"), _task("shown", demonstration="x"), _task("judged", judged=True)]
    for task in tasks:
        for each in advise([task], [1], is_lora=True):
            try:
                require(RECIPES[each.recipe](), [task])
            except ConfigError:
                assert not each.fits, (each.recipe, task.name)
            else:
                assert each.fits, (each.recipe, task.name)
    found = {each.recipe: each for each in advise([turns], [1], is_lora=True)}
    assert found["sd_zero"].lacks == {"turns": ["answers_of_one_turn"]}
    assert "needs answers of one turn; missing in turns" in as_text({}, list(found.values()), None)


def test_a_recipe_is_judged_with_the_configurations_settings() -> None:
    tasks = [_task("a", demonstration="x"), _task("b", demonstration="x")]
    named = {"gated": SDFT(teacher_kind="gated"), "still": SDFT(teacher_kind="frozen", num_generations=3)}
    found = {each.label: each for each in advise(tasks, [50, 50], is_lora=False, named=named)}
    assert "sdft" not in found
    assert found["gated"].lacks == {"a": ["reward"], "b": ["reward"]}
    assert not found["gated"].fits
    assert (found["still"].completions, found["still"].relative_memory) == (300, 1.25)
    assert found["still"].relative_cost == pytest.approx(3 * 5 / 3)
    assert found["still"].settings == {"teacher_kind": "frozen", "num_generations": 3}
    assert found["opsd"].settings == {}
    text = as_text({}, list(found.values()), beginning([found["still"]]))
    assert "still (sdft) with teacher_kind frozen, num_generations 3" in text
    assert "All others: default settings." in text
    first = "Start with still (sdft) with the settings of this configuration (arXiv 2601.19897, with other settings)"
    assert first in text
    text = as_text({}, advise(tasks, [1, 1], is_lora=True), None)
    assert "All recipes are rated with their default settings." in text


def test_with_one_task_nothing_is_replayed() -> None:
    tasks = [_task("a", demonstration="x"), _task("b", demonstration="x")]
    known = replace(BEGINNINGS[0], recipe="practicing")
    said, costs = [], []
    for stream in (tasks, tasks[:1]):
        (found,) = advise(stream, [10] * len(stream), is_lora=False, recipes=[Practicing])
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("holdfast.advise.advice.BEGINNINGS", (known,))
            first = beginning([found])
        assert first is not None
        said.append(("earlier tasks" in first.reason, "nothing is replayed" in as_text({}, [found], first)))
        costs.append(found.relative_cost)
    assert said == [(True, False), (False, True)]
    assert costs == pytest.approx([(6 + 7.5) / 6, 2.0])
    assert {each.recipe: each.replays for each in advise(tasks, [1, 1], is_lora=True)}["sft"] is False


def test_a_recipe_that_is_set_to_replay_is_said_to() -> None:
    tasks = [_task("a", demonstration="x"), _task("b", demonstration="x")]
    for ratio in (0.0, 0.5):
        known = {"mine": SDFT(replay_ratio=ratio)}
        (found,) = advise(tasks, [10, 10], is_lora=True, recipes=[SDFT], named=known)
        first = beginning([found])
        assert first is not None
        assert found.replays is (ratio > 0)
        assert ("prompts of earlier tasks" in first.reason) is (ratio > 0)
        assert found.settings == ({"replay_ratio": 0.5} if ratio else {})


def test_the_command_prints_and_writes_what_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holdfast = Commands(tmp_path, capsys)
    config = holdfast.config({"tasks": ["lab:calculation"], "train": {"steps": 10, "prompts_per_step": 3}})
    done = holdfast("advise", config, "--budget", "5", "--json", tmp_path / "advice.json")
    assert done.code == 0, done.err
    assert "calculation provides: demonstration, privileged context, reward" in done.out
    written = json.loads((tmp_path / "advice.json").read_text())
    by_name = {each["recipe"]: each for each in written["recipes"]}
    assert set(by_name) == set(RECIPES)
    assert written["prompts"] == 30
    assert by_name["sdpo"]["over_budget"]
    assert by_name["sdpo"]["completions"] == 240
    assert f"Start with {written['begin_with']['recipe']} " in done.out
    assert "All recipes are rated with their default settings." in done.out


def test_the_command_uses_the_configurations_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holdfast = Commands(tmp_path, capsys)
    base = {"tasks": ["lab:calculation"], "train": {"steps": 10, "prompts_per_step": 3}}
    single = holdfast.config(base | {"recipe": {"name": "sdpo", "num_generations": 2}})
    done = holdfast("advise", single, "--budget", "5", "--json", tmp_path / "advice.json")
    assert "Rated with the settings of this configuration: sdpo with num_generations 2. All others" in done.out
    by_name = {each["recipe"]: each for each in json.loads((tmp_path / "advice.json").read_text())["recipes"]}
    assert (by_name["sdpo"]["fits"], by_name["sdpo"]["completions"]) == (True, 60)
    arms = [{"name": "sdpo", "num_generations": 2, "label": "few"}, "sdpo"]
    done = holdfast("advise", holdfast.config(base | {"recipes": arms}), "--budget", "5")
    assert re.search(r"^few \(sdpo\) +fits ", done.out, re.M)
    assert re.search(r"^sdpo +over budget ", done.out, re.M)


def test_an_environment_keeps_a_recipe_of_one_turn_from_fitting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holdfast = Commands(tmp_path, capsys)
    config = holdfast.config({"model": {"path": "lab"}, "tasks": ["lab:quests"]})
    done = holdfast("advise", config)
    assert re.search(r"^sd_zero +cannot run .*needs answers of one turn; missing in quests$", done.out, re.M)


def test_the_command_works_on_a_comparison_and_refuses_nonsense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holdfast = Commands(tmp_path, capsys)
    config = holdfast.config({"tasks": ["lab:facts"], "recipes": ["sft"]})
    assert holdfast("advise", config).code == 0
    broken = holdfast("advise", holdfast.config({"tasks": ["lab:facts"], "steps": 3}))
    assert broken.code == 2
    assert "steps: unknown key" in broken.err


def test_rewriting_costs_its_tries_once_and_keeps_the_base_only_if_that_writes() -> None:
    """The tries are counted as if every prompt came once, which is the most."""
    cost = cost_of(RewriteSFT(tries=3))
    assert cost.step == Passes(completions=3, forwards=1, backwards=1)
    assert cost.held == ("the base",)
    assert cost_of(RewriteSFT(writer="student")).held == ()
    replaying = cost_of(RewriteSFT(tries=3, replay_ratio=0.5))
    assert replaying.step == Passes(completions=3, forwards=1.5, backwards=1.5)

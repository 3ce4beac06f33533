"""What a recipe costs beside SFT, and which recipes are said to fit."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from commands import Commands
from holdfast.errors import ConfigError
from holdfast.methods import GRPO, NPO, RECIPES, SDFT, SDPO, SFT
from holdfast.methods.advice import BEGINNINGS, advise, beginning
from holdfast.methods.cost import cost_of
from holdfast.tasks.base import Example, Message, Task, Verdict
from holdfast.tasks.environment import Episodes
from holdfast.tasks.load import require


def _task(name: str, *, demonstration: str | None = None, judged: bool = False) -> Task:
    example = Example(name, (Message(role="user", content="?"),), demonstration=demonstration)
    return Task(name, [example], [example], (lambda example, text: Verdict(1.0)) if judged else None)


def test_costs_are_counted_from_the_wiring() -> None:
    sft = cost_of(SFT())
    assert (sft.completions, sft.forwards, sft.backwards, sft.copies, sft.passes) == (0, 1, 1, 0, 3)
    sdft = cost_of(SDFT())
    assert (sdft.completions, sdft.forwards, sdft.backwards) == (1, 2, 1)
    assert sdft.copies == 2  # its average, and the base that it restarts from
    assert sdft.relative_to(sft) == pytest.approx(5 / 3)
    assert sdft.memory_relative_to(sft) == 1.5
    assert cost_of(SDFT(teacher_kind="frozen")).copies == 1
    assert cost_of(SDFT(teacher_kind="live")).copies == 0
    assert cost_of(SDFT(stage_start="student")).copies == 1
    assert cost_of(SDPO()).relative_to(sft) == pytest.approx(8 * 5 / 3)
    assert cost_of(GRPO()).relative_to(sft) == pytest.approx(8 * 4 / 3)
    assert cost_of(GRPO(beta=0.1)).relative_to(sft) == pytest.approx(8 * 5 / 3)
    assert cost_of(GRPO(beta=0.1)).copies == 1
    # At most a whole stage of it is undone and taken again, and each prompt is answered four times ahead.
    assert cost_of(NPO()).passes == pytest.approx(2 * cost_of(GRPO()).passes + 4)
    # Four steps on one batch of rollouts sample once and score the base once.
    assert cost_of(GRPO(beta=0.1, num_iterations=4)).passes == pytest.approx(8 * (3 + 2 / 4))


def test_a_recipe_that_a_task_cannot_feed_names_what_is_lacking() -> None:
    found = {each.recipe: each for each in advise([_task("a", demonstration="x"), _task("b")], 100, is_lora=False)}
    assert found["sft"].lacks == {"b": ["demonstration"]}
    assert found["grpo"].lacks == {"a": ["reward"], "b": ["reward"]}
    assert not found["sft"].fits


def test_the_budget_decides_and_lora_holds_no_copies() -> None:
    tasks = [_task("a", demonstration="x", judged=True)]
    found = {each.recipe: each for each in advise(tasks, 100, is_lora=True, most=5)}
    assert found["sdft"].fits
    assert found["grpo"].over_budget
    assert not found["grpo"].fits
    assert found["grpo"].completions == 800
    assert {each.relative_memory for each in found.values()} == {1.0}
    assert all(each.fits for each in advise(tasks, 100, is_lora=True) if not each.lacks)


def test_adapters_for_each_stage_take_lora() -> None:
    tasks = [_task("a", demonstration="x")]
    lacking = [{a.recipe: a for a in advise(tasks, 1, is_lora=lora)}["olora"].lacks for lora in (True, False)]
    assert lacking == [{}, {"the model": ["LoRA"]}]


def test_what_to_begin_with_follows_the_order_of_the_evidence() -> None:
    everything = advise([_task("a", demonstration="x", judged=True)], 1, is_lora=False)
    fitting = {each.recipe for each in everything if each.fits}
    assert beginning(everything) == next(each for each in BEGINNINGS if each.recipe in fitting)
    judged = beginning(advise([_task("a", judged=True)], 1, is_lora=False))
    assert judged is not None
    assert judged.recipe == "grpo"
    assert beginning(advise([_task("a")], 1, is_lora=False, recipes=[SFT, GRPO])) is None


def test_the_command_says_and_writes_what_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert f"Begin with {written['begin_with']['recipe']} " in done.out


def test_the_command_works_on_a_comparison_and_refuses_nonsense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holdfast = Commands(tmp_path, capsys)
    config = holdfast.config({"tasks": ["lab:facts"], "recipes": ["sft"]})
    assert holdfast("advise", config).code == 0
    broken = holdfast("advise", holdfast.config({"tasks": ["lab:facts"], "steps": 3}))
    assert broken.code == 2
    assert "steps: unknown key" in broken.err


def test_what_is_said_to_fit_is_what_a_run_accepts() -> None:
    episodes = Episodes(lambda example: None, 3)  # type: ignore[arg-type, return-value]
    turns = replace(_task("turns", demonstration="x"), episodes=episodes)
    tasks = [turns, _task("bare"), _task("shown", demonstration="x"), _task("judged", judged=True)]
    for task in tasks:
        for each in advise([task], 1, is_lora=True):
            try:
                require(RECIPES[each.recipe](), [task])
            except ConfigError:
                assert not each.fits, (each.recipe, task.name)
            else:
                assert each.fits, (each.recipe, task.name)
    found = {each.recipe: each for each in advise([turns], 1, is_lora=True)}
    assert found["sd_zero"].lacks == {"turns": ["answers_of_one_turn"]}


def test_an_environment_keeps_a_recipe_of_one_turn_from_fitting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holdfast = Commands(tmp_path, capsys)
    config = holdfast.config({"model": {"path": "lab-wide"}, "tasks": ["lab:quests"]})
    done = holdfast("advise", config)
    assert re.search(r"^sd_zero +cannot run .*needs answers of one turn, which quests lacks$", done.out, re.M)

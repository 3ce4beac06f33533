"""`holdfast.stream.check.preview`: an example as the model sees it, and which of its tokens have a loss."""

from pathlib import Path
from typing import Any

import pytest

from holdfast import api
from small_runs import write_config


def _target(preview: dict[str, Any]) -> str:
    return "".join(part["text"] for part in preview["target"])


def test_prompt_and_target_are_shown_with_special_tokens(tmp_path: Path) -> None:
    shown, _ = api.check(write_config(tmp_path, "grpo", recipe="sft"), items=2)["preview"]
    number = shown["prompt"].split("What is ")[1].split(" ")[0]
    assert shown["prompt"] == f"<|im_start|>user\nWhat is {number} plus 0?<|im_end|>\n<|im_start|>assistant\n"
    assert _target(shown) == f"{number}.<|im_end|>"
    assert (shown["source"], shown["teacher_prompt"], shown["has_signal"]) == ("demonstration", None, True)


def test_the_teachers_prompt_is_shown_and_skipped_tokens_are_marked(tmp_path: Path) -> None:
    path = write_config(tmp_path, "sdft with LoRA")
    shown, _ = api.check(path, items=2, **{"recipe.num_loss_tokens_to_skip": 2})["preview"]
    assert "One good answer to this is:" in shown["teacher_prompt"]
    assert "One good answer" not in shown["prompt"]
    assert shown["source"] == "sample"
    assert (shown["target"][0]["loss"], shown["target"][0]["tokens"]) == ("skipped", 2)
    assert shown["target"][1]["loss"] == "loss"


def test_tokens_of_weight_0_are_marked(tmp_path: Path) -> None:
    path = write_config(tmp_path, "sdft with LoRA")
    shown, _ = api.check(path, items=2, **{"recipe.token_mask_ratio": 0.5})["preview"]
    assert {part["loss"] for part in shown["target"]} == {"loss", "weight 0"}


def test_an_environments_tokens_are_marked(tmp_path: Path) -> None:
    path = write_config(tmp_path, "actguide", train={"max_completion_length": 200, "max_prompt_length": 300})
    tasks = [
        {"name": "talk", "train": str(tmp_path / "0.jsonl"), "environment_factory": "judges:Talkative", "max_turns": 8}
    ]
    recipe = {"name": "sft"}
    (shown,) = api.check(path, items=2, tasks=tasks, recipe=recipe)["preview"]
    of_environment = [part["text"] for part in shown["target"] if part["loss"] == "environment"]
    assert "go on 1" in of_environment[0]
    assert "<|im_start|>user" in of_environment[0]
    assert "Take one." in shown["target"][0]["text"]


def test_a_batch_without_a_signal_still_shows_one(tmp_path: Path) -> None:
    path = write_config(tmp_path, "grpo", recipe="grpo")
    shown, _ = api.check(path, items=2, **{"tasks.plus-0.verifier": "judges:never"})["preview"]
    assert not shown["has_signal"]
    assert _target(shown)


@pytest.mark.parametrize("name", ["ewc", "sd_zero", "atesd"])
def test_every_kind_of_recipe_has_one(tmp_path: Path, name: str) -> None:
    for shown in api.check(write_config(tmp_path, name), items=2)["preview"]:
        assert shown["prompt"].startswith("<|im_start|>user")
        assert _target(shown)

"""`holdfast.recipes`: opr, rad, tmkl and asft lose less than SFT, and rapo's reward keeps its model where it was."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.config.load import parse_config
from holdfast.config.settings import ModelSettings, RunConfig, TrainSettings
from holdfast.data.example import Verdict
from holdfast.data.task import Task
from holdfast.lab.tasks import lab_suite, lab_task
from holdfast.model.load import load_policy
from holdfast.recipes import SFT, RaPO
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Sampler
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.compare import baseline_of
from holdfast.stream.run import Run
from holdfast.train.step import StageTrainer
from holdfast.train.teacher import Teacher

pytestmark = pytest.mark.learning

SEEDS = (0, 1)
ITEMS = 48
KEPT = ("old-skills", "instruction-format", "old-facts")
BEGINNINGS: dict[str, dict[str, Any]] = {}
"""Evaluations before training, by tasks, lengths and seed: a seed is a world of its own."""


def run(folder: Path, recipe: dict[str, Any], tasks: list[Any], seed: int, **train: Any) -> list[dict[str, Any]]:
    """The evaluations of a run on the lab, with its metrics in `folder`."""
    config = {
        "tasks": tasks,
        "suites": [f"lab:{name}" for name in KEPT],
        "recipe": recipe,
        "seed": seed,
        "train": {"learning_rate": 4e-4, "warmup_steps": 2, "max_prompt_length": 160, "max_completion_length": 48}
        | {"steps": 12, "prompts_per_step": 8}
        | train,
        "eval": {"max_items": ITEMS, "kl_items": 0, "samples": 0, "drift_weights": 0, "response_items": 0}
        | {"demonstration_items": 0},
    }
    # The base is evaluated once a world for all recipes.
    directory, same = RunDirectory(folder), json.dumps([tasks, config["train"], seed])
    done = Run(parse_config(config, RunConfig), directory, baseline=BEGINNINGS.get(same)).start()
    BEGINNINGS.setdefault(same, baseline_of(directory))
    evaluations: list[dict[str, Any]] = done["evaluations"]
    return evaluations


def mean(evaluation: dict[str, Any], names: tuple[str, ...]) -> float:
    return sum(evaluation["scores"][name]["mean"] for name in names) / len(names)


def test_regularized_sft_keeps_old_skills_that_sft_loses(tmp_path: Path) -> None:
    """All learn the task from demonstrations in a foreign voice."""
    prompts = tmp_path / "prompts.jsonl"
    others = [example for name in KEPT for example in lab_suite(name).test[ITEMS:]]
    prompts.write_text("".join(json.dumps({"id": e.id, "prompt": list(e.messages)}) + "\n" for e in others))
    recipes: dict[str, dict[str, Any]] = {
        "sft": {"name": "sft"},
        "tmkl": {"name": "tmkl"},
        "asft": {"name": "asft"},
        "rad": {"name": "rad", "prompts": str(prompts)},
    }
    kept: dict[str, list[float]] = {name: [] for name in recipes}
    for seed in SEEDS:
        for name, recipe in recipes.items():
            before, after = run(tmp_path / f"{name}-{seed}", recipe, ["lab:tools"], seed, steps=30)
            kept[name].append(mean(after, KEPT))
            assert mean(after, ("tools",)) > mean(before, ("tools",)) + 0.1
    print(kept)
    for name in ("tmkl", "asft", "rad"):
        assert all(own > sfts + 0.05 for own, sfts in zip(kept[name], kept["sft"], strict=True)), kept


def test_opr_keeps_more_of_an_earlier_task_than_sft(tmp_path: Path) -> None:
    """The other facts of the second task are about the same things, and some contradict the first."""
    tasks = ["lab:facts", {"name": "more-facts", "lab": "more-facts", "lab_settings": {"overlap": 1.0}}]
    kept: dict[str, list[float]] = {"sft": [], "opr": []}
    for seed in SEEDS:
        for name, recipe in (("sft", {"name": "sft"}), ("opr", {"name": "opr", "replay_ratio": 0.5})):
            before, middle, after = run(tmp_path / f"{name}-{seed}", recipe, tasks, seed, steps=60)
            assert mean(middle, ("facts",)) > mean(before, ("facts",)) + 0.1
            kept[name].append(mean(after, ("facts",)))
    print(kept)
    assert all(own > sfts for own, sfts in zip(kept["opr"], kept["sft"], strict=True)), kept


def test_rapos_reward_leads_back_to_the_model_before_the_stage(lab_task_without_rewards: Task) -> None:
    """A model that has drifted gets this reward alone. With a wrong sign it would drift on."""
    task = lab_task_without_rewards
    train = TrainSettings(prompts_per_step=8, max_prompt_length=160, max_completion_length=56, learning_rate=4e-4)
    for seed in SEEDS:
        policy = load_policy(ModelSettings(path="lab"))
        # Rewards of this scale still differ at the drift that a few steps of SFT cause.
        recipe = RaPO(retention=1.0, drift_scale=2.0, beta=0.0, scale_rewards="group")
        teacher = Teacher(recipe.teacher(), policy, None)
        teacher.start_stage()
        drifts = []
        for each, steps in ((SFT(), 6), (recipe, 24)):
            collector = Collector(policy, Sampler(policy), each, train, seed, None, teacher)
            collector.prepare(task)
            trainer = StageTrainer(policy, None, None, each.objective(), train)
            for step in range(steps):
                groups, numbers = collector.collect(task, 2, step)
                trainer.step([row for group in groups for row in group.rows], 4e-4, where="here")
                drifts += [numbers["drift"]] if each is recipe else []
        print(drifts)
        assert drifts[0] > 0.1
        assert sum(drifts[-4:]) / 4 < 0.5 * drifts[0], drifts


@pytest.fixture
def lab_task_without_rewards() -> Task:
    return replace(lab_task("calculation"), verifier=lambda example, completion: Verdict(0.0))

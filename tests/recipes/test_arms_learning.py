"""`holdfast.recipes`: opr, rad, tmkl, asft and rapo lose less than the same recipe without what they add."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig
from holdfast.lab.tasks import lab_suite
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.run import Run

pytestmark = pytest.mark.learning

SEEDS = (0, 1)
ITEMS = 48
KEPT = ("old-skills", "instruction-format", "old-facts")


def run(folder: Path, recipe: dict[str, Any], tasks: list[str], seed: int, **train: Any) -> list[dict[str, Any]]:
    """The evaluations of a run on the lab, with its metrics in `folder`."""
    config = {
        "tasks": [f"lab:{task}" for task in tasks],
        "suites": [f"lab:{name}" for name in KEPT],
        "recipe": recipe,
        "seed": seed,
        "train": {"learning_rate": 4e-4, "warmup_steps": 2, "max_prompt_length": 160, "max_completion_length": 32}
        | {"steps": 12, "prompts_per_step": 8}
        | train,
        "eval": {"max_items": ITEMS, "kl_items": 0, "samples": 0, "drift_weights": 0, "response_items": 0},
    }
    evaluations: list[dict[str, Any]] = Run(parse_config(config, RunConfig), RunDirectory(folder)).start()[
        "evaluations"
    ]
    return evaluations


def mean(evaluation: dict[str, Any], names: tuple[str, ...]) -> float:
    return sum(evaluation["scores"][name]["mean"] for name in names) / len(names)


def test_regularized_sft_keeps_old_skills_that_sft_loses(tmp_path: Path) -> None:
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
    learned: dict[str, list[float]] = {name: [] for name in recipes}
    for seed in SEEDS:
        for name, recipe in recipes.items():
            _, after = run(tmp_path / f"{name}-{seed}", recipe, ["calculation"], seed, steps=20)
            kept[name].append(mean(after, KEPT))
            learned[name].append(mean(after, ("calculation",)))
    print(kept, learned)


def test_opr_keeps_more_of_an_earlier_task_than_sft(tmp_path: Path) -> None:
    first: dict[str, list[float]] = {"sft": [], "opr": []}
    for seed in SEEDS:
        for name, recipe in (("sft", {"name": "sft"}), ("opr", {"name": "opr", "replay_ratio": 0.5})):
            _, middle, after = run(tmp_path / f"{name}-{seed}", recipe, ["calculation", "tools"], seed, steps=16)
            assert middle["scores"]["calculation"]["mean"] > 0.7
            first[name].append(after["scores"]["calculation"]["mean"])
            print(name, seed, after["scores"]["tools"]["mean"], mean(after, KEPT))
    print(first)


def test_rapo_drifts_less_than_without_its_reward(tmp_path: Path) -> None:
    drifts: dict[float, list[float]] = {0.0: [], 0.5: []}
    for seed in SEEDS:
        for retention in drifts:
            folder = tmp_path / f"{retention}-{seed}"
            recipe = {"name": "rapo", "retention": retention, "beta": 0.0}
            evaluations = run(folder, recipe, ["calculation", "tools"], seed, learning_rate=2e-4)
            records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            later = [record["drift"] for record in records if record["stage"] == 2][6:]
            drifts[retention].append(sum(later) / len(later))
            print(retention, seed, [e["scores"]["tools"]["mean"] for e in evaluations])
    print(drifts)

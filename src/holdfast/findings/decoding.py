"""Can one decoding temperature serve forks and locks (arXiv 2604.01193), and does SSD resolve the conflict?

The test uses the songs of the wider lab. A song can have any of six titles, and the prompt does not say which one is
meant (a fork). After the title, every word is fixed (locks). A prompt counts as solved if one of eight samples is the
intended song. Low temperatures repeat the same song; high temperatures produce wrong words. Each model is compared at
its own best temperature.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from holdfast.config.settings import ModelSettings
from holdfast.data.example import Example
from holdfast.findings.claim import Quantity
from holdfast.model.load import load_policy

TEMPERATURES = (0.3, 0.5, 0.7, 0.85, 1.0, 1.25, 1.6)

ITEMS = 128

TRAIN = {
    "steps": 30,
    "prompts_per_step": 32,
    "learning_rate": 3e-4,
    "max_prompt_length": 64,
    "max_completion_length": 16,
}

RECIPES: dict[str, dict[str, Any]] = {
    "both": {"name": "ssd"},
    "temperature": {"name": "ssd", "top_k": 0, "top_p": 1.0},
    "truncation": {"name": "ssd", "temperature": 1.0},
}
"""SSD with the paper's settings (high temperature and truncation), and with only one of the two."""


def decoding_conflict(seeds: Sequence[int]) -> list[Quantity]:
    """Share of prompts that one of eight samples solves, each model at its best temperature: SSD minus the others."""
    solved: dict[str, list[float]] = {name: [] for name in ("base", *RECIPES)}
    for seed in seeds:
        solved["base"].append(_best("lab-wide", seed))
        for name, recipe in RECIPES.items():
            with TemporaryDirectory() as folder:
                solved[name].append(_best(_trained(recipe, seed, Path(folder)), seed))

    def above(other: str) -> list[float | None]:
        return [100 * (ssd - its) for ssd, its in zip(solved["both"], solved[other], strict=True)]

    limit = "The lab's forks have six options and its locks a thin tail, so eight samples find most solutions anyway."
    name = "prompts that one of eight samples solves, at the best temperature"
    return [
        Quantity(f"{name}, SSD − base", "points", above("base"), limit),
        Quantity(
            f"{name}, SSD − SSD without truncation",
            "points",
            above("temperature"),
            "A lower decoding temperature may correct a model that was trained on untruncated samples.",
        ),
        Quantity(
            f"{name}, SSD − SSD at temperature 1",
            "points",
            above("truncation"),
            "A higher decoding temperature may restore the options that truncation removed at forks.",
        ),
    ]


def _trained(recipe: dict[str, Any], seed: int, folder: Path) -> str:
    from holdfast.api import run

    config = {
        "model": {"path": "lab-wide"},
        "tasks": ["lab:songs"],
        "suites": [],
        "recipe": recipe,
        "seed": seed,
        "train": TRAIN,
        "eval": {"max_items": 8, "kl_items": 0, "response_items": 0, "drift_weights": 0, "samples": 0},
    }
    run(config, folder / "run")
    return str(folder / "run" / "models" / "stage-1")


def _best(model: str, seed: int) -> float:
    """Share of prompts that one of eight samples solves, at the temperature that is best on other prompts."""
    from holdfast.lab.wide_tasks import wide_task
    from holdfast.pretrain.wide_skills import sampled_rewards

    policy, task = load_policy(ModelSettings(path=model)), wide_task("songs")

    def share(examples: Sequence[Example], temperature: float) -> float:
        rewards = sampled_rewards(policy, task, examples, temperature=temperature, seed=seed)
        return sum(any(each) for each in rewards) / len(rewards)

    others = task.test[ITEMS : ITEMS + ITEMS // 2]
    return share(task.test[:ITEMS], max(TEMPERATURES, key=lambda temperature: share(others, temperature)))

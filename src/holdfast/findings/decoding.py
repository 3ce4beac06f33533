"""Whether one decoding temperature can serve forks and locks at once, and what SSD makes of the conflict.

On the songs of the wider lab: a song may have any of six titles, and whoever asks has one in mind; behind the title
each word is settled. Of eight answers one should be the song that was meant. Low temperatures sing the same song eight
times, high ones misremember. Compared is each model at the temperature that serves it best.
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
"""SSD with its paper's settings, and with either half of them."""


def decoding_conflict(seeds: Sequence[int]) -> list[Quantity]:
    """Prompts of which one of eight answers is right, each model at its best temperature: SSD above the others."""
    found: dict[str, list[float]] = {name: [] for name in ("base", *RECIPES)}
    for seed in seeds:
        found["base"].append(_best("lab-wide", seed))
        for name, recipe in RECIPES.items():
            with TemporaryDirectory() as folder:
                found[name].append(_best(_trained(recipe, seed, Path(folder)), seed))

    def above(other: str) -> list[float | None]:
        return [100 * (ssd - its) for ssd, its in zip(found["both"], found[other], strict=True)]

    limit = "The lab's forks have six ways and its locks a thin tail, and eight answers find most of what there is."
    return [
        Quantity(
            "one of eight answers right, SSD above the base at its best temperature", "points", above("base"), limit
        ),
        Quantity(
            "the same, above SSD without truncation",
            "points",
            above("temperature"),
            "Samples that are hot and whole may be tamed by decoding colder.",
        ),
        Quantity(
            "the same, above SSD without heat",
            "points",
            above("truncation"),
            "Decoding hotter may give back at forks what truncation has left there.",
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
    """The share of prompts with a right answer among eight, at the temperature that is best on other prompts."""
    from holdfast.lab.wide_tasks import wide_task
    from holdfast.pretrain.wide_skills import sampled_rewards

    policy, task = load_policy(ModelSettings(path=model)), wide_task("songs")

    def solved(examples: Sequence[Example], temperature: float) -> float:
        rewards = sampled_rewards(policy, task, examples, temperature=temperature, seed=seed)
        return sum(any(each) for each in rewards) / len(rewards)

    others = task.test[ITEMS : ITEMS + ITEMS // 2]
    return solved(task.test[:ITEMS], max(TEMPERATURES, key=lambda temperature: solved(others, temperature)))

"""Can one decoding temperature serve forks and locks (arXiv 2604.01193), and does SSD resolve the conflict?

The test uses the songs of the lab. A song can have any of six titles, and the prompt does not say which one is
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


def decoding_conflict(world: int) -> Sequence[float | None]:
    """Share of prompts that one of eight samples solves, each model at its best temperature: SSD minus the base, minus
    SSD without truncation, and minus SSD at temperature 1; in points."""
    base = _best("lab", world)
    solved = {}
    for name, recipe in RECIPES.items():
        with TemporaryDirectory() as folder:
            solved[name] = _best(_trained(recipe, world, Path(folder)), world)
    both = solved["both"]
    return [100 * (both - other) for other in (base, solved["temperature"], solved["truncation"])]


def _trained(recipe: dict[str, Any], seed: int, folder: Path) -> str:
    from holdfast.api import run

    config = {
        "model": {"path": "lab"},
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
    from holdfast.lab.tasks import lab_task
    from holdfast.pretrain.success import sampled_rewards

    policy, task = load_policy(ModelSettings(path=model)), lab_task("songs", seed)

    def share(examples: Sequence[Example], temperature: float) -> float:
        rewards = sampled_rewards(policy, task, examples, temperature=temperature, seed=seed)
        return sum(any(each) for each in rewards) / len(rewards)

    others = task.test[ITEMS : ITEMS + ITEMS // 2]
    return share(task.test[:ITEMS], max(TEMPERATURES, key=lambda temperature: share(others, temperature)))

"""What is compared: the arms, and the forms in which they run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.real.data import RESULTS, SUITES, TASKS, TUNING, Voice
from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig

TEMPLATE = "{prompt}\n\nRepeat this: {demonstration}"
"""The teacher's prompt, with a sentence. Of 16 questions of each task the base then answers 16 and 15 right; with
the recipes' default, 12 and 14."""

REWRITING_TEMPLATE = (
    "Question: {prompt}\nCorrect answer: {demonstration}\n\nWrite the correct answer as one full sentence."
)
"""What the base sees when it rewrites a terse demonstration. Greedy, 10 of 16 flags and 12 of 16 animals are right."""

SHOWN = {"template": TEMPLATE, "temperature": 0.7}
"""For recipes with a teacher. At temperature 1 this small model's samples are mostly noise: 2.3 nats a token."""

REWRITING = {"name": "rewrite_sft", "template": REWRITING_TEMPLATE, "tries": 4, "temperature": 0.7}

SDFT = {"name": "sdft", "teacher_kind": "frozen", "num_loss_tokens_to_skip": 0, **SHOWN}

HELD = {"replay_ratio": 0.5, "blend_share": 0.7}
"""Replay of the first task in the second stage; after each stage, weights go a part of the way back to the base."""

VERIFIERS = "benchmarks.real.verifiers"


@dataclass(frozen=True)
class Arm:
    """One row of the tables.

    Args:
        label: its name.
        voice: of the demonstrations that it gets.
        recipe: its recipe, with the settings that differ from the defaults.
        rates: the three learning rates that are tried on the tuning seed.
        rate: the one that was chosen.
        model: settings of the model that differ from the others'.
    """

    label: str
    voice: Voice
    recipe: Mapping[str, Any]
    rates: tuple[float, float, float]
    rate: float
    model: Mapping[str, Any] = field(default_factory=dict)


IMITATION = (1e-5, 3e-5, 1e-4)
ADAPTER = (1e-4, 3e-4, 1e-3)
DISTILLATION = (3e-5, 1e-4, 3e-4)
"""Three times as high: at the same rate, distillation takes smaller steps."""

ARMS = (
    Arm("sft-terse", "terse", {"name": "sft"}, IMITATION, 3e-5),
    Arm("sft-sentences", "sentences", {"name": "sft"}, IMITATION, 3e-5),
    Arm("sft-rewritten", "terse", REWRITING, IMITATION, 3e-5),
    Arm("rewritten-replay-blend", "terse", {**REWRITING, **HELD}, DISTILLATION, 1e-4),
    Arm("sentences-replay-blend", "sentences", {"name": "sft", **HELD}, DISTILLATION, 1e-4),
    Arm("sft-terse-replay", "terse", {"name": "replay", "replay_ratio": 0.5}, IMITATION, 3e-5),
    Arm("kl-sft-terse", "terse", {"name": "kl_sft"}, IMITATION, 3e-5),
    Arm("sft-terse-lora", "terse", {"name": "sft"}, ADAPTER, 3e-4, {"lora": {"r": 16}}),
    Arm("sdft", "sentences", SDFT, DISTILLATION, 1e-4),
    Arm("anchored", "sentences", {"name": "anchored", **SHOWN}, DISTILLATION, 1e-4),
    Arm("sdft-replay-blend", "sentences", {**SDFT, **HELD}, DISTILLATION, 1e-4),
)


@dataclass(frozen=True)
class Form:
    """How much is run.

    Args:
        name: its folder.
        arms: labels.
        seeds: of the runs.
        stages: how many of the tasks are learned.
        steps: optimizer steps a stage.
        max_items: items of every set in an evaluation; None for all.
        tries_rates: whether every arm runs at each of its three rates, not only at the chosen one.
    """

    name: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    stages: int = 2
    steps: int = 24
    max_items: int | None = None
    tries_rates: bool = False

    @property
    def which_facts(self) -> int:
        """Which facts are taught: learning rates are chosen on facts of their own."""
        return TUNING if self.tries_rates else RESULTS

    def data_folder(self, into: Path) -> Path:
        """Where its tasks and suites are."""
        return into / f"data-{self.which_facts}"


EVERY = tuple(arm.label for arm in ARMS)

STANDARD = tuple(label for label in EVERY if label not in ("kl-sft-terse", "sft-terse-lora"))

TUNING_SEED = 100

FORMS = {
    form.name: form
    for form in (
        Form("quick", ("sft-terse", "sft-sentences", "sdft"), (0,), stages=1, max_items=16),
        Form("standard", STANDARD, (0,), max_items=24),
        Form("full", EVERY, (0, 1, 2)),
        Form("tuning", EVERY, (TUNING_SEED,), max_items=24, tries_rates=True),
    )
}


def run_config(form: Form, arm: Arm, seed: int, rate: float, model: Path, data: Path) -> RunConfig:
    """The configuration of one run.

    Args:
        model: the base's folder.
        data: the folder that `benchmarks.real.data.write_data` wrote.
    """
    tasks = [
        {
            "name": task.name,
            "train": f"{data}/{task.name}-{arm.voice}.jsonl",
            "test": f"{data}/{task.name}-test.jsonl",
            "verifier": f"{VERIFIERS}:names_one_option",
        }
        for task in TASKS[: form.stages]
    ]
    suites = [{"name": name, "test": f"{data}/{name}.jsonl", "verifier": f"{VERIFIERS}:says_answer"} for name in SUITES]
    settings = {
        "name": f"real-{form.name}",
        "model": {"path": str(model), **arm.model},
        "tasks": tasks,
        "suites": suites,
        "recipe": dict(arm.recipe),
        "seed": seed,
        "train": {
            "steps": form.steps,
            "prompts_per_step": 8,
            "learning_rate": rate,
            "max_prompt_length": 96,
            "max_reprompt_length": 128,
            "max_completion_length": 16,
            # A checkpoint has 2 GB. One after each stage is enough: a stage takes minutes.
            "save_steps": 1000,
        },
        "eval": {"max_items": form.max_items, "kl_items": 8, "response_items": 0, "drift_weights": 0},
    }
    return parse_config(settings, RunConfig)

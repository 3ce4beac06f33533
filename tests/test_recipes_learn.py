"""Every recipe beyond the first four learns a lab task: to a stated score, from the base, in a stated number of steps.

Each entry is one line: what is run, and the least mean score over three seeds that it must reach. Before training the
base scores below `BEFORE`.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

import holdfast
from holdfast.contexts import DEMONSTRATION_TEMPLATE

BEFORE = 0.4
SEEDS = (0, 1, 2)


class Learns(NamedTuple):
    """A recipe with its settings, a task, a budget, and the score that it must reach."""

    recipe: str
    score: float
    steps: int = 12
    prompts: int = 8
    rate: float = 4e-4
    task: str = "calculation"
    settings: dict[str, Any] = {}  # noqa: RUF012 - read only
    lora: dict[str, Any] | None = None
    base: str = "lab"


CASES = (
    Learns("dft", 0.6),
    Learns("kl_sft", 0.6),
    Learns("replay", 0.6),
    Learns("olora", 0.6, rate=4e-3, lora={"r": 8}),
    Learns("ewc", 0.6, settings={"num_sequences": 64}),
    Learns("rft", 0.6),
    Learns("correct_only", 0.6, settings={"num_loss_tokens_to_skip": 0}),
    Learns("sc_sdpo", 0.6),
    Learns("rlsd", 0.6),
    Learns("sdpg", 0.6),
    Learns("sft_then_grpo", 0.6, settings={"sft_steps": 6}),
    Learns("npo", 0.6, settings={"scout_steps": 6}),
    # So that it goes back on the lab, whose reward rises without a halt.
    Learns("auto_npo", 0.6, settings={"every": 3, "patience": 1, "entropy_share": 1.0, "least_gain": 1.0}),
    Learns("isdft", 0.6, settings={"num_loss_tokens_to_skip": 0, "ramp_steps": 8}),
    Learns("holdfast", 0.6),
    # The lab's base knows how a demonstration is shown to it, and learns no new answer under a clip by entry.
    Learns("opsd", 0.6, settings={"clip": "token", "template": DEMONSTRATION_TEMPLATE}),
    Learns("beta_opsd", 0.6, settings={"template": DEMONSTRATION_TEMPLATE}),
    Learns("stable_opd", 0.6, settings={"template": DEMONSTRATION_TEMPLATE}),
    # Of the lab's answers the base revises hardly any rightly: most steps are spent on learning to.
    Learns("sd_zero", 0.2, steps=36, prompts=12, task="tools", settings={"num_generations": 4, "srt_steps": 24}),
    Learns(
        "atesd",
        0.6,
        steps=30,
        prompts=16,
        task="steps",
        base="lab-wide",
        settings={"clip": "token", "hold": 5, "keep_answer": False},
    ),
    Learns("vopd", 0.4, settings={"num_generations": 4, "template": DEMONSTRATION_TEMPLATE}),
)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.recipe)
def test_a_recipe_learns(tmp_path: Path, case: Learns) -> None:
    reached = []
    for seed in SEEDS:
        config = {
            "tasks": [f"lab:{case.task}"],
            "suites": [],
            "model": {"path": case.base, "lora": case.lora},
            "recipe": {"name": case.recipe, **case.settings},
            "seed": seed,
            "train": {
                "steps": case.steps,
                "prompts_per_step": case.prompts,
                "learning_rate": case.rate,
                "warmup_steps": 2,
                "max_prompt_length": 160,
                "max_completion_length": 32,
            },
            "eval": {"max_items": 48, "kl_items": 0, "samples": 0},
        }
        evaluations = holdfast.run(config, tmp_path / str(seed))["evaluations"]
        before, after = (evaluations[stage]["scores"][case.task]["mean"] for stage in (0, 1))
        assert before < BEFORE
        reached.append(after)
    print(case.recipe, reached)
    assert sum(reached) / len(reached) >= case.score, reached

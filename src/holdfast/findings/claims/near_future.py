"""Claims about learning from a run's own near future. Torch-free.

On the first task of the stream alone, two thirds of whose prompts the base fails with all of eight samples, but which
GRPO learns whole within five steps; and on the wider lab's harder questions in steps, where there is more room.
"""

from collections.abc import Sequence
from pathlib import Path

from holdfast.findings.claim import Arm, Claim, Evidence, Quantity, minus
from holdfast.findings.claims.wide import GRPO_HARD, HARD_STEPS
from holdfast.findings.read import metric, steps_to
from holdfast.store import RunDirectory

ALONE = {"tasks": ["lab:calculation"]}
AHEAD = 10
SPENT = 12
"""Optimiser steps of GRPO that ten steps ahead and two answers to each prompt cost: an answer is an eighth of what a
prompt's samples take, and these a quarter of a step."""


def _npo(steps: int) -> Arm:
    recipe = {"name": "npo", "scout_steps": steps, "guide_samples": 2}
    return Arm(f"npo-{steps}", recipe, ALONE)


NEAR, MIDDLE, FAR = _npo(2), _npo(AHEAD), _npo(30)
GRPO_LONGER = Arm("grpo-longer", "grpo", {**ALONE, "train.steps": 30 + SPENT})
# GRPO's arm on the harder questions takes the steps that are spent ahead as well.
NPO_HARD = Arm(
    "npo-hard",
    {"name": "npo", "scout_steps": AHEAD, "guide_samples": 2},
    {**HARD_STEPS, "train.steps": HARD_STEPS["train.steps"] - SPENT},
)


def _score(folder: Path) -> float | None:
    """Quality over variance of the guides that a run took along in its first stage."""
    decisions = RunDirectory(folder).records("decisions.jsonl")
    return next((d["saw"].get("score") for d in decisions if d["rule"] == "near_future"), None)


def _interior_optimum(found: Evidence) -> list[Quantity]:
    def above(other: Arm) -> Sequence[float | None]:
        return minus(*([_score(folder) for folder in found.folders[arm.label]] for arm in (MIDDLE, other)))

    return [
        Quantity(
            f"quality over variance, {AHEAD} steps ahead above 2",
            "",
            above(NEAR),
            "Two steps ahead are already enough, since the task is learnt within some ten.",
        ),
        Quantity(
            f"quality over variance, {AHEAD} steps ahead above 30",
            "",
            above(FAR),
            "Quality rises for as long as the lab's stage lasts, and its answers are too short and too sure for their "
            "distance to weigh as much.",
        ),
    ]


def _npo_above_grpo(found: Evidence) -> list[Quantity]:
    spent = [None if steps is None else steps + SPENT for steps in found.per_seed(MIDDLE.label, steps_to(0.8))]
    grpo = found.per_seed(GRPO_LONGER.label, steps_to(0.8))
    return [
        Quantity(
            "score after the stage at the same budget, NPO above GRPO",
            "points",
            found.difference(MIDDLE.label, GRPO_LONGER.label, metric("learned_score")),
            "With partial credit GRPO has a signal where all samples fail, and learns the task whole.",
        ),
        Quantity(
            "hard questions in steps right after the stage at the same budget, NPO above GRPO",
            "points",
            found.difference(NPO_HARD.label, GRPO_HARD.label, metric("learned_score")),
            "What ten steps ahead find, twelve steps more find too.",
        ),
        Quantity(
            "steps to 80 points with those spent ahead, GRPO above NPO",
            "steps",
            minus(grpo, spent),
            "GRPO is there within five steps, fewer than the scout takes.",
        ),
    ]


NEAR_FUTURE: tuple[Claim, ...] = (
    Claim(
        name="npo-interior-optimum",
        statement="Quality over variance of a near-future guide is largest at some distance in between.",
        source="arXiv 2604.20733",
        arms=(NEAR, MIDDLE, FAR),
        measure=_interior_optimum,
    ),
    Claim(
        name="npo-above-grpo",
        statement="Where most groups fail, right answers of the run's own near future take GRPO further and faster.",
        source="arXiv 2604.20733",
        arms=(MIDDLE, GRPO_LONGER, NPO_HARD, GRPO_HARD),
        measure=_npo_above_grpo,
    ),
)

"""Claims about learning from a run's own near future. Torch-free.

Its quality is looked at on the first task of the stream alone, two thirds of whose prompts the base fails with all of
eight samples; what it brings, on the wider lab's harder questions in steps: the first task GRPO learns whole within
five steps, fewer than a look ahead takes.
"""

from holdfast.findings.claim import Claim, ClaimArm, Evidence, Quantity, minus
from holdfast.findings.claims.wide import GRPO_HARD, HARD_GROUP, HARD_STEPS
from holdfast.findings.read import metric
from holdfast.store.run_directory import RunDirectory

AHEAD = 10

SPENT = 13
"""Optimizer steps of GRPO that ten steps ahead and two answers to each prompt of some twenty-seven steps cost: two
answers are half of what a prompt's samples take, and these a quarter of a step."""


def _ahead(steps: int) -> ClaimArm:
    """So many steps of one and the same run: its draws follow from the seed, and the rate does not from its length."""
    settings = {
        "tasks": ["lab:calculation"],
        "suites": [],
        "train.steps": steps,
        "train.lr_scheduler_type": "constant",
        "eval.probe_steps": 0,
        "eval.kl_items": 0,
    }
    return ClaimArm(f"grpo-{steps}-ahead", "grpo", settings)


NEAR, MIDDLE, FAR = 2, AHEAD, 30

STEPS_AHEAD = {steps: _ahead(steps) for steps in (NEAR, MIDDLE, FAR)}

# GRPO's arm takes the steps that are spent ahead as well.
NPO_HARD = ClaimArm(
    "npo-hard",
    {"name": "npo", "num_generations": HARD_GROUP, "scout_steps": AHEAD, "guide_samples": 2},
    {**HARD_STEPS, "train.steps": HARD_STEPS["train.steps"] - SPENT},
)


def _interior_optimum(found: Evidence) -> list[Quantity]:
    from holdfast.findings.quality import quality_over_variance
    from holdfast.lab.tasks import lab_task

    scores: dict[int, list[float | None]] = {steps: [] for steps in STEPS_AHEAD}
    for place, summary in enumerate(found.summaries[STEPS_AHEAD[NEAR].label]):
        models = {n: RunDirectory(found.folders[arm.label][place]).model(1) for n, arm in STEPS_AHEAD.items()}
        known = all(model.exists() for model in models.values())
        measured = quality_over_variance(lab_task("calculation"), models, summary["seed"]) if known else {}
        for steps in scores:
            scores[steps].append(measured.get(steps))
    return [
        Quantity(
            f"quality over variance on the same failed prompts, {MIDDLE} steps ahead above {NEAR}",
            "",
            minus(scores[MIDDLE], scores[NEAR]),
            "Two steps ahead are already enough, since the task is learned within some ten.",
        ),
        Quantity(
            f"quality over variance on the same failed prompts, {MIDDLE} steps ahead above {FAR}",
            "",
            minus(scores[MIDDLE], scores[FAR]),
            "From ten steps on the task is learned, and the model moves little more.",
            "Quality rises for as long as the lab's stage lasts, and its answers are too short and too sure for their "
            "distance to weigh as much.",
        ),
    ]


def _npo_above_grpo(found: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "hard questions in steps right after the stage at the same budget, NPO above GRPO",
            "points",
            found.difference(NPO_HARD.label, GRPO_HARD.label, metric("learned_score")),
            "What ten steps ahead find, thirteen steps more find too.",
        ),
    ]


NEAR_FUTURE: tuple[Claim, ...] = (
    Claim(
        name="npo-interior-optimum",
        statement="Quality over variance of a near-future guide is largest at some distance in between.",
        source="arXiv 2604.20733",
        arms=tuple(STEPS_AHEAD.values()),
        measure=_interior_optimum,
    ),
    Claim(
        name="npo-above-grpo",
        statement="Where most groups fail, right answers of the run's own near future take GRPO further at equal cost.",
        source="arXiv 2604.20733",
        arms=(NPO_HARD, GRPO_HARD),
        measure=_npo_above_grpo,
    ),
)

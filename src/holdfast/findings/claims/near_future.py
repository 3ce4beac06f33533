"""Claims about learning from a run's own near future. Torch-free.

Quality is measured on the first task of the stream only. On two thirds of its prompts, all eight samples of the base
fail. The benefit is measured on the harder step questions of the wider lab, because GRPO learns the first task within
five steps, fewer than looking ahead takes.
"""

from holdfast.findings.claim import Claim, ClaimArm, Evidence, Quantity, minus
from holdfast.findings.claims.wide import GRPO_HARD, HARD_GROUP, HARD_STEPS
from holdfast.findings.read import metric
from holdfast.store.run_directory import RunDirectory

AHEAD = 10

SPENT = 13
"""The cost of looking ahead, in optimizer steps of GRPO: ten steps ahead, and two samples per prompt of about 27 steps.
Two samples are half of a prompt's samples, and sampling four takes a quarter of a step."""


def _ahead(steps: int) -> ClaimArm:
    """The first `steps` steps of one run: its draws follow from the seed, and its learning rate is constant."""
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

# GRPO's arm also takes the steps that this arm spends on looking ahead.
NPO_HARD = ClaimArm(
    "npo-hard",
    {"name": "npo", "num_generations": HARD_GROUP, "scout_steps": AHEAD, "guide_samples": 2},
    {**HARD_STEPS, "train.steps": HARD_STEPS["train.steps"] - SPENT},
)


def _interior_optimum(evidence: Evidence) -> list[Quantity]:
    from holdfast.findings.quality import quality_over_variance
    from holdfast.lab.tasks import lab_task

    scores: dict[int, list[float | None]] = {steps: [] for steps in STEPS_AHEAD}
    for place, summary in enumerate(evidence.summaries[STEPS_AHEAD[NEAR].label]):
        models = {n: RunDirectory(evidence.folders[arm.label][place]).model(1) for n, arm in STEPS_AHEAD.items()}
        known = all(model.exists() for model in models.values())
        measured = quality_over_variance(lab_task("calculation"), models, summary["seed"]) if known else {}
        for steps in scores:
            scores[steps].append(measured.get(steps))
    return [
        Quantity(
            f"quality over variance on the same failed prompts, {MIDDLE} steps ahead − {NEAR} steps ahead",
            "",
            minus(scores[MIDDLE], scores[NEAR]),
            "Two steps ahead are already enough, because the task is learned within about ten.",
        ),
        Quantity(
            f"quality over variance on the same failed prompts, {MIDDLE} steps ahead − {FAR} steps ahead",
            "",
            minus(scores[MIDDLE], scores[FAR]),
            "After ten steps the task is learned, and the model changes little.",
            "quality rises throughout the lab's stage. Its answers are too short and too certain for the variance to "
            "matter as much.",
        ),
    ]


def _npo_above_grpo(evidence: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "score on hard step questions after the stage, same budget, NPO − GRPO",
            "points",
            evidence.difference(NPO_HARD.label, GRPO_HARD.label, metric("learned_score")),
            "Thirteen additional steps find the same answers as looking ten steps ahead.",
        ),
    ]


NEAR_FUTURE: tuple[Claim, ...] = (
    Claim(
        name="npo-interior-optimum",
        statement="Quality over variance of near-future answers is largest at an intermediate distance.",
        source="arXiv 2604.20733",
        arms=tuple(STEPS_AHEAD.values()),
        measure=_interior_optimum,
    ),
    Claim(
        name="npo-above-grpo",
        statement="If most groups fail, correct answers from the run's near future take GRPO further at the same cost.",
        source="arXiv 2604.20733",
        arms=(NPO_HARD, GRPO_HARD),
        measure=_npo_above_grpo,
    ),
)

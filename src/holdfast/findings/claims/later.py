"""Claims about later recipes, each compared with the recipe that it improves. Torch-free."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from holdfast.findings.claim import MARGIN, Claim, ClaimArm, Evidence, Quantity, SummaryJson
from holdfast.findings.claims.exposure import ANSWER_ALONE
from holdfast.findings.claims.own import RIVALS
from holdfast.findings.claims.two_stages import (
    EARLY,
    GOES_ON,
    GRPO,
    GRPO_COUNTED,
    RFT,
    SCORE,
    SDFT,
    SDFT_FAST,
    SDPG_COUNTED,
    SDPO,
    SFT,
    learned,
)
from holdfast.findings.claims.wide import GRPO_HARD, HARD_GROUP, HARD_STEPS, OPSD
from holdfast.findings.read import POINTS, kl_to_base, matched_loss, metric, steps_to, suites_lost
from holdfast.measure.scores import mean
from holdfast.store.run_directory import RunDirectory

# The settings are those of the comparison in own.py, which uses other orders.
ISDFT, CORRECT_ONLY, BETA_OPSD, STABLE_OPD, GRPO_KL, SD_ZERO = (
    ClaimArm(label, RIVALS[label])
    for label in ("isdft", "correct-only", "beta-opsd", "stable-opd", "grpo-kl", "sd-zero")
)


def _but(arm: ClaimArm, label: str, **settings: Any) -> ClaimArm:
    """The same recipe without the part that the claim is about."""
    recipe = {"name": arm.recipe} if isinstance(arm.recipe, str) else arm.recipe
    return ClaimArm(label, {**recipe, **settings}, arm.settings)


ALL_SAMPLES = _but(CORRECT_ONLY, "correct-only-but-all", distill="all")

WHOLE_TEACHER = _but(BETA_OPSD, "beta-opsd-at-1", beta=1.0)

UNSTABLE_OPD = _but(STABLE_OPD, "stable-opd-without", beta=0.0, demonstration_share=0.0)

# Like the fast teacher that it is compared with, it starts each stage from the current student.
GATED = ClaimArm("sdft-gated", {**GOES_ON, "teacher_kind": "gated"})

TRUST_REGION = ClaimArm("sdpo-trust-region", {"name": "sdpo", "teacher_kind": "trust_region", "stage_start": "student"})

MASKED = ClaimArm("sdpo-masked", {"name": "sdpo", "stage_start": "student", "token_mask_ratio": 0.5})

AUTO_NPO = ClaimArm("auto-npo-hard", {"name": "auto_npo", "num_generations": HARD_GROUP}, HARD_STEPS)

_NEW = "score on new tasks after their stage"

_FULL = "Both learn the lab's tasks almost completely, so there is little room for a difference."

_SHORT = "With answers of ten tokens and short stages, the two have little time to diverge."


class ArmDifference(NamedTuple):
    """A part of a claim: a number of arm `a` is above that of arm `b`, or at most `margin` below it.

    `number` reads it from a run; None means forgetting at the same score on the new task.
    """

    what: str
    a: ClaimArm
    b: ClaimArm
    number: Callable[[SummaryJson], float | None] | None
    if_not: str
    unit: str = "points"
    margin: float = 0.0

    def measure(self, evidence: Evidence) -> Quantity:
        labels = self.a.label, self.b.label
        values = matched_loss(evidence, *labels) if self.number is None else evidence.difference(*labels, self.number)
        bound = f", not below −{self.margin:g}" if self.margin else ""
        name = f"{self.what}, {' − '.join(labels)}{bound}"
        return Quantity(name, self.unit, values, self.if_not, margin=self.margin)


def _claim(name: str, statement: str, source: str, *parts: ArmDifference) -> Claim:
    arms = tuple({arm.label: arm for part in parts for arm in (part.a, part.b)}.values())
    return Claim(name, statement, source, arms, measure=lambda evidence: [part.measure(evidence) for part in parts])


def truncated(summary: SummaryJson) -> float | None:
    """Share of the tasks' greedy answers that are truncated at the end of the stream, in points."""
    last = summary["evaluations"][-1]["scores"]
    shares = [last[task].get("truncated") for task in summary["order"] if task in last]
    return mean(POINTS * share for share in shares if share is not None)


AVERAGED = 0.5
"""Share of the trained weights in the averaged model."""


def _blended(evidence: Evidence) -> list[Quantity]:
    """Evaluate the mean of base and trained weights in the same way as the trained model."""
    kept: list[float | None] = []
    net: list[float | None] = []
    for folder, summary in zip(evidence.folders[SFT.label], evidence.summaries[SFT.label], strict=True):
        after = {name: each["mean"] for name, each in summary["evaluations"][-1]["scores"].items()}
        scores = _scores_between(RunDirectory(folder), len(summary["order"]))
        gains = {name: POINTS * (scores[name] - after[name]) for name in after if name in scores}
        suites = [each["name"] for each in summary["sets"] if each["kind"] == "retention"]
        old, new = (mean(gains[name] for name in names if name in gains) for names in (suites, summary["order"]))
        kept.append(old)
        net.append(None if old is None or new is None else old + new)
    far = "The second task overwrites the first, and half of the way back to the base restores neither."
    return [
        Quantity("score on retention suites, averaged model − trained model", "points", kept, far),
        Quantity("gain on retention suites − loss on the new tasks", "points", net, far),
    ]


def _scores_between(run: RunDirectory, stages: int) -> dict[str, float]:
    """Scores of the mean of the lab's base and the run's last model, by set; empty if the run kept no model."""
    if not run.model(stages).exists():
        return {}
    from holdfast.evaluation.standalone import evaluate_model, evaluation_plan
    from holdfast.model.blend import Blend

    with TemporaryDirectory() as folder:
        between = Path(folder) / "between"
        Blend("lab", [str(run.model(stages))]).write(AVERAGED, between)
        scored = evaluate_model(evaluation_plan(run.config, (), None, False).for_model(str(between)))
    return {name: each["mean"] for name, each in scored["sets"].items()}


LATER: tuple[Claim, ...] = (
    _claim(
        "isdft-learns-and-keeps-more",
        "Moving a part of the way to the teacher, with a KL penalty to the base, learns more and forgets less than "
        "moving all the way.",
        "arXiv 2609.24646",
        ArmDifference(_NEW, ISDFT, SDFT, learned, _FULL),
        ArmDifference("loss on retention suites", SDFT, ISDFT, suites_lost, _SHORT),
    ),
    _claim(
        "correct-only-learns-more",
        "Distilling on the correct ones of four samples teaches more than distilling on all four.",
        "arXiv 2605.06188",
        ArmDifference(
            _NEW,
            CORRECT_ONLY,
            ALL_SAMPLES,
            learned,
            "If no sample is correct, as in the first steps, nothing is learned.",
        ),
    ),
    _claim(
        "gated-refresh-does-not-collapse",
        "A teacher that is refreshed only if reward and lengths allow it forgets less than a teacher that follows "
        "fast.",
        "arXiv 2606.03532",
        ArmDifference("loss on retention suites", SDFT_FAST, GATED, suites_lost, _SHORT),
        ArmDifference("score on all tasks at the end", GATED, SDFT_FAST, metric("final_score"), _SHORT),
    ),
    _claim(
        "beta-opsd-keeps-more",
        "A target between the base and the teacher forgets less than the teacher as the target.",
        "arXiv 2607.28582",
        ArmDifference("forgetting at the same score", WHOLE_TEACHER, BETA_OPSD, None, EARLY),
        ArmDifference("KL to base", WHOLE_TEACHER, BETA_OPSD, kl_to_base, _SHORT, "nats"),
    ),
    _claim(
        "stable-opd-is-not-cut-off",
        "A KL penalty to the base and some demonstrations keep on-policy distillation from producing endless answers.",
        "arXiv 2604.08527",
        ArmDifference("truncated answers at the end", UNSTABLE_OPD, STABLE_OPD, truncated, _SHORT),
        ArmDifference("loss on retention suites", UNSTABLE_OPD, STABLE_OPD, suites_lost, _SHORT),
    ),
    _claim(
        "trust-region-holds-as-well",
        "A frozen teacher mixed with the student learns as much as an EMA teacher and forgets less.",
        "our reading of arXiv 2601.20802, which compares scores",
        ArmDifference(_NEW, TRUST_REGION, SDPO, learned, _FULL, margin=MARGIN),
        ArmDifference("loss on retention suites", SDPO, TRUST_REGION, suites_lost, _SHORT),
    ),
    _claim(
        "denser-is-not-better",
        "If a random half of the tokens is left out, self-distillation learns as much and drifts less.",
        "our reading of arXiv 2607.01763; we do not know its numbers on masks",
        ArmDifference(_NEW, MASKED, SDPO, learned, "Half of the tokens teach more slowly.", margin=MARGIN),
        ArmDifference(
            "KL to base", SDPO, MASKED, kl_to_base, "The remaining tokens of a step get a higher weight.", "nats"
        ),
    ),
    _claim(
        "thoughts-in-the-privilege-add-noise",
        "Showing the teacher only the answer teaches more than showing the answer after the whole solution.",
        "arXiv 2607.01763",
        ArmDifference(
            "score on the task after its stage",
            ANSWER_ALONE,
            OPSD,
            learned,
            "On the lab the steps are the skill. An answer without steps does not show how it was reached.",
        ),
    ),
    _claim(
        "reference-kl-keeps-more",
        "GRPO with a KL penalty to the base forgets less than without.",
        "arXiv 2509.04259; arXiv 2607.01763",
        ArmDifference("forgetting at the same score", GRPO, GRPO_KL, None, EARLY),
        ArmDifference("KL to base", GRPO, GRPO_KL, kl_to_base, _SHORT, "nats"),
    ),
    _claim(
        "sdpg-faster-than-grpo",
        "With a weak divergence to the privileged model, GRPO reaches a score in fewer steps.",
        "arXiv 2606.04036",
        ArmDifference(
            "steps to 80 points on the first task",
            GRPO_COUNTED,
            SDPG_COUNTED,
            steps_to(SCORE),
            "GRPO needs only about ten steps, and the divergence is a thousandth of the loss.",
            "steps",
        ),
    ),
    _claim(
        "sd-zero-above-rft",
        "Learning to revise, then distilling the reviser, learns more from rewards than imitating correct samples.",
        "arXiv 2604.12002",
        ArmDifference(_NEW, SD_ZERO, RFT, learned, "The lab's base revises hardly any of its answers correctly."),
    ),
    _claim(
        "auto-npo-above-grpo",
        "If GRPO stalls, returning to an earlier step with later correct answers takes it further in the same number "
        "of steps. Repeated steps are not counted.",
        "arXiv 2604.20733",
        ArmDifference(
            "score on hard step questions after the stage",
            AUTO_NPO,
            GRPO_HARD,
            learned,
            "A run that does not stall does not return, and is the same as GRPO.",
        ),
    ),
    Claim(
        name="half-way-keeps-more",
        statement="The mean of base and trained weights regains more old skills than it loses on the new tasks.",
        source="WiSE-FT, arXiv 2109.01903",
        arms=(SFT,),
        measure=_blended,
    ),
)

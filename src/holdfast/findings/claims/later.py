"""Claims of recipes that came after, each beside the recipe that it mends. Torch-free."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from holdfast.findings.claim import MARGIN, Claim, ClaimArm, Evidence, Quantity, RunSummary
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

# Set as on the front, where they are compared on other orders.
ISDFT, CORRECT_ONLY, BETA_OPSD, STABLE_OPD, GRPO_KL, SD_ZERO = (
    ClaimArm(label, RIVALS[label])
    for label in ("isdft", "correct-only", "beta-opsd", "stable-opd", "grpo-kl", "sd-zero")
)


def _but(arm: ClaimArm, label: str, **settings: Any) -> ClaimArm:
    """The same recipe without what a claim is about."""
    recipe = {"name": arm.recipe} if isinstance(arm.recipe, str) else arm.recipe
    return ClaimArm(label, {**recipe, **settings}, arm.settings)


ALL_SAMPLES = _but(CORRECT_ONLY, "correct-only-but-all", distill="all")

WHOLE_TEACHER = _but(BETA_OPSD, "beta-opsd-at-1", beta=1.0)

UNSTABLE_OPD = _but(STABLE_OPD, "stable-opd-without", beta=0.0, demonstration_share=0.0)

# As the fast teacher that it is compared with, it goes on from the student that a stage finds.
GATED = ClaimArm("sdft-gated", {**GOES_ON, "teacher_kind": "gated"})

TRUST_REGION = ClaimArm("sdpo-trust-region", {"name": "sdpo", "teacher_kind": "trust_region", "stage_start": "student"})

MASKED = ClaimArm("sdpo-masked", {"name": "sdpo", "stage_start": "student", "token_mask_ratio": 0.5})

AUTO_NPO = ClaimArm("auto-npo-hard", {"name": "auto_npo", "num_generations": HARD_GROUP}, HARD_STEPS)

_NEW = "new tasks right after their stage"

_FULL = "Both learn the lab's tasks nearly whole, and there is little room above."

_SHORT = "Answers of ten tokens in short stages leave little time to come apart."


class LossAbove(NamedTuple):
    """That a number of one arm lies above that of another, or is no worse by a margin.

    `number` is of a run; None for what was lost where both stand at the same score.
    """

    what: str
    a: ClaimArm
    b: ClaimArm
    number: Callable[[RunSummary], float | None] | None
    if_not: str
    unit: str = "points"
    margin: float = 0.0

    def measure(self, found: Evidence) -> Quantity:
        labels = self.a.label, self.b.label
        values = matched_loss(found, *labels) if self.number is None else found.difference(*labels, self.number)
        relation = f" no worse by {self.margin:g} {self.unit} than " if self.margin else " above "
        return Quantity(f"{self.what}, {relation.join(labels)}", self.unit, values, self.if_not, margin=self.margin)


def _claim(name: str, statement: str, source: str, *parts: LossAbove) -> Claim:
    arms = tuple({arm.label: arm for part in parts for arm in (part.a, part.b)}.values())
    return Claim(name, statement, source, arms, measure=lambda found: [part.measure(found) for part in parts])


def truncated(summary: RunSummary) -> float | None:
    """Share of the tasks' greedy answers that were cut off at the stream's end, in points."""
    last = summary["evaluations"][-1]["scores"]
    shares = [last[task].get("truncated") for task in summary["order"] if task in last]
    return mean(POINTS * share for share in shares if share is not None)


AVERAGED = 0.5


def _blended(found: Evidence) -> list[Quantity]:
    """The mean of base and trained weights, evaluated as the trained model was."""
    kept: list[float | None] = []
    net: list[float | None] = []
    for folder, summary in zip(found.folders[SFT.label], found.summaries[SFT.label], strict=True):
        after = {name: each["mean"] for name, each in summary["evaluations"][-1]["scores"].items()}
        scores = _scores_between(RunDirectory(folder), len(summary["order"]))
        gains = {name: POINTS * (scores[name] - after[name]) for name in after if name in scores}
        suites = [each["name"] for each in summary["sets"] if each["kind"] == "retention"]
        old, new = (mean(gains[name] for name in names if name in gains) for names in (suites, summary["order"]))
        kept.append(old)
        net.append(None if old is None or new is None else old + new)
    far = "The stream's second task overwrites the first, and half of the way back brings neither of them back."
    return [
        Quantity("retention suites, half-way model above the trained one", "points", kept, far),
        Quantity("that gain, less what the new tasks lose", "points", net, far),
    ]


def _scores_between(run: RunDirectory, stages: int) -> dict[str, float]:
    """Scores on a run's sets half-way between the lab's base and the run's last model; empty where there is none."""
    if not run.model(stages).exists():
        return {}
    from holdfast.evaluate.standalone import evaluate_model, evaluation_plan
    from holdfast.model.blend import Blend

    with TemporaryDirectory() as folder:
        between = Path(folder) / "between"
        Blend("lab", [str(run.model(stages))]).write(AVERAGED, between)
        found = evaluate_model(evaluation_plan(run.config, (), None, False).for_model(str(between)))
    return {name: each["mean"] for name, each in found["sets"].items()}


LATER: tuple[Claim, ...] = (
    _claim(
        "isdft-learns-and-keeps-more",
        "A part of the way to the teacher, anchored to the base, learns more than all of it, and keeps more.",
        "arXiv 2609.24646",
        LossAbove(_NEW, ISDFT, SDFT, learned, _FULL),
        LossAbove("retention suites lost", SDFT, ISDFT, suites_lost, _SHORT),
    ),
    _claim(
        "correct-only-learns-more",
        "Of four samples of a prompt, distilling on the right ones alone teaches more than on all of them.",
        "arXiv 2605.06188",
        LossAbove(
            _NEW,
            CORRECT_ONLY,
            ALL_SAMPLES,
            learned,
            "Where no sample is right nothing is learned, as in the first steps.",
        ),
    ),
    _claim(
        "gated-refresh-does-not-collapse",
        "A teacher that is refreshed when reward and lengths allow it keeps what one that follows fast loses.",
        "arXiv 2606.03532",
        LossAbove("retention suites lost", SDFT_FAST, GATED, suites_lost, _SHORT),
        LossAbove("all tasks at the end", GATED, SDFT_FAST, metric("final_score"), _SHORT),
    ),
    _claim(
        "beta-opsd-keeps-more",
        "A target between the base and the teacher keeps more than the teacher itself.",
        "arXiv 2607.28582",
        LossAbove("lost at the same score", WHOLE_TEACHER, BETA_OPSD, None, EARLY),
        LossAbove("KL to base", WHOLE_TEACHER, BETA_OPSD, kl_to_base, _SHORT, "nats"),
    ),
    _claim(
        "stable-opd-is-not-cut-off",
        "An anchor and some demonstrations keep on-policy distillation from answers that never end.",
        "arXiv 2604.08527",
        LossAbove("answers cut off at the end", UNSTABLE_OPD, STABLE_OPD, truncated, _SHORT),
        LossAbove("retention suites lost", UNSTABLE_OPD, STABLE_OPD, suites_lost, _SHORT),
    ),
    _claim(
        "trust-region-holds-as-well",
        "A still teacher mixed with the student learns as much as one that averages it, and keeps more.",
        "our reading of arXiv 2601.20802, which compares scores",
        LossAbove(_NEW, TRUST_REGION, SDPO, learned, _FULL, margin=MARGIN),
        LossAbove("retention suites lost", SDPO, TRUST_REGION, suites_lost, _SHORT),
    ),
    _claim(
        "denser-is-not-better",
        "With a random half of the tokens left out, self-distillation learns as much and drifts less.",
        "our reading of arXiv 2607.01763, whose numbers on masks are not known to us",
        LossAbove(_NEW, MASKED, SDPO, learned, "Half of the tokens teach more slowly.", margin=MARGIN),
        LossAbove(
            "KL to base", SDPO, MASKED, kl_to_base, "What is left out of a step is made up for by its weight.", "nats"
        ),
    ),
    _claim(
        "thoughts-in-the-privilege-add-noise",
        "The answer alone teaches more than the answer with the whole solution before it.",
        "arXiv 2607.01763",
        LossAbove(
            "the task right after its stage",
            ANSWER_ALONE,
            OPSD,
            learned,
            "On the lab the steps are the skill: an answer without them does not say how it came about.",
        ),
    ),
    _claim(
        "reference-kl-keeps-more",
        "GRPO held to the base by a penalty keeps more than without it.",
        "arXiv 2509.04259; arXiv 2607.01763",
        LossAbove("lost at the same score", GRPO, GRPO_KL, None, EARLY),
        LossAbove("KL to base", GRPO, GRPO_KL, kl_to_base, _SHORT, "nats"),
    ),
    _claim(
        "sdpg-faster-than-grpo",
        "A weak pull to the privileged model takes GRPO to a score in fewer steps.",
        "arXiv 2606.04036",
        LossAbove(
            "steps to 80 points on the first task",
            GRPO_COUNTED,
            SDPG_COUNTED,
            steps_to(SCORE),
            "GRPO is there within some ten steps, and the pull is a thousandth of the loss.",
            "steps",
        ),
    ),
    _claim(
        "sd-zero-above-rft",
        "Learning to revise, and distilling the reviser, learns more from rewards than imitating right samples.",
        "arXiv 2604.12002",
        LossAbove(_NEW, SD_ZERO, RFT, learned, "The lab's base revises hardly any of its answers rightly."),
    ),
    _claim(
        "auto-npo-above-grpo",
        "Going back by itself when it has stalled, with its later right answers, takes GRPO further in as many steps, "
        "what it takes anew not counted.",
        "arXiv 2604.20733",
        LossAbove(
            "hard questions in steps right after the stage",
            AUTO_NPO,
            GRPO_HARD,
            learned,
            "A run that has not stalled does not go back, and is GRPO's own.",
        ),
    ),
    Claim(
        name="half-way-keeps-more",
        statement="The mean of the base's and the trained weights keeps more of what was known than it gives up.",
        source="WiSE-FT, arXiv 2109.01903",
        arms=(SFT,),
        measure=_blended,
    ),
)

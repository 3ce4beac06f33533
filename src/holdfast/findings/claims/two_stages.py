"""Claims about recipes on the lab's stream of two stages, and the arms that other claims share. Torch-free."""

from collections.abc import Callable, Sequence
from typing import Any

from holdfast.findings.claim import Claim, ClaimArm, Evidence, Quantity
from holdfast.findings.read import (
    kl_on_first_task,
    kl_to_base,
    matched_loss,
    metric,
    moved,
    rank_correlation,
    steps_to,
    suites_lost,
    suites_lost_in_first_stage,
)

SFT = ClaimArm("sft", "sft")

_CLOSELY: dict[str, Any] = {"eval.response_items": 48, "eval.drift_weights": 1}
"""Answers are kept too, for what is claimed of their form, and weights compared, by their norms alone."""

# The lab's answers have few tokens: there is no lead-in to skip.
SDFT = ClaimArm("sdft", {"name": "sdft", "num_loss_tokens_to_skip": 0})

# Teachers that differ in their pace alone: both go on from the student that a stage finds.
GOES_ON = {"name": "sdft", "num_loss_tokens_to_skip": 0, "stage_start": "student"}

SDFT_SLOW = ClaimArm("sdft-slow", GOES_ON, _CLOSELY)

SDFT_FAST = ClaimArm("sdft-fast", {**GOES_ON, "ema_rate": 0.3}, _CLOSELY)

# As in the source of the claims about streams, where the average of 5% goes on from the student that a stage finds.
SDPO = ClaimArm("sdpo", {"name": "sdpo", "stage_start": "student"}, _CLOSELY)

SDPO_FROZEN = ClaimArm("sdpo-frozen", {"name": "sdpo", "teacher_kind": "frozen", "stage_start": "student"}, _CLOSELY)

SC_SDPO = ClaimArm("sc-sdpo", {"name": "sc_sdpo", "stage_start": "student"})

GRPO = ClaimArm("grpo", "grpo", _CLOSELY)

DFT = ClaimArm("dft", "dft")

KL_SFT = ClaimArm("kl-sft", "kl_sft")

RFT = ClaimArm("rft", "rft")

_COUNTED: dict[str, Any] = {
    "tasks": ["lab:calculation"],
    "train.steps": 12,
    "eval.probe_steps": 1,
    "eval.probe_items": 48,
    "eval.kl_items": 0,
}
"""One stage that is probed at every step, to count steps to a score: on the lab these are few."""

SDPO_COUNTED = ClaimArm("sdpo-counted", SDPO.recipe, _COUNTED)

GRPO_COUNTED = ClaimArm("grpo-counted", "grpo", _COUNTED)

RLSD_COUNTED = ClaimArm("rlsd-counted", "rlsd", _COUNTED)

SDPG_COUNTED = ClaimArm("sdpg-counted", "sdpg", _COUNTED)

SCORE = 0.8

EARLY = "At a score that both reach, both have taken few steps on the lab, and either has lost little by then."

SHORT = "Two short stages may be too short for the student's in-context ability to wear down."

learned = metric("learned_score")


def _sdft_above_sft(found: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "new tasks right after their stage, SDFT above SFT",
            "points",
            found.difference("sdft", "sft", learned),
            "The lab's tasks are learned nearly whole by both, and there is little room above.",
        ),
        Quantity("lost at the same score, SFT above SDFT", "points", matched_loss(found, "sft", "sdft"), EARLY),
    ]


def _sdpo_against_grpo(found: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "steps to 80 points on the first task, GRPO above SDPO",
            "steps",
            found.difference("grpo-counted", "sdpo-counted", steps_to(SCORE)),
            "The lab's first task is simple: both learn it within some ten steps.",
        ),
        Quantity(
            "lost at the same score, SDPO above GRPO",
            "points",
            matched_loss(found, "sdpo", "grpo"),
            f"{EARLY} GRPO may not learn the second stage, so that only the first can be matched.",
        ),
    ]


def _slow_above_fast(found: Evidence) -> list[Quantity]:
    final = found.difference("sdft-slow", "sdft-fast", metric("final_score"))
    return [
        Quantity("all tasks at the end, slow above fast", "points", final, SHORT),
        Quantity(
            "retention suites lost, fast above slow",
            "points",
            found.difference("sdft-fast", "sdft-slow", suites_lost),
            SHORT,
        ),
    ]


def _frozen_above_ema(found: Evidence) -> list[Quantity]:
    same = "An average of 5% has moved some three quarters of the way in a stage, so that it lags little."
    return [
        Quantity(
            "all tasks at the end, frozen above EMA",
            "points",
            found.difference("sdpo-frozen", "sdpo", metric("final_score")),
            same,
        ),
        Quantity(
            "retention suites lost, EMA above frozen",
            "points",
            found.difference("sdpo", "sdpo-frozen", suites_lost),
            same,
        ),
        Quantity("KL to base, EMA above frozen", "nats", found.difference("sdpo", "sdpo-frozen", kl_to_base), same),
    ]


def keeps_more_than_sft(label: str, title: str, sft: str = "sft") -> Callable[[Evidence], list[Quantity]]:
    """What is claimed of many recipes: at the score that both reach, SFT has lost more.

    Args:
        label: of the recipe's arm.
        title: its name.
        sft: label of SFT's arm, where the recipe's is not set as that is.
    """

    def measure(found: Evidence) -> list[Quantity]:
        lost = matched_loss(found, sft, label)
        return [Quantity(f"lost at the same score, SFT above {title}", "points", lost, EARLY)]

    return measure


def _rlsd_faster(found: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "steps to 80 points on the first task, GRPO above RLSD",
            "steps",
            found.difference("grpo-counted", "rlsd-counted", steps_to(SCORE)),
            "GRPO is there within some ten steps, and the teacher may only scale its advantages by a fifth.",
        )
    ]


def _undecided_prompts(found: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "new tasks right after their stage, SC-SDPO above SDPO",
            "points",
            found.difference("sc-sdpo", "sdpo", learned),
            "The lab's prompts of one task are alike: whole batches are undecided, or none is.",
        )
    ]


def _drift_order(found: Evidence) -> list[Quantity]:
    """At the stream's end, as in the source, whatever was learned."""
    same = "Adam takes steps of much the same size whatever the signal's strength."
    return [
        Quantity(
            "share of the weights' norm moved at the end, frozen teacher above GRPO",
            "%",
            found.difference("sdpo-frozen", "grpo", moved),
            same,
            "Adam divides a signal by its own size, so that rewards move the weights as far as a teacher does.",
        ),
        Quantity(
            "share of the weights' norm moved at the end, EMA above frozen teacher",
            "%",
            found.difference("sdpo", "sdpo-frozen", moved),
            f"{same} Within short stages the two teachers are nearly the same.",
        ),
    ]


def _kl_predicts(found: Evidence) -> list[Quantity]:
    """Over recipes, seed by seed: each point is one recipe's first stage."""
    labels = list(found.summaries)
    values = []
    for seed in range(len(found.summaries[labels[0]])):
        runs = [found.summaries[label][seed] for label in labels]
        pairs = [[number(run) for run in runs] for number in (kl_on_first_task, suites_lost_in_first_stage)]
        values.append(rank_correlation(*pairs))
    name = "rank correlation over recipes of KL to base on the new task and what the suites lost in its stage"
    reason = "The base does not know the new header's form: any recipe that learns it is far from the base there."
    return [Quantity(name, "", values, reason)]


def _vopd_baseline(seeds: Sequence[int]) -> list[Quantity]:
    from holdfast.findings.variance import gradient_noise

    return gradient_noise(seeds)


TWO_STAGES: tuple[Claim, ...] = (
    Claim(
        name="sdft-above-sft",
        statement="SDFT learns new tasks better than SFT from the same demonstrations, and forgets less.",
        source="arXiv 2601.19897, table 5",
        arms=(SFT, SDFT),
        measure=_sdft_above_sft,
    ),
    Claim(
        name="sdpo-faster-forgets-more",
        statement="SDPO learns its domain in fewer steps than GRPO, and forgets more.",
        source="arXiv 2601.20802, table 3; arXiv 2607.01763",
        arms=(SDPO_COUNTED, GRPO_COUNTED, SDPO, GRPO),
        measure=_sdpo_against_grpo,
    ),
    Claim(
        name="slow-above-fast-teacher",
        statement="A teacher that follows the student slowly ends higher and keeps more than one that follows fast.",
        source="arXiv 2601.19897, figure 8; arXiv 2606.03532",
        arms=(SDFT_SLOW, SDFT_FAST),
        measure=_slow_above_fast,
    ),
    Claim(
        name="frozen-above-ema",
        statement="In sequential SDPO a teacher frozen at a stage's start ends higher and keeps more than an average "
        "of rate 5%.",
        source="arXiv 2607.01763, table 1",
        arms=(SDPO_FROZEN, SDPO),
        measure=_frozen_above_ema,
    ),
    Claim(
        name="drift-order",
        statement="GRPO moves the weights least, SDPO with a frozen teacher further, with an average of 5% furthest.",
        source="arXiv 2607.01763, figure of parameter drift",
        arms=(GRPO, SDPO_FROZEN, SDPO),
        measure=_drift_order,
    ),
    Claim(
        name="kl-predicts-forgetting",
        statement="Of these seven recipes, what a stage forgets follows the KL to the base on its prompts.",
        source="arXiv 2509.04259",
        arms=(SFT, DFT, KL_SFT, RFT, SDFT, SDPO, GRPO),
        measure=_kl_predicts,
    ),
    Claim(
        name="dft-keeps-more",
        statement="Weighing each token of a demonstration by its own probability forgets less than SFT.",
        source="arXiv 2508.05629; arXiv 2601.19897, table 5",
        arms=(SFT, DFT),
        measure=keeps_more_than_sft("dft", "DFT"),
    ),
    Claim(
        name="kl-sft-keeps-more",
        statement="An anchor to the base in SFT's loss keeps more of what was known.",
        source="arXiv 1606.09282; arXiv 2509.04259",
        arms=(SFT, KL_SFT),
        measure=keeps_more_than_sft("kl-sft", "KL-SFT"),
    ),
    Claim(
        name="own-samples-keep-more",
        statement="Imitating one's own right samples, drawn anew at each step, forgets less than demonstrations do.",
        source="arXiv 2510.18874",
        arms=(SFT, RFT),
        measure=keeps_more_than_sft("rft", "RFT"),
    ),
    Claim(
        name="rlsd-faster-than-grpo",
        statement="Reward for the direction and a teacher for the magnitude learn in fewer steps than GRPO.",
        source="arXiv 2604.03128",
        arms=(GRPO_COUNTED, RLSD_COUNTED),
        measure=_rlsd_faster,
    ),
    Claim(
        name="undecided-prompts-teach-most",
        statement="SDPO learns more where prompts are weighed by how undecided the student is.",
        source="arXiv 2605.27765",
        arms=(SDPO, SC_SDPO),
        measure=_undecided_prompts,
    ),
    Claim(
        name="vopd-baseline",
        statement="Subtracting its mean in closed form lowers the variance of the sampled-token gradient and leaves "
        "its mean as it is.",
        source="arXiv 2605.07865",
        experiment=_vopd_baseline,
    ),
)

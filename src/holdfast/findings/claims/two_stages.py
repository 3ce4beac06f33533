"""Claims about recipes on the lab's two-stage stream, and the arms that other claims share. Torch-free."""

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
"""Also keep answers, for claims about their format, and compare weights by their norms only."""

# The lab's answers have few tokens, so there is no lead-in to skip.
SDFT = ClaimArm("sdft", {"name": "sdft", "num_loss_tokens_to_skip": 0})

# Teachers that differ only in their pace. Both start each stage from the current student.
GOES_ON = {"name": "sdft", "num_loss_tokens_to_skip": 0, "stage_start": "student"}

SDFT_SLOW = ClaimArm("sdft-slow", GOES_ON, _CLOSELY)

SDFT_FAST = ClaimArm("sdft-fast", {**GOES_ON, "ema_rate": 0.3}, _CLOSELY)

# As in the source of the claims about streams: the 5% EMA starts each stage from the current student.
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
"""One stage with a probe at every step, to count the few steps that a score takes on the lab."""

SDPO_COUNTED = ClaimArm("sdpo-counted", SDPO.recipe, _COUNTED)

GRPO_COUNTED = ClaimArm("grpo-counted", "grpo", _COUNTED)

RLSD_COUNTED = ClaimArm("rlsd-counted", "rlsd", _COUNTED)

SDPG_COUNTED = ClaimArm("sdpg-counted", "sdpg", _COUNTED)

SCORE = 0.8

EARLY = "On the lab, a score that both reach takes few steps, and both have forgotten little by then."

SHORT = "Two short stages may be too short to wear down the student's in-context ability."

learned = metric("learned_score")


def _sdft_above_sft(evidence: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "score on new tasks after their stage, SDFT − SFT",
            "points",
            evidence.difference("sdft", "sft", learned),
            "Both learn the lab's tasks almost completely, so there is little room for a difference.",
        ),
        Quantity("forgetting at the same score, SFT − SDFT", "points", matched_loss(evidence, "sft", "sdft"), EARLY),
    ]


def _sdpo_against_grpo(evidence: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "steps to 80 points on the first task, GRPO − SDPO",
            "steps",
            evidence.difference("grpo-counted", "sdpo-counted", steps_to(SCORE)),
            "The lab's first task is simple: both learn it within about ten steps.",
        ),
        Quantity(
            "forgetting at the same score, SDPO − GRPO",
            "points",
            matched_loss(evidence, "sdpo", "grpo"),
            f"{EARLY} If GRPO does not learn the second stage, only the first can be matched.",
        ),
    ]


def _slow_above_fast(evidence: Evidence) -> list[Quantity]:
    final = evidence.difference("sdft-slow", "sdft-fast", metric("final_score"))
    return [
        Quantity("score on all tasks at the end, slow − fast", "points", final, SHORT),
        Quantity(
            "loss on retention suites, fast − slow",
            "points",
            evidence.difference("sdft-fast", "sdft-slow", suites_lost),
            SHORT,
        ),
    ]


def _frozen_above_ema(evidence: Evidence) -> list[Quantity]:
    same = "A 5% EMA moves about three quarters of the way within a stage, so it lags little."
    return [
        Quantity(
            "score on all tasks at the end, frozen − EMA",
            "points",
            evidence.difference("sdpo-frozen", "sdpo", metric("final_score")),
            same,
        ),
        Quantity(
            "loss on retention suites, EMA − frozen",
            "points",
            evidence.difference("sdpo", "sdpo-frozen", suites_lost),
            same,
        ),
        Quantity("KL to base, EMA − frozen", "nats", evidence.difference("sdpo", "sdpo-frozen", kl_to_base), same),
    ]


def keeps_more_than_sft(label: str, title: str, sft: str = "sft") -> Callable[[Evidence], list[Quantity]]:
    """The claim about many recipes: at a score that both reach, SFT has forgotten more.

    Args:
        label: of the recipe's arm.
        title: the recipe's name in the text.
        sft: label of SFT's arm, if the recipe needs one with other settings.
    """

    def measure(evidence: Evidence) -> list[Quantity]:
        lost = matched_loss(evidence, sft, label)
        return [Quantity(f"forgetting at the same score, SFT − {title}", "points", lost, EARLY)]

    return measure


def _rlsd_faster(evidence: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "steps to 80 points on the first task, GRPO − RLSD",
            "steps",
            evidence.difference("grpo-counted", "rlsd-counted", steps_to(SCORE)),
            "GRPO needs only about ten steps, and the teacher can scale its advantages by a fifth only.",
        )
    ]


def _undecided_prompts(evidence: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "score on new tasks after their stage, SC-SDPO − SDPO",
            "points",
            evidence.difference("sc-sdpo", "sdpo", learned),
            "Prompts of one lab task are similar, so the student is uncertain about whole batches or about none.",
        )
    ]


def _drift_order(evidence: Evidence) -> list[Quantity]:
    """Measured at the end of the stream, as in the source, whatever was learned."""
    same = "Adam's step size hardly depends on the strength of the signal."
    return [
        Quantity(
            "relative change of the weights at the end, frozen teacher − GRPO",
            "%",
            evidence.difference("sdpo-frozen", "grpo", moved),
            same,
            "Adam divides a signal by its own size, so rewards move the weights as far as a teacher does.",
        ),
        Quantity(
            "relative change of the weights at the end, EMA − frozen teacher",
            "%",
            evidence.difference("sdpo", "sdpo-frozen", moved),
            f"{same} In short stages the two teachers are nearly the same.",
        ),
    ]


def _kl_predicts(evidence: Evidence) -> list[Quantity]:
    """Correlated over recipes, seed by seed. Each point is one recipe's first stage."""
    labels = list(evidence.summaries)
    values = []
    for seed in range(len(evidence.summaries[labels[0]])):
        runs = [evidence.summaries[label][seed] for label in labels]
        pairs = [[number(run) for run in runs] for number in (kl_on_first_task, suites_lost_in_first_stage)]
        values.append(rank_correlation(*pairs))
    name = "rank correlation over recipes, KL to base on the new task and loss on the suites in its stage"
    reason = (
        "The base does not know the format of the new header, so every recipe that learns it moves far from the base."
    )
    return [Quantity(name, "", values, reason)]


def _vopd_baseline(seeds: Sequence[int]) -> list[Quantity]:
    from holdfast.findings.variance import gradient_noise

    return gradient_noise(seeds)


TWO_STAGES: tuple[Claim, ...] = (
    Claim(
        name="sdft-above-sft",
        statement="From the same demonstrations, SDFT learns new tasks better than SFT and forgets less.",
        source="arXiv 2601.19897, table 5",
        arms=(SFT, SDFT),
        measure=_sdft_above_sft,
    ),
    Claim(
        name="sdpo-faster-forgets-more",
        statement="SDPO learns its task in fewer steps than GRPO and forgets more.",
        source="arXiv 2601.20802, table 3; arXiv 2607.01763",
        arms=(SDPO_COUNTED, GRPO_COUNTED, SDPO, GRPO),
        measure=_sdpo_against_grpo,
    ),
    Claim(
        name="slow-above-fast-teacher",
        statement="A teacher that follows the student slowly leads to a higher final score and less forgetting than a "
        "fast one.",
        source="arXiv 2601.19897, figure 8; arXiv 2606.03532",
        arms=(SDFT_SLOW, SDFT_FAST),
        measure=_slow_above_fast,
    ),
    Claim(
        name="frozen-above-ema",
        statement="In sequential SDPO, a teacher that is frozen at the start of each stage leads to a higher final "
        "score and less forgetting than a 5% EMA.",
        source="arXiv 2607.01763, table 1",
        arms=(SDPO_FROZEN, SDPO),
        measure=_frozen_above_ema,
    ),
    Claim(
        name="drift-order",
        statement="GRPO moves the weights least, SDPO with a frozen teacher more, and SDPO with a 5% EMA most.",
        source="arXiv 2607.01763, figure of parameter drift",
        arms=(GRPO, SDPO_FROZEN, SDPO),
        measure=_drift_order,
    ),
    Claim(
        name="kl-predicts-forgetting",
        statement="Over these seven recipes, the forgetting of a stage follows the KL to the base on its prompts.",
        source="arXiv 2509.04259",
        arms=(SFT, DFT, KL_SFT, RFT, SDFT, SDPO, GRPO),
        measure=_kl_predicts,
    ),
    Claim(
        name="dft-keeps-more",
        statement="Weighting each token of a demonstration by its own probability forgets less than SFT.",
        source="arXiv 2508.05629; arXiv 2601.19897, table 5",
        arms=(SFT, DFT),
        measure=keeps_more_than_sft("dft", "DFT"),
    ),
    Claim(
        name="kl-sft-keeps-more",
        statement="SFT with a KL penalty to the base forgets less than SFT.",
        source="arXiv 1606.09282; arXiv 2509.04259",
        arms=(SFT, KL_SFT),
        measure=keeps_more_than_sft("kl-sft", "KL-SFT"),
    ),
    Claim(
        name="own-samples-keep-more",
        statement="Imitating own correct samples, drawn again at each step, forgets less than imitating "
        "demonstrations.",
        source="arXiv 2510.18874",
        arms=(SFT, RFT),
        measure=keeps_more_than_sft("rft", "RFT"),
    ),
    Claim(
        name="rlsd-faster-than-grpo",
        statement="With the reward for the direction and a teacher for the magnitude, RLSD needs fewer steps than "
        "GRPO.",
        source="arXiv 2604.03128",
        arms=(GRPO_COUNTED, RLSD_COUNTED),
        measure=_rlsd_faster,
    ),
    Claim(
        name="undecided-prompts-teach-most",
        statement="SDPO learns more if prompts are weighted by the student's uncertainty.",
        source="arXiv 2605.27765",
        arms=(SDPO, SC_SDPO),
        measure=_undecided_prompts,
    ),
    Claim(
        name="vopd-baseline",
        statement="Subtracting the closed-form mean lowers the variance of the sampled-token gradient and does not "
        "change the gradient's mean.",
        source="arXiv 2605.07865",
        experiment=_vopd_baseline,
    ),
)

"""The claims that are put to the test, by name. Each says what would count before anything is measured. Torch-free."""

from collections.abc import Sequence

from holdfast.findings.claim import Arm, Claim, Evidence, Quantity
from holdfast.findings.read import kl_to_base, matched_loss, metric, steps_to

SFT = Arm("sft", "sft")
# The lab's answers have few tokens: there is no lead-in to skip.
SDFT = Arm("sdft", {"name": "sdft", "num_loss_tokens_to_skip": 0})
SDFT_FAST = Arm("sdft-fast", {"name": "sdft", "num_loss_tokens_to_skip": 0, "ema_rate": 0.3, "stage_start": "student"})
SDPO = Arm("sdpo", "sdpo")
SDPO_FROZEN = Arm("sdpo-frozen", {"name": "sdpo", "teacher_kind": "frozen", "stage_start": "student"})
SDPO_EMA = Arm("sdpo-ema", {"name": "sdpo", "ema_rate": 0.05, "stage_start": "student"})
GRPO = Arm("grpo", "grpo")

EARLY = "At a score that both reach, both have taken few steps on the lab, and either has lost little by then."
SHORT = "Two stages of thirty steps may be too short for the student's in-context ability to wear down."

learned = metric("learned_score")


def _sdft_above_sft(found: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "new tasks right after their stage, SDFT above SFT",
            "points",
            found.difference("sdft", "sft", learned),
            "The lab's tasks are learnt nearly whole by both, and there is little room above.",
        ),
        Quantity("lost at the same score, SFT above SDFT", "points", matched_loss(found, "sft", "sdft"), EARLY),
    ]


def _sdpo_against_grpo(found: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "steps to 80 points on the first task, GRPO above SDPO",
            "steps",
            found.difference("grpo", "sdpo", steps_to(0.8)),
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
    final = found.difference("sdft", "sdft-fast", metric("final_score"))
    return [
        Quantity("all tasks at the end, slow above fast", "points", final, SHORT),
        Quantity(
            "retention suites lost, fast above slow",
            "points",
            found.difference("sdft-fast", "sdft", metric("retention")),
            SHORT,
        ),
    ]


def _frozen_above_ema(found: Evidence) -> list[Quantity]:
    moved = "An average of 5% has moved four fifths of the way in thirty steps, so that it lags little."
    return [
        Quantity(
            "new tasks right after their stage, frozen above EMA",
            "points",
            found.difference("sdpo-frozen", "sdpo-ema", learned),
            moved,
        ),
        Quantity(
            "KL to base, EMA above frozen", "nats", found.difference("sdpo-ema", "sdpo-frozen", kl_to_base), moved
        ),
    ]


def _vopd_baseline(seeds: Sequence[int]) -> list[Quantity]:
    from holdfast.findings.variance import gradient_noise

    return gradient_noise(seeds)


CLAIMS: tuple[Claim, ...] = (
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
        arms=(SDPO, GRPO),
        measure=_sdpo_against_grpo,
    ),
    Claim(
        name="slow-above-fast-teacher",
        statement="A teacher that follows the student slowly teaches more and keeps more than one that follows fast.",
        source="arXiv 2601.19897, figure 8; arXiv 2606.03532",
        arms=(SDFT, SDFT_FAST),
        measure=_slow_above_fast,
    ),
    Claim(
        name="frozen-above-ema",
        statement="In sequential SDPO a teacher frozen at a stage's start is more stable than an average of rate 5%.",
        source="arXiv 2607.01763, table 1",
        arms=(SDPO_FROZEN, SDPO_EMA),
        measure=_frozen_above_ema,
    ),
    Claim(
        name="vopd-baseline",
        statement="Subtracting its mean in closed form lowers the variance of the sampled-token gradient and leaves "
        "its mean as it is.",
        source="arXiv 2605.07865",
        experiment=_vopd_baseline,
    ),
)

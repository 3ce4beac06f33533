"""The arms that several claims share. A run that several claims need is made once. Torch-free.

The lab's answers have few tokens, so there is no lead-in to skip, and SDFT's `num_loss_tokens_to_skip` is 0 everywhere.
"""

from collections.abc import Mapping
from typing import Any

from holdfast.findings.arm import RATES, ClaimArm
from holdfast.findings.stream import FACTS, QUESTS, SEQUENCE, STEPS, STEPS_HARD, TOOLS

UNSTABLE = 4e-4
"""The learning rate of claims about teachers that become unstable. At lower rates, all teachers stay near the base."""

COMMON = 1e-4
"""The learning rate of claims that compare how far recipes move at the same rate."""

MIDDLE = RATES[1]
"""The learning rate of claims about what recipes lose at the same rate."""

ADAPTER_RATES = (1e-3, 2e-3, 4e-3)
"""The rates to choose from for an adapter, which has few weights."""


def sdft(**settings: Any) -> Mapping[str, Any]:
    """SDFT with settings; its teacher is the base if nothing else is said."""
    return {"name": "sdft", "num_loss_tokens_to_skip": 0, "teacher_kind": "frozen", **settings}


def sdft_following(ema_rate: float) -> Mapping[str, Any]:
    """SDFT whose teacher follows the student as an EMA."""
    return sdft(teacher_kind="ema", ema_rate=ema_rate, stage_start="student")


def sdpo(**settings: Any) -> Mapping[str, Any]:
    """SDPO with settings. As in the source of the claims about streams, its teacher starts each stage from the current
    student, and follows it as a 5% EMA if nothing else is said."""
    return {"name": "sdpo", "stage_start": "student", **settings}


OWN_VOICE: Mapping[str, Any] = {"tasks.0.lab_settings.voice": 0.0, "tasks.0.lab_settings.tics": 0.06}
"""Demonstrations in the base's own voice."""

SFT = ClaimArm("sft", "sft", FACTS)

SFT_OWN_VOICE = ClaimArm("sft-own-voice", "sft", FACTS, OWN_VOICE)

DFT = ClaimArm("dft", "dft", FACTS)

RFT = ClaimArm("rft", "rft", FACTS)

SDFT = ClaimArm("sdft", sdft(), FACTS)

BETA_OPSD = ClaimArm("beta-opsd", {"name": "beta_opsd", "beta": 2.0}, FACTS)

REWRITTEN = ClaimArm("rewrite-sft", "rewrite_sft", FACTS)

SDPO = ClaimArm("sdpo", sdpo(), FACTS)

GRPO = ClaimArm("grpo", "grpo", FACTS)

GRPO_KL = ClaimArm("grpo-kl", {"name": "grpo", "beta": 0.05}, FACTS)

SFT_ADAPTER = ClaimArm("sft-lora", "sft", FACTS, {"model.lora": {"r": 8}}, rates=ADAPTER_RATES)

SDPO_UNSTABLE = SDPO.at(UNSTABLE)

SDPO_FAST_UNSTABLE = ClaimArm("sdpo-fast", sdpo(ema_rate=0.2), FACTS).at(UNSTABLE)

SDPO_FROZEN_UNSTABLE = ClaimArm("sdpo-frozen", sdpo(teacher_kind="frozen"), FACTS).at(UNSTABLE)

SDFT_UNSTABLE = SDFT.at(UNSTABLE)

SDFT_SLOW_UNSTABLE = ClaimArm("sdft-slow", sdft_following(0.01), FACTS).at(UNSTABLE)

SDFT_FAST_UNSTABLE = ClaimArm("sdft-fast", sdft_following(0.1), FACTS).at(UNSTABLE)

SFT_SEQUENCE, SDFT_SEQUENCE = SFT.on(SEQUENCE), SDFT.on(SEQUENCE)

REPLAY_SEQUENCE = ClaimArm("replay", "replay", FACTS).on(SEQUENCE)

SDPO_TOOLS, GRPO_TOOLS, RFT_TOOLS = SDPO.on(TOOLS), GRPO.on(TOOLS), RFT.on(TOOLS)

# Clipping per entry reverses OPSD's gradient at clipped entries, and on the lab it clips everywhere.
OPSD_STEPS = ClaimArm("opsd", {"name": "opsd", "clip": "token"}, STEPS)

HARD_GROUP = 4
"""Samples per prompt on hard steps, for all recipes. In most groups all samples are wrong."""

GRPO_HARD = ClaimArm("grpo-hard", {"name": "grpo", "num_generations": HARD_GROUP}, STEPS_HARD)

GRPO_QUESTS = ClaimArm("grpo-quests", "grpo", QUESTS)

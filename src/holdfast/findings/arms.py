"""The arms that several claims share. A run that several claims need is made once. Torch-free.

The lab's answers have few tokens, so there is no lead-in to skip, and SDFT's `num_loss_tokens_to_skip` is 0 everywhere.
"""

from collections.abc import Mapping
from typing import Any

from holdfast.findings.arm import Arm
from holdfast.findings.stream import FACTS

UNSTABLE = 4e-4
"""The learning rate of claims about teachers that become unstable. At lower rates, all teachers stay near the base."""


def sdft(**settings: Any) -> Mapping[str, Any]:
    """SDFT with settings; its teacher is the base if nothing else is said."""
    return {"name": "sdft", "num_loss_tokens_to_skip": 0, "teacher_kind": "frozen", **settings}


def sdpo(**settings: Any) -> Mapping[str, Any]:
    """SDPO with settings. As in the source of the claims about streams, its teacher starts each stage from the current
    student, and follows it as a 5% EMA if nothing else is said."""
    return {"name": "sdpo", "stage_start": "student", **settings}


def following(rate: float) -> Mapping[str, Any]:
    """SDFT whose teacher follows the student as an EMA."""
    return sdft(teacher_kind="ema", ema_rate=rate, stage_start="student")


SFT = Arm("sft", "sft", FACTS)

SDFT = Arm("sdft", sdft(), FACTS)

SDPO = Arm("sdpo", sdpo(), FACTS)

SDPO_FROZEN = Arm("sdpo-frozen", sdpo(teacher_kind="frozen"), FACTS)

GRPO = Arm("grpo", "grpo", FACTS)

RFT = Arm("rft", "rft", FACTS)

DFT = Arm("dft", "dft", FACTS)

"""Claims about methods that reduce forgetting when fine-tuning on demonstrations. Torch-free."""

from typing import Any

from holdfast.findings.claim import Claim, ClaimArm
from holdfast.findings.claims.two_stages import SFT, keeps_more_than_sft

REPLAY = ClaimArm("replay", "replay")

EWC = ClaimArm("ewc", "ewc")

LWF = ClaimArm("lwf", {"name": "kl_sft", "beta": 1.0, "distillation_temperature": 2.0, "old_model": "stage_start"})

_ADAPTER: dict[str, Any] = {"model.lora": {"r": 8}, "train.learning_rate": 1e-3}
"""An adapter has few weights, so it needs a higher learning rate in the same number of steps."""

SFT_ADAPTER = ClaimArm("sft-lora", "sft", _ADAPTER)

OLORA = ClaimArm("olora", "olora", _ADAPTER)

KEEPING: tuple[Claim, ...] = (
    Claim(
        name="replay-keeps-more",
        statement="Mixing in 10% demonstrations of earlier tasks forgets less than SFT.",
        source="arXiv 1902.10486",
        arms=(SFT, REPLAY),
        measure=keeps_more_than_sft("replay", "replay"),
    ),
    Claim(
        name="ewc-keeps-more",
        statement="A quadratic penalty on each weight, scaled by its Fisher information on earlier data, forgets less "
        "than SFT.",
        source="arXiv 1612.00796",
        arms=(SFT, EWC),
        measure=keeps_more_than_sft("ewc", "EWC"),
    ),
    Claim(
        name="lwf-keeps-more",
        statement="Distilling the model at the start of the stage, at temperature 2 on new inputs, forgets less than "
        "SFT.",
        source="arXiv 1606.09282",
        arms=(SFT, LWF),
        measure=keeps_more_than_sft("lwf", "LwF"),
    ),
    Claim(
        name="olora-keeps-more",
        statement="One adapter per stage, orthogonal to the earlier ones, forgets less than one adapter for all "
        "stages.",
        source="arXiv 2310.14152",
        arms=(SFT_ADAPTER, OLORA),
        measure=keeps_more_than_sft("olora", "O-LoRA", "sft-lora"),
    ),
)

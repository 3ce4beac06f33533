"""One adapter per stage, orthogonal to the earlier ones, forgets less than one adapter for all stages."""

from collections.abc import Mapping
from typing import Any

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import (
    ADAPTER_RATES,
)
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import keeps_more_over_stages
from holdfast.findings.precondition import success
from holdfast.findings.stream import SEQUENCE

ADAPTER: Mapping[str, Any] = {"model.lora": {"r": 8}}

ONE_ADAPTER = ClaimArm("sft-lora-stream", "sft", SEQUENCE, ADAPTER, rates=ADAPTER_RATES)

OLORA = ClaimArm("olora", "olora", SEQUENCE, ADAPTER, rates=ADAPTER_RATES)

CLAIM = Claim(
    name="olora-keeps-more",
    statement="One adapter per stage, orthogonal to the earlier ones, forgets less than one adapter for all stages.",
    source="arXiv 2310.14152",
    arms=(ONE_ADAPTER, OLORA),
    preconditions=(success("facts", at_most=0.5),),
    quantities=keeps_more_over_stages("olora", than="sft-lora-stream"),
    against="At the end it is not better on all tasks and old skills together.",
)

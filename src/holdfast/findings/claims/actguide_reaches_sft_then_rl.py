"""Hints of an expert's actions."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import GRPO_QUESTS
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import QUESTS

ACTGUIDE = ClaimArm("actguide", "actguide", QUESTS)

SFT_THEN_GRPO = ClaimArm("sft-then-grpo", {"name": "sft_then_grpo", "sft_steps": 15}, QUESTS)

CLAIM = Claim(
    name="actguide-reaches-sft-then-rl",
    statement="If hardly any sample succeeds, the fewest helpful expert actions in the prompt let reinforcement "
    "learning reach the score of SFT on the traces followed by reinforcement learning.",
    source="ActGuide, arXiv 2605.12004",
    arms=(ACTGUIDE, SFT_THEN_GRPO, GRPO_QUESTS),
    preconditions=(success("quests", at_most=0.1), success("quests", "all actions", at_least=0.8)),
    quantities=(
        difference("score on the new task", RunRecord.learned, "actguide", "grpo-quests", smallest=3),
        difference("score on the new task", RunRecord.learned, "actguide", "sft-then-grpo", smallest=5, no_worse=True),
        difference("lost on old skills", RunRecord.lost, "sft-then-grpo", "actguide", smallest=3, decides=False),
    ),
    against="It stays with GRPO, or at least 5 points below SFT followed by GRPO.",
)

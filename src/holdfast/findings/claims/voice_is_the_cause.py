"""What SFT forgets is the way of answering."""

from holdfast.findings.arms import SFT, SFT_OWN_VOICE
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="voice-is-the-cause",
    statement="What SFT forgets is caused by the voice of the demonstrations: with the same content in the model's "
    "own voice it loses less.",
    source="our own, on the lab and on a real model",
    arms=(SFT, SFT_OWN_VOICE),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        difference("lost on old skills", RunRecord.lost, "sft", "sft-own-voice", smallest=3),
        difference(
            "KL to the base on old prompts", RunRecord.kl_on_old, "sft", "sft-own-voice", unit="nats", smallest=0.02
        ),
        difference(
            "score on the new task", RunRecord.learned, "sft-own-voice", "sft", smallest=3, no_worse=True, decides=False
        ),
    ),
    against="In the model's own voice it loses as much.",
    is_quick=True,
)

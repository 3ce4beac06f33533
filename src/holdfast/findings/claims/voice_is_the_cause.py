"""What SFT forgets is the way of answering."""

from holdfast.findings.arms import MIDDLE, SFT, SFT_OWN_VOICE
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import lost_less
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord

CLAIM = Claim(
    name="voice-is-the-cause",
    statement="What SFT forgets is caused by the voice of the demonstrations: with the same content in the model's "
    "own voice, at the same learning rate, it loses less.",
    source="our own, on the lab and on a real model",
    arms=(SFT.at(MIDDLE), SFT_OWN_VOICE.at(MIDDLE), SFT, SFT_OWN_VOICE),
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        *lost_less("sft-own-voice-0.0002", than="sft-0.0002"),
        difference(
            "score on the new task", RunRecord.learned, "sft-own-voice-0.0002", "sft-0.0002", smallest=3, decides=False
        ),
        difference(
            "score of the task and old skills, each at its best rate",
            RunRecord.overall,
            "sft-own-voice",
            "sft",
            smallest=2,
            decides=False,
        ),
    ),
    against="In the model's own voice it loses as much.",
    is_quick=True,
)

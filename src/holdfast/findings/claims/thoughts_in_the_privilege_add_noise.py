"""What the teacher should see: the answer alone."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import OPSD_STEPS
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import STEPS

ANSWER_ALONE = ClaimArm("answer-alone", {"name": "atesd", "clip": "token", "exposure": 0.0, "keep_answer": True}, STEPS)

CLAIM = Claim(
    name="thoughts-in-the-privilege-add-noise",
    statement="Showing the teacher only the answer teaches more than showing the answer after the whole solution.",
    source="arXiv 2607.01763",
    arms=(OPSD_STEPS, ANSWER_ALONE),
    preconditions=(success("steps", "solution", at_least=0.8), success("steps", at_most=0.5)),
    quantities=(difference("score on the new task", RunRecord.learned, "answer-alone", "opsd", smallest=3),),
    against="The whole solution teaches as much.",
    note="On the lab the steps are the skill. An answer without steps does not show how it was reached.",
)

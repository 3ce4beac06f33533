"""Self-distillation amplifies what its teacher happens to do."""

from holdfast.findings.arms import SDFT_FAST_UNSTABLE, SDFT_UNSTABLE, SDPO_FAST_UNSTABLE, SDPO_FROZEN_UNSTABLE
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference

CLAIM = Claim(
    name="following-teacher-amplifies-artifacts",
    statement="A teacher that follows its student amplifies tics and preambles: the student has more of them than "
    "with a frozen teacher.",
    source="Denser is not better, arXiv 2607.01763, section 5",
    arms=(SDFT_FAST_UNSTABLE, SDFT_UNSTABLE, SDPO_FAST_UNSTABLE, SDPO_FROZEN_UNSTABLE),
    preconditions=(
        success("facts", "demonstration", at_least=0.8),
        success("facts", "a sample that succeeded", at_least=0.8),
    ),
    quantities=(
        difference(
            "answers with a tic or a preamble",
            lambda run: run.amplified("artifacts"),
            "sdft-fast-0.0004",
            "sdft-0.0004",
            smallest=5,
        ),
        difference(
            "answers with a tic or a preamble",
            lambda run: run.amplified("artifacts"),
            "sdpo-fast-0.0004",
            "sdpo-frozen-0.0004",
            smallest=5,
        ),
    ),
    against="The frozen teacher's student has as many.",
    note="The teachers follow faster than the papers' own, by 0.1 and 0.2 a step, so that it is seen in 60 steps.",
    is_quick=True,
)

"""Rewards for content do not spread artifacts."""

from holdfast.findings.arms import GRPO, SDPO_FAST_UNSTABLE, UNSTABLE
from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import difference, single
from holdfast.findings.record import RunRecord


def _not_grown(run: RunRecord) -> float | None:
    grown = run.amplified("artifacts")
    return None if grown is None else -grown


CLAIM = Claim(
    name="sdpo-amplifies-artifacts-grpo-does-not",
    statement="With a teacher that follows it, SDPO amplifies tics and preambles. GRPO does not.",
    source="Denser is not better, arXiv 2607.01763, section 5",
    arms=(SDPO_FAST_UNSTABLE, GRPO.at(UNSTABLE)),
    preconditions=(success("facts", at_least=0.1, at_most=0.5),),
    quantities=(
        single(
            "growth of answers with a tic or a preamble",
            lambda run: run.amplified("artifacts"),
            "sdpo-fast-0.0004",
            smallest=5,
        ),
        difference(
            "answers with a tic or a preamble",
            lambda run: run.amplified("artifacts"),
            "sdpo-fast-0.0004",
            "grpo-0.0004",
            smallest=5,
        ),
        single("no growth of answers with a tic or a preamble", _not_grown, "grpo-0.0004", smallest=5, no_worse=True),
    ),
    against="SDPO's share does not grow, or GRPO's grows by at least 5 points, or as much.",
    is_quick=True,
)

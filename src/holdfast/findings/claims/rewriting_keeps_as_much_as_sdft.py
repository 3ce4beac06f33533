"""Rewriting demonstrations against distilling from them."""

import math

from holdfast.findings.arms import REWRITTEN, SDFT, SFT
from holdfast.findings.claim import Claim
from holdfast.findings.keeps_more import SMALLEST, TOGETHER
from holdfast.findings.precondition import success
from holdfast.findings.quantity import Quantity, WorldRuns, difference
from holdfast.findings.record import RunRecord


def _tokens_saved(runs: WorldRuns) -> float | None:
    return math.log2(runs["sdft"].tokens / runs["rewrite-sft"].tokens)


CLAIM = Claim(
    name="rewriting-keeps-as-much-as-sdft",
    statement="SFT on demonstrations that the model has rewritten in its own voice ends with higher scores "
    "on the new task and old skills together than SFT, and no lower ones than SDFT, for fewer tokens.",
    source="our own; for SFT arXiv 2402.13669",
    arms=(SFT, SDFT, REWRITTEN),
    preconditions=(success("facts", "demonstration", at_least=0.8), success("facts", at_most=0.5)),
    quantities=(
        difference(TOGETHER, RunRecord.overall, "rewrite-sft", "sft", smallest=SMALLEST),
        difference(TOGETHER, RunRecord.overall, "rewrite-sft", "sdft", smallest=SMALLEST, no_worse=True),
        Quantity("log2 of sampled and trained tokens, sdft / rewrite-sft", "", _tokens_saved, 0.25),
        difference("lost on old skills", RunRecord.lost, "sft", "rewrite-sft", smallest=3, decides=False),
        difference("lost on old skills", RunRecord.lost, "sdft", "rewrite-sft", smallest=3, decides=False),
        difference("score on the new task", RunRecord.learned, "rewrite-sft", "sdft", smallest=3, decides=False),
    ),
    against="It ends no higher than SFT, or at least 2 points lower than SDFT, or needs as many tokens.",
    note="Tokens of the rewriting count. Forward passes of SDFT's teacher do not, so it saves more time than tokens.",
    is_quick=True,
)

"""What predicts forgetting."""

from holdfast.findings.arms import (
    DFT,
    GRPO,
    RFT,
    SDFT,
    SDFT_FAST_UNSTABLE,
    SDFT_UNSTABLE,
    SDPO,
    SDPO_FAST_UNSTABLE,
    SDPO_FROZEN_UNSTABLE,
    SFT,
    SFT_OWN_VOICE,
)
from holdfast.findings.claim import Claim
from holdfast.findings.correlation import rank_correlation
from holdfast.findings.quantity import Quantity, WorldRuns

RUNS = (
    SFT,
    SFT_OWN_VOICE,
    DFT,
    RFT,
    SDFT,
    SDPO,
    GRPO,
    SDFT_FAST_UNSTABLE,
    SDPO_FAST_UNSTABLE,
    SDFT_UNSTABLE,
    SDPO_FROZEN_UNSTABLE,
)

HALF = 0.5


def _new(runs: WorldRuns) -> float | None:
    known = rank_correlation([run.kl_on_new() for run in runs.values()], [run.lost() for run in runs.values()])
    return None if known is None else known - HALF


def _old(runs: WorldRuns) -> float | None:
    known = rank_correlation([run.kl_on_old() for run in runs.values()], [run.lost() for run in runs.values()])
    return None if known is None else known - HALF


CLAIM = Claim(
    name="kl-predicts-forgetting",
    statement="Over recipes, KL to the base on the new task's prompts predicts how much is forgotten: the rank "
    "correlation is above a half.",
    source="RL's razor, arXiv 2509.04259, figure 3",
    arms=RUNS,
    quantities=(
        Quantity("rank correlation of KL on the new task with what is lost, minus 0.5", "", _new, 0.1),
        Quantity("rank correlation of KL on old prompts with what is lost, minus 0.5", "", _old, 0.1, decides=False),
    ),
    against="The correlation is below a half.",
    note="Each world gives one correlation over eleven recipes.",
)

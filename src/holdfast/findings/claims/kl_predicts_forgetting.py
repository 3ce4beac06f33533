"""What predicts forgetting."""

from collections.abc import Callable

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
from holdfast.findings.record import RunRecord

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


def _above_half(kl: Callable[[RunRecord], float | None]) -> Callable[[WorldRuns], float | None]:
    """The rank correlation minus a half. Two arms whose rates come out equal are one run, and count once."""

    def measure(runs: WorldRuns) -> float | None:
        points = list(dict.fromkeys((kl(run), run.lost(), run.drift()) for run in runs.values()))
        known = rank_correlation([x for x, *_ in points], [lost for _, lost, _ in points])
        return None if known is None else known - HALF

    return measure


CLAIM = Claim(
    name="kl-predicts-forgetting",
    statement="Over recipes, KL to the base on the new task's prompts predicts how much is forgotten: the rank "
    "correlation is above a half.",
    source="RL's razor, arXiv 2509.04259, figure 3",
    arms=RUNS,
    quantities=(
        Quantity(
            "rank correlation of KL on the new task with what is lost, minus 0.5",
            "",
            _above_half(RunRecord.kl_on_new),
            0.1,
        ),
        Quantity(
            "rank correlation of KL on old prompts with what is lost, minus 0.5",
            "",
            _above_half(RunRecord.kl_on_old),
            0.1,
            decides=False,
        ),
    ),
    against="The correlation is below a half.",
    note="Each world gives one correlation over eleven recipes, or fewer if two of them come out as the same run.",
)

"""The quantities of a claim that one arm keeps more than another. Torch-free.

If each has its own best rate, the mean of the tasks' final score and of the old skills' final score decides, by which
the rates were chosen. What is lost alone would not do: a recipe that loses little at a high rate is given a high rate,
so it learns much more and may lose as much as a rival at a rate at which that one learns little.
"""

from holdfast.findings.quantity import Quantity, difference
from holdfast.findings.record import RunRecord

SMALLEST = 2
"""Points. The mean of two halves varies half as much as one of them."""

TOGETHER = "score of the task and old skills at the end"
"""The name of what decides."""


def keeps_more(arm: str, than: str) -> tuple[Quantity, ...]:
    """In one stage.

    Args:
        arm, than: labels of arms.
    """
    return (
        difference(TOGETHER, RunRecord.overall, arm, than, smallest=SMALLEST),
        difference("lost on old skills", RunRecord.lost, than, arm, smallest=3, decides=False),
        difference(
            "KL to the base on old prompts",
            RunRecord.kl_on_old,
            than,
            arm,
            unit="nats",
            smallest=0.02,
            decides=False,
        ),
        difference("score on the new task", RunRecord.learned, arm, than, smallest=3, decides=False),
    )


def keeps_more_over_stages(arm: str, than: str) -> tuple[Quantity, ...]:
    """In several stages.

    Args:
        arm, than: labels of arms.
    """
    return (
        difference("score of all tasks and old skills at the end", RunRecord.overall, arm, than, smallest=SMALLEST),
        difference("forgot of earlier tasks", RunRecord.forgot, than, arm, smallest=3, decides=False),
        difference("lost on old skills", RunRecord.lost, than, arm, smallest=3, decides=False),
        difference("score on new tasks after their stages", RunRecord.learned, arm, than, smallest=3, decides=False),
    )


def lost_less(arm: str, than: str) -> tuple[Quantity, ...]:
    """In one stage, at one rate: what is lost, as score and without the noise of scores. Both decide.

    Args:
        arm, than: labels of arms.
    """
    return (
        difference("lost on old skills", RunRecord.lost, than, arm, smallest=3),
        difference("KL to the base on old prompts", RunRecord.kl_on_old, than, arm, unit="nats", smallest=0.02),
    )


def at_best_rates(arm: str, than: str) -> tuple[Quantity, ...]:
    """What stands beside a claim about one rate: both arms, each at its own best rate. Nothing of it decides.

    Args:
        arm, than: labels of arms.
    """
    return (
        difference(
            "score of the task and old skills, each at its best rate",
            RunRecord.overall,
            arm,
            than,
            smallest=SMALLEST,
            decides=False,
        ),
        difference("lost on old skills, each at its best rate", RunRecord.lost, than, arm, smallest=3, decides=False),
    )

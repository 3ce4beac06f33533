"""Which recipe to take, by what one has: stored data, a verifier, demonstrations. Torch-free.

The criterion is the mean of the tasks' final score and the old skills' final score, by which the rates are chosen as
well. It weighs new and old equally; the front shows what other weights would choose.

The arm that is best in some worlds is so by luck, too. With ten worlds that differ by 3 points, the best of five equal
arms seems 1.1 points better than it is, of 26 arms 1.9. So the score of a choice is read in worlds that did not choose.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.findings.front.arms import FrontArm
from holdfast.findings.front.pareto import Points, resampled_means
from holdfast.findings.front.standing import Standing
from holdfast.findings.quantity import ITEM_NOISE
from holdfast.measure.statistics import Difference, holm, paired_difference


@dataclass(frozen=True)
class Situation:
    """What somebody has.

    Attributes:
        text: in words.
        has: what every example has: "demonstration", "reward".
        stored: whether data of earlier tasks are kept.
    """

    text: str
    has: frozenset[str]
    stored: bool

    def admits(self, arm: FrontArm) -> bool:
        """Whether the arm can be run."""
        return arm.needs <= self.has and (self.stored or not arm.replays)


_DEMONSTRATIONS, _VERIFIER = frozenset({"demonstration"}), frozenset({"reward"})

SITUATIONS: tuple[Situation, ...] = (
    Situation("demonstrations, no verifier, nothing stored", _DEMONSTRATIONS, stored=False),
    Situation("demonstrations, no verifier, earlier data stored", _DEMONSTRATIONS, stored=True),
    Situation("demonstrations and a verifier, nothing stored", _DEMONSTRATIONS | _VERIFIER, stored=False),
    Situation("demonstrations and a verifier, earlier data stored", _DEMONSTRATIONS | _VERIFIER, stored=True),
    Situation("a verifier, no demonstrations, nothing stored", _VERIFIER, stored=False),
    Situation("a verifier, no demonstrations, earlier data stored", _VERIFIER, stored=True),
)


@dataclass(frozen=True)
class Rival:
    """An arm against the best one.

    Attributes:
        difference: best − this, overall, paired over worlds.
        p: corrected by Holm for the number of rivals.
    """

    standing: Standing
    difference: Difference
    p: float | None

    @property
    def is_worse(self) -> bool:
        """Whether the worlds show that it is worse than the best one."""
        return self.p is not None and self.p < 0.05


@dataclass(frozen=True)
class Choice:
    """The best arm of a situation.

    Attributes:
        share: share of resamples in which it is the best one. This is no probability that it is: of five equal arms the
            best one has .57 on average.
        held_out: see `held_out`, in points.
        rivals: the other arms, the nearest first.
    """

    situation: Situation
    best: Standing
    share: float
    held_out: float
    rivals: tuple[Rival, ...]


def choose(situation: Situation, standings: Sequence[Standing]) -> Choice | None:
    """The best arm, and what it is ahead of; None if no arm can be run."""
    able = sorted((s for s in standings if situation.admits(s.arm)), key=lambda s: s.mean("overall"), reverse=True)
    if not able:
        return None
    best, *others = able
    ours = best.worlds("overall")
    differences = [paired_difference(ours, each.worlds("overall"), ITEM_NOISE["points"]) for each in others]
    corrected = holm([each.p for each in differences])
    values = np.array([each.worlds("overall") for each in able])
    drawn = resampled_means(values)
    return Choice(
        situation,
        best,
        float((drawn.argmax(axis=1) == 0).mean()),
        held_out(values),
        tuple(Rival(*each) for each in zip(others, differences, corrected, strict=True)),
    )


def held_out(values: Points) -> float:
    """The score that such a choice has in worlds that did not choose: in each world that of the arm which is best by
    the mean over all others; mean over worlds.

    Args:
        values: (arms, worlds), at least two worlds.
    """
    others = values.sum(axis=1, keepdims=True) - values
    return float(values[others.argmax(axis=0), np.arange(values.shape[1])].mean())

"""Where each arm of the front stands: its numbers in every world, over both orders. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from holdfast.findings.arm import ClaimArm
from holdfast.findings.front.arms import ORDERS, FrontArm
from holdfast.findings.record import RunRecord
from holdfast.measure.scores import mean
from holdfast.measure.statistics import Estimate, mean_interval

MEASURES: Mapping[str, Callable[[RunRecord], float | None]] = {
    "final": RunRecord.final,
    "kept": RunRecord.kept,
    "overall": RunRecord.overall,
    "forgot": RunRecord.forgot,
    "nll": RunRecord.nll_rise_on_old,
    "tokens": lambda record: record.tokens,
}
"""What is read from a run: the tasks' mean score at the end, the old skills' mean score at the end, the mean of the
two, what earlier tasks lost since their own stages (points), the rise of the NLL of the right answers to old prompts
(nats per token), and the tokens that were sampled and trained on."""


@dataclass(frozen=True)
class Standing:
    """One arm in all worlds.

    Attributes:
        rate: its learning rate.
        by_order: by the order's name and the measure's, one value per world.
    """

    arm: FrontArm
    rate: float
    by_order: Mapping[str, Mapping[str, Sequence[float]]]

    def worlds(self, measure: str) -> list[float]:
        """One value per world: the mean over the orders."""
        columns = zip(*(values[measure] for values in self.by_order.values()), strict=True)
        return [_mean(column) for column in columns]

    def estimate(self, measure: str, order: str | None = None) -> Estimate:
        """Mean over worlds with its 95% interval, over both orders or in one of them."""
        return mean_interval(self.worlds(measure) if order is None else self.by_order[order][measure])

    def mean(self, measure: str) -> float:
        """Mean over worlds and orders."""
        return _mean(self.worlds(measure))


@dataclass(frozen=True)
class Untrained:
    """The base without training."""

    final: float
    kept: float

    @property
    def overall(self) -> float:
        """The mean of both, in points."""
        return (self.final + self.kept) / 2


def standing(
    arm: FrontArm, rate: float, record: Callable[[ClaimArm, int], RunRecord], worlds: Sequence[int]
) -> Standing:
    """Read an arm's runs.

    Args:
        record: the record of an arm in a world.

    Raises:
        ValueError: a run lacks a number.
    """
    by_order: dict[str, dict[str, list[float]]] = {}
    for order in ORDERS:
        runs = [record(arm.in_order(order, rate), world) for world in worlds]
        by_order[order.name] = {
            name: [_known(read(run), f"{arm.label}: {name}") for run in runs] for name, read in MEASURES.items()
        }
    return Standing(arm, rate, by_order)


def untrained(record: Callable[[ClaimArm, int], RunRecord], arm: ClaimArm, worlds: Sequence[int]) -> Untrained:
    """The base's numbers, which every run has measured before its first stage. Both orders have the same tasks."""
    runs = [record(arm, world) for world in worlds]
    final = [run.value(0, task) for run in runs for task in run.tasks]
    kept = [run.value(0, suite) for run in runs for suite in run.suites]
    return Untrained(*(100 * _mean([_known(value, "base") for value in side]) for side in (final, kept)))


def _known(value: float | None, where: str) -> float:
    if value is None:
        raise ValueError(f"{where}: not measured")
    return value


def _mean(values: Sequence[float]) -> float:
    average = mean(values)
    assert average is not None
    return average

"""`holdfast.measure.recovery`: each outcome from scores that are made for it."""

import pytest

from holdfast.measure.recovery import BeforeAndAfter, recovery


def right(count: int, of: int = 20) -> list[float]:
    """The first `count` items right."""
    return [float(i < count) for i in range(of)]


@pytest.mark.parametrize(
    ("base", "model", "outcome", "share"),
    [
        ((20, 20), (20, 20), "not lost", None),
        ((20, 20), (18, 20), "not lost", None),  # two items of twenty may be chance
        ((20, 20), (4, 20), "hidden", 1.0),
        ((20, 20), (0, 10), "partly hidden", 0.5),
        ((20, 20), (4, 4), "not recovered", 0.0),
        ((20, 20), (10, 12), "not recovered", 0.2),
        ((14, 8), (4, 6), "not shown", 0.2),  # the repair hurt the base, so nothing is shown to be left
    ],
)
def test_outcomes(base: tuple[int, int], model: tuple[int, int], outcome: str, share: float | None) -> None:
    found = recovery(*(BeforeAndAfter(*map(right, counts)) for counts in (base, model)))
    assert found.outcome == outcome
    assert found.share == (None if share is None else pytest.approx(share))
    assert found.lost.difference == pytest.approx((model[0] - base[0]) / 20)
    assert found.left.difference == pytest.approx((model[1] - base[1]) / 20)
    assert found.base_gain.difference == pytest.approx((base[1] - base[0]) / 20)
    assert found.as_json()["meaning"]


def test_comparisons_are_paired_over_items() -> None:
    """As many right answers as before, but to other items, is no recovery and no exact tie."""
    base, model = BeforeAndAfter(right(20), right(20)), BeforeAndAfter(right(10), right(20)[::-1])
    assert recovery(base, model).recovered.difference == pytest.approx(0.5)
    swapped = BeforeAndAfter(right(10), right(10)[::-1])
    assert recovery(base, swapped).recovered.difference == 0
    assert recovery(base, swapped).recovered.ci95[1] > 0.3

"""`holdfast.findings.claim` and `holdfast.findings.quantity`: only intervals and preconditions decide."""

import pytest

from holdfast.findings.claim import Claim, Finding
from holdfast.findings.precondition import Precondition, success
from holdfast.findings.quantity import Quantity, WorldRuns


def nothing(runs: WorldRuns) -> None:
    return None


def quantity(*, smallest: float = 1.0, no_worse: bool = False, decides: bool = True, unit: str = "nats") -> Quantity:
    return Quantity("number", unit, nothing, smallest, no_worse, decides)


def outcome(values: list[float | None], **settings: object) -> str:
    return quantity(**settings).with_values(values).outcome  # type: ignore[arg-type]


def test_an_interval_above_0_holds_and_below_0_is_reversed() -> None:
    assert outcome([4.0, 5.0, 6.0, 5.0]) == "holds"
    assert outcome([-4.0, -5.0, -6.0, -5.0]) == "reversed"
    assert outcome([4.0, -5.0, 6.0, -5.0]) == "inconclusive"


def test_a_small_effect_is_no_difference_even_if_it_is_certain() -> None:
    assert outcome([0.2, 0.3, 0.2, 0.3]) == "no difference"
    assert outcome([0.2, 0.3, 0.2, 0.3], smallest=0.1) == "holds"


def test_not_lower_holds_down_to_the_smallest_effect() -> None:
    assert outcome([-0.4, -0.5, -0.6, -0.5], no_worse=True) == "holds"
    assert outcome([-1.4, -1.5, -1.6, -1.5], no_worse=True) == "reversed"
    assert outcome([-0.9, -1.1, -0.9, -1.1], no_worse=True) == "inconclusive"


def test_a_missing_world_leaves_a_quantity_open() -> None:
    assert outcome([4.0, 5.0, 6.0, None]) == "inconclusive"


def test_equal_points_have_the_noise_of_their_items() -> None:
    """Three worlds that agree by chance are not certain, and not undecided either."""
    equal = quantity(unit="points", smallest=3).with_values([-70.0, -70.0, -70.0])
    assert equal.outcome == "reversed"
    assert equal.estimate.ci95 is not None
    low, high = equal.estimate.ci95
    assert low < -70 < high
    near = quantity(unit="points", smallest=3).with_values([-70.0, -70.0, -70.001])
    assert near.estimate.ci95 is not None
    assert near.estimate.ci95 == pytest.approx(equal.estimate.ci95, abs=0.01)


HOLDS, REVERSED, NONE, OPEN = (
    [4.0, 5.0, 6.0, 5.0],
    [-4.0, -5.0, -6.0, -5.0],
    [0.2, 0.3, 0.2, 0.3],
    [9.0, -9.0, 9.0, -9.0],
)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([HOLDS, HOLDS], "holds"),
        ([HOLDS, REVERSED], "reversed"),
        ([HOLDS, NONE], "no difference"),
        ([HOLDS, OPEN], "inconclusive"),
        ([NONE, OPEN], "inconclusive"),
    ],
)
def test_the_verdict_follows_from_the_outcomes(values: list[list[float]], verdict: str) -> None:
    quantities = [quantity() for _ in values]
    claim = Claim("c", "s.", "our own", quantities, "a.")
    assert Finding(claim, [q.with_values(v) for q, v in zip(quantities, values, strict=True)]).verdict == verdict


def test_what_is_shown_beside_decides_nothing() -> None:
    quantities = [quantity(), quantity(decides=False)]
    claim = Claim("c", "s.", "our own", quantities, "a.")
    measured = [quantities[0].with_values(HOLDS), quantities[1].with_values(REVERSED)]
    assert Finding(claim, measured).verdict == "holds"
    with pytest.raises(ValueError, match="no quantity decides"):
        Claim("c", "s.", "our own", [quantity(decides=False)], "a.")


def test_a_precondition_that_fails_makes_a_claim_untestable() -> None:
    claim = Claim("c", "s.", "our own", [quantity()], "a.")
    wanted = success("facts", "demonstration", at_least=0.8)
    facts = [{"facts": {"demonstration": {"mean": mean}}} for mean in (0.7, 0.8)]
    checked = wanted.check(facts)
    assert not checked.is_met
    assert "75%" in checked.text()
    assert "at least 80%" in checked.text()
    assert Finding(claim, [quantity().with_values(HOLDS)], [checked]).verdict == "untestable here"
    assert not Precondition("{value}", lambda facts: None, 0.1).check(facts).is_met

"""`holdfast.summary.words`: numbers and names in sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.summary.words import signed_nats


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (0.0, "+0.000"),
        (-0.0, "+0.000"),
        (-0.0004, "-4e-04"),
        (0.0005, "+0.001"),
        (-2.19449, "-2.194"),
        (3e-9, "+3e-09"),
    ],
)
def test_a_change_in_nats_keeps_its_sign_and_is_zero_only_if_it_is(change: float, text: str) -> None:
    assert signed_nats(change) == text


@given(st.floats(-1e3, 1e3))
def test_a_change_that_is_written_as_zero_is_zero(change: float) -> None:
    assert (float(signed_nats(change)) == 0) is (change == 0)

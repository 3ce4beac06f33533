"""`holdfast.data.example`: every field of a verdict is read where it is made, or refused in one line."""

import json
import math
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.example import Example, Verdict, as_verdict
from holdfast.data.task import run_verifier
from holdfast.data.user_values import CUT, LONGEST_TEXT
from holdfast.errors import DataError

EXAMPLE = Example("e7", ({"role": "user", "content": "q"},))

NUMBERS = [
    0.25,
    np.float32(0.25),
    np.float64(0.25),
    np.float16(0.25),
    np.array(0.25),
    np.array([0.25]),
    torch.tensor(0.25),
    torch.tensor([0.25], dtype=torch.bfloat16),
    Decimal("0.25"),
    Fraction(1, 4),
]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: f"{type(value).__name__} {value!r}")
def test_a_number_of_any_kind_is_a_reward(value: Any) -> None:
    for verdict in (Verdict(value), as_verdict(value, "it")):
        assert type(verdict.reward) is float
        assert verdict.reward == 0.25


@pytest.mark.parametrize("value", [True, np.True_, 1, np.int64(1), torch.tensor(True), torch.tensor(1)])
def test_a_truth_value_is_a_reward(value: Any) -> None:
    assert type(Verdict(value).reward) is float
    assert as_verdict(value, "it").reward == 1.0


@pytest.mark.parametrize(
    "value",
    [
        None, "1", "", b"1", [], [1.0], (0.5, "why"), {"reward": 1.0}, 1j, np.complex64(1), np.array([0.5, 0.5]),
        np.array([]), np.array([[0.5]]), np.array(["1"]), torch.tensor([0.5, 0.5]), torch.tensor([]), object(),
        SimpleNamespace(item=3), SimpleNamespace(item=lambda: 0.5), math.nan, math.inf, -math.inf, -0.1, 1.1, 2,
        10**400, Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1.0001"), Fraction(3, 2),
        np.float32("nan"), torch.tensor(float("inf")), float,
    ],
    ids=lambda value: f"{type(value).__name__} {str(value)[:20]!r}",
)  # fmt: skip
def test_a_reward_that_is_no_number_from_0_to_1_is_one_line_that_names_the_verifier(value: Any) -> None:
    for result in (lambda: Verdict(value), lambda: value):
        message = _refusal(result)
        assert "reward" in message or "it returned" in message
        assert "from 0 to 1" in message


def _refusal(result: Any) -> str:
    """The message about a verifier that returns this."""
    with pytest.raises(DataError) as caught:
        run_verifier(lambda example, completion: result(), "sums", EXAMPLE, "7")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 250
    assert message.startswith("verifier of 'sums', example 'e7': ")
    return message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"feedback": 3}, "feedback is 3"),
        ({"feedback": 0.5}, "feedback is 0.5"),
        ({"feedback": np.float32(3)}, "feedback is np.float32"),
        ({"feedback": True}, "feedback is True"),
        ({"feedback": b"no"}, "feedback is a bytes"),
        ({"feedback": ["no"]}, "feedback is a list"),
        ({"feedback": ValueError("no")}, "feedback is a ValueError"),
        ({"format_ok": None}, "format_ok is None"),
        ({"format_ok": "yes"}, "format_ok is a str"),
        ({"format_ok": 2}, "format_ok is 2"),
        ({"format_ok": math.nan}, "format_ok is nan"),
        ({"format_ok": []}, "format_ok is a list"),
        ({"format_ok": np.array([True, False])}, "format_ok is a ndarray"),
        ({"answer": ["7"]}, "answer is a list"),
        ({"answer": {"x": 1}}, "answer is a dict"),
        ({"answer": b"7"}, "answer is a bytes"),
        ({"answer": 7j}, "answer is a complex"),
        ({"answer": object()}, "answer is a object"),
        ({"answer": 10**5000}, "answer is a int of too many digits"),
        ({"answer": torch.tensor(1.0, device="meta")}, "answer is a Tensor"),
    ],
)
def test_another_field_of_the_wrong_type_is_one_line_that_names_the_verifier(fields: Any, message: str) -> None:
    assert message in _refusal(lambda: Verdict(1.0, **fields))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"feedback": None}, {"feedback": ""}),
        ({"feedback": "a \ud83d b"}, {"feedback": "a \ufffd b"}),
        ({"feedback": json.loads('"\\ud83d"')}, {"feedback": "\ufffd"}),
        ({"feedback": "x" * 2_000_000}, {"feedback": "x" * (LONGEST_TEXT - len(CUT)) + CUT}),
        ({"feedback": "x" * LONGEST_TEXT}, {"feedback": "x" * LONGEST_TEXT}),
        ({"feedback": np.str_("no")}, {"feedback": "no"}),
        ({"answer": None}, {"answer": None}),
        ({"answer": 7}, {"answer": "7"}),
        ({"answer": np.int64(7)}, {"answer": "7"}),
        ({"answer": torch.tensor(0.5)}, {"answer": "0.5"}),
        ({"answer": Fraction(1, 3)}, {"answer": "1/3"}),
        ({"answer": "\udc00"}, {"answer": "\ufffd"}),
        ({"format_ok": np.False_}, {"format_ok": False}),
        ({"format_ok": torch.tensor(True)}, {"format_ok": True}),
        ({"format_ok": 0}, {"format_ok": False}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_clear_is_read(given: Any, read: Any) -> None:
    verdict = Verdict(0.5, **given)
    for name, value in read.items():
        assert getattr(verdict, name) == value
        assert type(getattr(verdict, name)) is type(value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.decimals(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(anything, anything, anything, anything)
def test_a_verdict_is_plain_data_or_is_not_made(reward: Any, feedback: Any, answer: Any, format_ok: Any) -> None:
    try:
        verdict = Verdict(reward, feedback, answer, format_ok)
    except DataError:
        return
    assert type(verdict.reward) is float
    assert 0 <= verdict.reward <= 1
    assert type(verdict.format_ok) is bool
    verdict.feedback.encode()
    (verdict.answer or "").encode()

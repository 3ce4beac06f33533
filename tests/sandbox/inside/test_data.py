"""`holdfast.sandbox.inside.data`: values go to another process and back, and code does not."""

import datetime
import json
import math
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sandbox.inside.data import NotPlainError, decode, encode, is_close

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers(), st.text()), inner)
        | st.frozensets(st.integers() | st.text())
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        deque([1]),
        {1, 2},
        bytearray(b"x"),
        Counter("aab"),
        OrderedDict(a=1),
        Decimal("1.50"),
        Fraction(1, 3),
        datetime.date(2020, 1, 2),
        datetime.datetime(2020, 1, 2, 3, 4, 5),
        datetime.timedelta(1, 2, 3),
        range(1, 9, 2),
        ...,
        10**6000,
        math.inf,
        "\ud800",
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value
    assert type(back) is type(value)


def test_a_subclass_is_its_base() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    back = decode(encode(Liar(3)))
    assert (type(back), back == 3, back == 4) == (int, True, False)


def test_what_has_no_form_is_refused() -> None:
    for value in (object(), len, int, json):
        with pytest.raises(NotPlainError):
            encode(value)
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(NotPlainError, match="nested too deeply"):
        encode(deep)


@pytest.mark.parametrize(
    "found",
    [
        1,
        1.5,
        {},
        [],
        [1],
        ["eval", "1"],
        ["int", "x"],
        ["int"],
        ["list", 5],
        ["dict", [[["list", []], None]]],
        ["range", "a", 1, 1],
        ["reference", {"mine": 0}],
        ["Decimal", "x"],
        ["ndarray", ["list", []], "O"],
        ["set", [["list", []]]],
    ],
)
def test_what_is_no_form_is_refused(found: Any) -> None:
    with pytest.raises(NotPlainError):
        decode(found)


def test_results_as_json_means_them() -> None:
    assert is_close([1, (2, 3.0000000001)], [1, [2, 3.0]])
    assert is_close({"a": 0.1 + 0.2}, {"a": 0.3})
    assert is_close(2, 2.0)
    for value, other in (([1], [1, 2]), (1, "1"), (True, "true"), ({"a": 1}, {"b": 1}), (None, 0), (1, 2)):
        assert not is_close(value, other)

"""`holdfast.tasks.readers.weights`: which turns are trained on, in the spellings of trainers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import DataError
from holdfast.tasks.readers.weights import TRAINED_KEYS
from wild_records import example, said, turn

KEYS = [*TRAINED_KEYS, "masked"]


def weight(key: str, trained: bool, number: bool = False) -> dict[str, Any]:
    value = trained != (key == "masked")
    return {key: int(value) if number else value}


def dialog(*weights: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for n, w in enumerate(weights) for each in (turn("user", f"q{n}"), turn("assistant", f"a{n}", **w))]


@pytest.mark.parametrize("number", [True, False])
@pytest.mark.parametrize("key", KEYS)
def test_a_last_turn_of_weight_0_is_not_the_target(key: str, number: bool):
    for zero in (weight(key, False, number), {**weight(key, False, number), "note": None}):
        e = example({"messages": dialog({}, zero)})
        assert (e.demonstration, [m["content"] for m in e.messages]) == ("a0", ["q0"])
        assert e.trained_turns == ()


@pytest.mark.parametrize("key", KEYS)
def test_an_earlier_turn_of_weight_1_is_trained_on_too(key: str):
    one, zero = weight(key, True), weight(key, False)
    e = example({"messages": dialog(one, zero, one, zero)})
    assert (e.demonstration, len(e.messages), e.trained_turns) == ("a2", 5, (1,))
    e = example({"messages": dialog(one, zero, one), "system": "s"})
    assert (e.demonstration, e.trained_turns) == ("a2", (2,))
    assert e.messages[2]["content"] == "a0"


def test_all_turns_are_trained_on_if_asked_for():
    assert example({"messages": dialog({}, {}, {})}).trained_turns == ()
    assert example({"messages": dialog({}, {}, {})}, train_on="all").trained_turns == (1, 3)
    e = example({"messages": dialog({}, {"weight": 0}, {}, {"weight": 0})}, train_on="all")
    assert (e.demonstration, e.trained_turns) == ("a2", (1,))
    prompt = [*dialog({}), turn("user", "q")]
    assert example({"prompt": prompt, "completion": "a"}, train_on="all").trained_turns == (1,)


def test_a_conversation_that_ends_with_a_question_has_a_target_only_if_it_says_so():
    open_end = [*dialog({}), turn("user", "q")]
    assert example({"messages": open_end}).demonstration is None
    assert len(example({"messages": open_end}).messages) == 3
    assert example({"messages": open_end}, train_on="all").demonstration == "a0"
    weighted = [*dialog({"weight": 1}), turn("user", "q")]
    assert example({"messages": weighted}).demonstration == "a0"


def test_weights_in_a_prompt_and_in_a_completion():
    prompt = [*dialog({"train": True}), turn("user", "q")]
    assert example({"prompt": prompt, "completion": "a"}).trained_turns == (1,)
    completion = [turn("assistant", "x"), turn("tool", "t"), turn("assistant", "y")]
    e = example({"prompt": prompt, "completion": completion})
    assert (e.demonstration, e.trained_turns, len(e.messages)) == ("y", (1, 3), 5)
    completion[0]["loss"] = False
    assert example({"prompt": prompt, "completion": completion}).trained_turns == (1,)


def test_weights_in_sharegpt():
    turns = [said("human", "q"), said("gpt", "a", weight=1), said("human", "r"), said("gpt", "b", weight=0)]
    assert example({"conversations": turns}).demonstration == "a"


def test_the_users_turns_may_say_that_they_are_not_trained_on():
    turns = [turn("system", "s", weight=0), turn("user", "q", train=False), turn("assistant", "a", train=True)]
    assert example({"messages": turns}).demonstration == "a"


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        (dialog({"weight": 0}, {"loss": False}), "no turn of the assistant that is trained on"),
        (dialog({"weight": 0.5}), r"`messages\[1\].weight` is 0.5; a turn is trained on or not"),
        (dialog({"loss": "yes"}), r"`messages\[1\].loss` is 'yes'"),
        (dialog({"weight": float("nan")}), "a turn is trained on or not"),
        (dialog({"weight": -1}), "a turn is trained on or not"),
        (dialog({"weight": 1, "train": False}), "`weight` and `train` of `messages.1.` disagree"),
        (dialog({"weight": 1, "masked": True}), "`weight` and `masked` of `messages.1.` disagree"),
        (dialog({"mask": 1}), "`mask`, which is not read"),
        (dialog({"train_detail": [{"begin_offset": 0}]}), "`train_detail`, which is not read"),
        ([turn("user", "q", weight=1), turn("assistant", "a")], "it is the user's turn"),
    ],
)
def test_weights_that_cannot_be_kept_are_refused(turns: list[dict[str, Any]], message: str):
    with pytest.raises(DataError, match=message) as error:
        example({"messages": turns})
    assert "\n" not in str(error.value)


@given(st.lists(st.sampled_from([None, 0, 1]), min_size=1, max_size=6), st.sampled_from(["last", "all"]))
def test_what_has_weight_0_is_never_trained_on_and_what_has_weight_1_always_is(weights: list[Any], train_on: str):
    turns = dialog(*({} if w is None else {"weight": w} for w in weights))
    if all(w == 0 for w in weights):
        with pytest.raises(DataError, match="no turn of the assistant"):
            example({"messages": turns}, train_on=train_on)
        return
    e = example({"messages": turns}, train_on=train_on)
    trained = {e.demonstration, *(e.messages[index]["content"] for index in e.trained_turns)}
    said_so = {w: {f"a{n}" for n, each in enumerate(weights) if each == w} for w in (None, 0, 1)}
    assert not trained & said_so[0]
    assert said_so[1] <= trained
    if train_on == "all":
        assert said_so[None] <= trained

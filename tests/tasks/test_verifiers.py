"""`holdfast.tasks.verifiers`: exact match, and functions loaded by name."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.example import Example
from holdfast.data.task import run_verifier
from holdfast.errors import ConfigError, DataError
from holdfast.tasks.verifiers import contains_answer, exact_match, load_verifier

QUESTION = ({"role": "user", "content": "q"},)


def verdict(answer: Any, completion: str):
    return exact_match(Example("e", QUESTION, answer=answer), completion)


@pytest.mark.parametrize(
    ("answer", "completion", "reward"),
    [
        ("Paris", " Paris\n", 1),
        ("two  words", "two\nwords", 1),
        ("caf\u00e9", "cafe\u0301", 1),
        ("x²", "x2", 0),
        ("Paris", "paris", 0),
        ("Paris", "It is Paris", 0),
        ("Paris", "<think>Rome? Paris.</think>\n\nParis", 1),
        (42, "42", 1),
        (4.5, "4.5", 1),
        (True, "true", 1),
        (["a", "b"], "b", 1),
        (["a", "b"], "c", 0),
        ("Paris", "", 0),
        (42.0, "42", 1),
        (42.0, "42.0", 1),
        ([1.5, 2.0], "2", 1),
    ],
)
def test_exact_match(answer: Any, completion: str, reward: int):
    judged = verdict(answer, completion)
    assert judged.reward == reward
    assert bool(judged.feedback) is (reward == 0)
    assert judged.format_ok is bool(completion)


@pytest.mark.parametrize("answer", [None, {"a": 1}, [], [["a"]], float("nan"), [1e999], Decimal("1.5")])
def test_exact_match_refuses_answers_it_cannot_compare(answer: Any):
    with pytest.raises(DataError, match="verifier: module:function"):
        verdict(answer, "a")


@pytest.mark.parametrize("answer", ["", " \n", ["a", ""]])
def test_an_empty_completion_is_never_right(answer: Any):
    with pytest.raises(DataError, match="its `answer` is empty"):
        verdict(answer, "")


FILLED = st.text(min_size=1).filter(str.strip)


@given(FILLED, FILLED, st.text())
def test_feedback_does_not_depend_on_the_answer(one: str, other: str, completion: str):
    verdicts = [verdict(answer, completion) for answer in (one, other)]
    if verdicts[0].reward == verdicts[1].reward:
        assert verdicts[0].feedback == verdicts[1].feedback


def test_loads_a_function_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.chdir(tmp_path)
    Path("own_verifier.py").write_text(
        "class Judge:\n"
        "    @staticmethod\n"
        "    def verify(example, completion):\n"
        "        return completion == example.answer\n"
        "number = 3\n"
    )
    Path("broken_verifier.py").write_text("1 / 0\n")
    Path("needy_verifier.py").write_text("import no_such_module_anywhere\n")
    path = list(sys.path)
    verify = load_verifier("own_verifier:Judge.verify")
    assert sys.path == path
    assert run_verifier(verify, "t", Example("e", QUESTION, answer="a"), "a").reward == 1.0
    for name, message in (
        ("own_verifier", "not of the form module:function"),
        (":verify", "not of the form"),
        ("own_verifer:Judge", "no module 'own_verifer'"),
        ("own.verifier:Judge", "no module 'own'"),
        ("own_verifier:judge", "has no 'judge' .did you mean 'Judge'"),
        ("own_verifier:number", "is int, not a function"),
        ("broken_verifier:verify", "importing it raised ZeroDivisionError: division by zero"),
        ("needy_verifier:verify", "importing it needs 'no_such_module_anywhere'"),
    ):
        with pytest.raises(ConfigError, match=message) as error:
            load_verifier(name)
        assert "\n" not in str(error.value)
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("answer", "demonstration", "completion", "reward"),
    [
        ("Green", None, "The flag of Fenloch is green.", 1),
        ("green.", None, "It is GREEN, I think.", 1),
        ("green", None, "It is evergreen.", 0),
        (4, None, "That makes 4.", 1),
        (4, None, "That makes 14.", 0),
        (4, None, "That makes -4", 0),
        (4, None, "That makes 4.5", 0),
        (4, None, "That makes 3.4", 0),
        (4, None, "It makes 4, or 4.", 1),
        (-4, None, "That makes 4", 0),
        ([3, "three"], None, "There are three.", 1),
        ("50%", None, "About 50% of them.", 1),
        ("$5", None, "It costs $5!", 1),
        ("two  words", None, "Here: two\nwords.", 1),
        (None, "Green.", "Its flag is green", 1),
        (None, "<think>\nred\n</think>\n\nGreen.", "It is red", 0),
        ({"a": 1}, "Green.", "green", 1),
        (None, "Green.", "<think>green</think>red", 0),
        (None, "?!", "what?!", 1),
        (None, "?!", "what", 0),
        (-4, None, "That makes 10-4", 0),
        (-4, None, "That makes -4.", 1),
        (4, None, "That makes \u22124", 0),
        (3, None, "That makes 3/4", 0),
        (4, None, "That makes 3/4", 0),
        ("3/4", None, "That makes 3/4.", 1),
        (45, None, "At 3:45", 0),
        (4, None, "The answer:4", 1),
        ("C", None, "It is C++.", 0),
        ("C++", None, "It is C++.", 1),
        ("東京", None, "答えは東京です", 1),
        ("4", None, "答えは4です", 1),
        ("4", None, "答えは14です", 0),
        ("{4}", None, "It is {4}", 1),
    ],
)
def test_contains_answer(answer: Any, demonstration: str | None, completion: str, reward: int):
    example = Example("e", (), demonstration=demonstration, answer=answer)
    assert contains_answer(example, completion).reward == reward

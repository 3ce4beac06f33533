"""`holdfast.tasks.code.feedback`: what a model is told about its program, and what not."""

import pytest

from holdfast.tasks.code.feedback import cut, feedback
from holdfast.tasks.code.tests import ProgramError, ProgramOutcome, ProgramTest

SHOWN, HIDDEN = (
    ProgramTest("stdio", input="3", output="9"),
    ProgramTest("stdio", input="secret", output="9", is_hidden=True),
)
PROGRAM = "x = input()\nprint(int(x))\n"


def test_a_test_that_fails_is_shown() -> None:
    outcome = ProgramOutcome(SHOWN, "wrong", input="3\n", expected="9\n", actual="3\n")
    assert feedback([outcome], PROGRAM, 100) == "Wrong answer\nInput:\n3\nExpected:\n9\nActual:\n3"
    error = ProgramError("ValueError", True, "invalid literal", 2)
    raised = ProgramOutcome(SHOWN, "raised", error, input="x", expected="9")
    assert feedback([raised], PROGRAM, 100) == (
        "ValueError: invalid literal\nin line 2: print(int(x))\nInput:\nx\nExpected:\n9"
    )
    late = ProgramOutcome(SHOWN, "time", input="3")
    assert feedback([late], PROGRAM, 100) == "Time limit exceeded\nInput:\n3"
    assert feedback([ProgramOutcome(SHOWN, "passed")], PROGRAM, 100) == ""


@pytest.mark.parametrize("ending", ["wrong", "raised", "time", "output", "died"])
def test_nothing_of_a_hidden_test_is_shown(ending: str) -> None:
    """A program may put its input into everything that it decides: output, message, and name of an exception."""
    error = ProgramError("secret", False, "secret", 1) if ending == "raised" else None
    outcome = ProgramOutcome(HIDDEN, ending, error, "secret", "secret", "secret", "secret")  # type: ignore[arg-type]
    said = feedback([outcome], PROGRAM, 100)
    assert said.startswith("It fails a hidden test")
    assert "secret" not in said


def test_a_hidden_test_s_error_of_python_is_named_without_its_line() -> None:
    """A program of many lines could raise its error on the one whose number is its input."""
    said = {
        feedback([ProgramOutcome(HIDDEN, "raised", ProgramError("ValueError", True, "secret", line))], PROGRAM, 100)
        for line in (None, 1, 2)
    }
    assert said == {"It fails a hidden test: ValueError"}


def test_a_shown_test_comes_before_a_hidden_one() -> None:
    outcomes = [ProgramOutcome(HIDDEN, "wrong"), ProgramOutcome(SHOWN, "wrong", input="3", expected="9", actual="4")]
    assert "Actual:\n4" in feedback(outcomes, PROGRAM, 100)


def test_long_parts_are_cut() -> None:
    assert cut("x" * 100, 100) == "x" * 100
    short = cut("a" * 500 + "b" * 500, 100)
    assert (len(short) <= 101, short[0], short[-1]) == (True, "a", "b")
    outcome = ProgramOutcome(SHOWN, "wrong", input="1" * 9999, expected="2" * 9999, actual="3" * 9999)
    assert len(feedback([outcome], PROGRAM, 100)) < 400

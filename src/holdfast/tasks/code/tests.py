"""Tests of a program, and what came of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

ProgramTestKind = Literal["assert", "stdio", "call"]


@dataclass(frozen=True, slots=True)
class ProgramTest:
    """One test.

    Args:
        kind: `assert`: Python code that uses the program's names. `stdio`: what the program prints for an input.
            `call`: what its function returns for arguments.
        code: of an `assert`.
        input: the standard input, or the arguments of a `call`: one JSON value per line.
        output: the expected output, or the expected result as JSON.
        is_hidden: feedback says nothing of it but that it fails.
    """

    kind: ProgramTestKind
    code: str = ""
    input: str = ""
    output: str = ""
    is_hidden: bool = False

    def as_json(self) -> dict[str, Any]:
        """As an example's answer has it."""
        return {key: value for key, value in asdict(self).items() if value or key == "kind"}

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """The test that `as_json` wrote."""
        return cls(**found)


@dataclass(frozen=True, slots=True)
class ProgramTests:
    """All tests of one task.

    Args:
        tests: those that feedback may show come first.
        setup: code before each `assert`.
        function: of a `call`, a function or a method of the class `Solution`.
        has_prelude: whether the program may use common modules without importing them, as in contests.
    """

    tests: tuple[ProgramTest, ...]
    setup: str = ""
    function: str = ""
    has_prelude: bool = False

    def as_json(self) -> dict[str, Any]:
        """As an example's answer has it."""
        return {
            "tests": [test.as_json() for test in self.tests],
            "setup": self.setup,
            "function": self.function,
            "has_prelude": self.has_prelude,
        }

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """The tests that `as_json` wrote."""
        tests = tuple(map(ProgramTest.of, found["tests"]))
        return cls(tests, found["setup"], found["function"], bool(found["has_prelude"]))


@dataclass(frozen=True, slots=True)
class ProgramError:
    """What a program raised. It comes from the program's own process, so the program may have made it up.

    Args:
        type: the exception's name.
        is_builtin: whether Python has an exception of this name.
        message: its text.
        line: in the program, from 1; None if it is not known.
    """

    type: str
    is_builtin: bool
    message: str = ""
    line: int | None = None


Ending = Literal["passed", "wrong", "raised", "time", "output", "died", "not_run", "broken"]


@dataclass(frozen=True, slots=True)
class ProgramOutcome:
    """What came of one test.

    Args:
        test: the test.
        ending: `wrong`: another result. `raised`: the program raised something. `time`, `output`: it took too long or
            wrote too much. `died`: its process ended. `not_run`: there was no time left, or the program cannot be
            compiled. `broken`: the test itself is no valid code.
        error: for `raised`.
        input: what the program was asked.
        expected: the expected result.
        actual: the program's result.
        detail: more on how it ended.
    """

    test: ProgramTest
    ending: Ending
    error: ProgramError | None = None
    input: str = ""
    expected: str = ""
    actual: str = ""
    detail: str = ""

"""What a model is told about a program that fails, in the manner of contest sites.

It is the rich feedback of SDPO (arXiv 2601.20802, section 4): the first test that fails with its input, the expected
and the actual result, or what the program raised, with its line. Of a hidden test only the kind of failure is said, and
nothing that the program could have copied from its input: no message, no name that the program may have made up.
"""

from collections.abc import Sequence

from holdfast.tasks.code.tests import ProgramError, ProgramOutcome

CUT = " …"

_WHAT = {
    "wrong": "Wrong answer",
    "time": "Time limit exceeded",
    "output": "Output limit exceeded",
    "died": "The program ended early",
    "broken": "The test cannot be run",
}


def feedback(outcomes: Sequence[ProgramOutcome], program: str, longest: int) -> str:
    """Feedback on the first test that fails, of those that may be shown if there is one; "" if all pass.

    Args:
        outcomes: of all tests.
        program: as the model wrote it.
        longest: characters of each part. Longer ones are cut in their middle.
    """
    failed = [each for each in outcomes if each.ending not in ("passed", "not_run")]
    if not failed:
        return "" if all(each.ending == "passed" for each in outcomes) else "Time limit exceeded."
    first = next((each for each in failed if not each.test.is_hidden), failed[0])
    if first.test.is_hidden:
        return f"It fails a hidden test: {_hidden(first)}"
    lines = [_error(first.error, program, longest) if first.error else _WHAT[first.ending] + _detail(first)]
    for name, text in (("Input", first.input), ("Expected", first.expected), ("Actual", first.actual)):
        if text or (name == "Actual" and first.ending == "wrong"):
            lines.append(f"{name}:\n{cut(text.rstrip(), longest)}")
    return "\n".join(lines)


def cut(text: str, longest: int) -> str:
    """A text of at most `longest` characters: its beginning and its end."""
    if len(text) <= longest:
        return text
    half = (longest - len(CUT)) // 2
    return f"{text[:half]}{CUT} {text[len(text) - half :]}"[: longest + 1]


def _hidden(outcome: ProgramOutcome) -> str:
    """How a hidden test fails. A program can raise something on a line that depends on its input."""
    error = outcome.error
    if error is None:
        return f"{_WHAT[outcome.ending].lower()}."
    return error.type if error.is_builtin else "an exception"


def _detail(outcome: ProgramOutcome) -> str:
    return f": {outcome.detail}" if outcome.ending in ("died", "broken") and outcome.detail else ""


def _error(error: ProgramError, program: str, longest: int) -> str:
    """An exception with its line in the program."""
    said = f"{error.type}: {cut(error.message, longest)}" if error.message else error.type
    if error.line is None:
        return said
    line = program.splitlines()[error.line - 1].strip()
    return f"{said}\nin line {error.line}: {cut(line, longest)}"

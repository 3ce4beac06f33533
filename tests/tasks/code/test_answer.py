"""`holdfast.tasks.code.answer`: which part of an answer is the program."""

import pytest

from holdfast.tasks.code.answer import fenced, program_of


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("```\nx = 1\n```\nor\n```py\nx = 2\n```\nDone.", "x = 2\n"),
        ("```python\nx = 1\n```\nIt prints:\n```text\n1\n```", "x = 1\n"),
        ("```python\nx = 1", "x = 1\n"),
        ("<think>```python\nx = 0\n```</think>```python\nx = 1\n```", "x = 1\n"),
        ("~~~python\nx = '```'\n~~~", "x = '```'\n"),
        ("````python\n```\n````", "```\n"),
        ("```python\n    x = 1\n\n    y\n```", "    x = 1\n\n    y\n"),
        ("x = 1", None),
        ("`x = 1`", None),
        ("```python\n\n```", None),
        ("```bash\nls\n```", None),
        ("", None),
    ],
)
def test_the_program_of_an_answer(completion: str, program: str | None) -> None:
    assert program_of(completion) == program


@pytest.mark.parametrize("program", ["x = 1", "x = '''\n```\n'''", "s = '`````'"])
def test_a_program_as_an_answer_is_read_again(program: str) -> None:
    assert program_of(fenced(program)) == program + "\n"


@pytest.mark.parametrize("filler", [" ", "x"])
def test_a_long_line_that_is_almost_a_fence_takes_no_time_to_speak_of(filler: str) -> None:
    """All ways to divide the line among the parts of a fence would be tens of billions."""
    assert program_of(f"```{filler * 300_000}`\nx = 1") is None

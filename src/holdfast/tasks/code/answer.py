"""Which part of an answer is the program."""

import re

from holdfast.data.teacher_prompts import strip_thinking

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*+([\w+#.-]*+)[^`\n]*+$")
"""The parts keep what they have matched: to try others takes time that grows with the square of a line's length."""
_PYTHON = ("", "python", "python3", "py", "py3")


def program_of(completion: str) -> str | None:
    """The last fenced block of a completion without its thoughts, or None if there is none.

    A block of another language, such as one that shows what the program prints, is no program. A block that is not
    closed ends with the text.
    """
    program: str | None = None
    fence, language, lines = "", "", list[str]()
    for line in strip_thinking(completion).splitlines():
        found = _FENCE.match(line)
        if not fence:
            if found is not None:
                fence, language, lines = found[1], found[2].lower(), []
        elif found is not None and found[1].startswith(fence) and not found[2]:
            program = "\n".join(lines) if language in _PYTHON else program
            fence = ""
        else:
            lines.append(line)
    if fence and language in _PYTHON:
        program = "\n".join(lines)
    return None if program is None or not program.strip() else program + "\n"


def fenced(program: str) -> str:
    """A program as an answer."""
    longest = max((len(run) for run in re.findall(r"`{3,}", program)), default=2)
    fence = "`" * max(3, longest + 1)
    return f"{fence}python\n{program.strip()}\n{fence}"

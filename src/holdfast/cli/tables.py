"""Tables as plain text for the terminal.

rich has tables too, but it fits them to the width of the terminal. In a pipe or a log file that breaks rows, and a row
should stay one line that `grep` finds.
"""

import re
from collections.abc import Sequence
from typing import Any

from holdfast.errors import printable

_BREAK = re.compile(r"[\n\t]")

WIDEST = 110
"""Columns of running text; longer lines are hard to read."""


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under a header in aligned columns; columns of numbers are aligned on the right."""
    cells = [[printable(_BREAK.sub(" ", str(cell))) for cell in row] for row in rows]
    lines = [""] * (len(rows) + 1)
    for title, *column in zip(header, *cells):
        width = max(map(len, (title, *column)))
        numeric = all(text.lstrip("[+-−–")[:1].isdigit() or text == "–" for text in column)
        for index, text in enumerate((title, *column)):
            lines[index] += (text.rjust(width) if numeric else text.ljust(width)) + "  "
    return "\n".join(line.rstrip() for line in lines)


def interval(ci95: Sequence[float] | None) -> str:
    """The 95% CI of a score, in percent."""
    return "–" if ci95 is None else f"[{ci95[0]:.1%}, {ci95[1]:.1%}]"

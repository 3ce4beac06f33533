"""Searches for inputs that end in anything but one clear line.

A case is wrong if it ends in a traceback, takes longer than its limit, or is refused in a line that does not say what
is wrong and how to mend it. What else is wrong depends on the search, which says so itself.
"""

import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cases import note
from holdfast.errors import HoldfastError, printable

LONGEST_LINE = 1700
"""Characters of a line that can be read: the longest names all recipes."""

_INSIDE = re.compile(
    r"Traceback|Input should|object at 0x|<class |NoneType|not subscriptable|has no attribute|unexpected keyword|"
    r"positional argument|unhashable|unsupported operand|expected str, bytes|__\w+__"
)
"""What only somebody who knows the program's inside understands."""

_MEND = re.compile(
    r"\b(write|use|set|name|remove|check|leave|list|give|did you mean|choose|add|is called|lower|raise|save|quote|fill|"
    r"pack|unpack|split|put|make|move|download|let|delete|merge|keep|shorten|rename|read|needs?|is used only if|"
    r"begin|render|copy|allow|number|resume|wait|run|install|train|change|start|convert|compare|draw|evaluate|correct)\b",
    re.IGNORECASE,
)
"""A line with a mend tells to do something."""


class TookTooLong(BaseException):
    """A case did not end within its limit."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """End what runs within it after some seconds."""

    def end(*_: Any) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, if something has swallowed it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Search:
    """Cases tried and what was wrong, by kind.

    Args:
        what: is searched, in the table at the end.
        seconds: that a case may take.
    """

    what: str
    seconds: float = 20.0
    tried: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def attempt(self, kind: str, case: str, action: Callable[[], Any]) -> Any:
        """Carry out one case; returns what `action` returns, or None if the case was refused or is wrong."""
        self.tried[kind] += 1
        try:
            with limit(self.seconds):
                return action()
        except HoldfastError as error:
            self.refused[kind] += 1
            if fault := fault_of_line(str(error)):
                self.blame(kind, case, f"{fault}: {error}")
        except TookTooLong:
            self.blame(kind, case, f"took more than {self.seconds} s")
        except Exception as error:
            self.blame(kind, case, f"{type(error).__name__}: {error}")
        return None

    def blame(self, kind: str, case: str, what: str) -> None:
        """Count a case as wrong."""
        self.wrong.append(printable(f"{kind}: {case[:200]!r}: {what[:500]}"))

    def conclude(self) -> None:
        """Print how many cases of each kind were tried and refused; fail if any was wrong."""
        note(self.what, self.tried.total(), len(self.wrong))
        blamed = Counter(each.partition(":")[0] for each in self.wrong)
        for kind, count in sorted(self.tried.items()):
            print(f"{kind}: {count} tried, {self.refused[kind]} refused, {blamed[kind]} wrong")
        print(f"all: {self.tried.total()} tried, {self.refused.total()} refused, {len(self.wrong)} wrong")
        assert not self.wrong, "\n".join([f"{len(self.wrong)} of {self.tried.total()} are wrong:", *self.wrong[:40]])


def fault_of_line(line: str) -> str | None:
    """What is wrong with the line of an error; None if nothing is."""
    if "\n" in line or printable(line) != line:
        return "not one line of printable characters"
    if len(line) > LONGEST_LINE:
        return f"{len(line)} characters long"
    if found := _INSIDE.search(line):
        return f"speaks of the program's inside ({found[0]})"
    return None if _MEND.search(line) else "does not say how to mend it"

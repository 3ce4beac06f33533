"""What commands print: lines without control characters, which data, names and models may have."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from holdfast.errors import escaped, printable


def say(text: str = "") -> None:
    """Print text to standard output."""
    print(printable(text), flush=True)


def say_aside(line: str) -> None:
    """Print a line of progress to standard error."""
    print(printable(line), file=sys.stderr, flush=True)


def say_json(value: Any) -> None:
    """Print plain data as JSON: in UTF-8 with all characters as they are, elsewhere those outside ASCII as escapes."""
    is_unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    written = json.dumps(value, indent=1, ensure_ascii=not is_unicode)
    print(escaped(written, lambda character: f"\\u{ord(character):04x}"))


@contextmanager
def lenient_output() -> Iterator[None]:
    """Within it, a character that the terminal's encoding does not have is replaced; it does not end the command."""
    changed = []
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
            changed.append(stream)
    try:
        yield
    finally:
        for stream in changed:
            if not stream.closed:
                stream.reconfigure(errors="strict")

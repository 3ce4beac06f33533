"""Tables of `docs/chat-templates.md` that tests hold to what they found."""

import re
from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "chat-templates.md"


def held(test: str) -> str:
    """The table that a test, named by its path, holds."""
    found = re.search(
        rf"<!-- held by {re.escape(test)} -->\n\n(.*?)\n\n<!-- end -->", PAGE.read_text(encoding="utf-8"), re.S
    )
    assert found is not None, test
    return found[1]


def markdown(lines: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(text: str) -> str:
    """A text as code, in which line breaks and spaces at its ends are seen."""
    seen = text.replace("\n", "\\n")
    seen = "␣" + seen[1:] if seen.startswith(" ") else seen
    return f"`{seen}`" if seen else ""

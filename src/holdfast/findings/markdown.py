"""Pieces of Markdown pages: tables, paragraphs, the whole text. Torch-free."""

import textwrap
from collections.abc import Sequence


def wrapped(text: str) -> list[str]:
    """A paragraph in lines of at most 120 characters. Words and links stay whole."""
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def list_item(text: str) -> list[str]:
    """A list's item in lines of at most 120 characters."""
    first, *others = textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False)
    return [f"- {first}", *(f"  {line}" for line in others)]


def text_of(lines: Sequence[str]) -> str:
    """A file's text with one line break at its end."""
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table's lines."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]

"""Where things are in a sandbox."""

from pathlib import Path

INSIDE = Path(__file__).parent / "inside"
"""The programs of this project that run in a sandbox, on this machine."""

PLACE = "/holdfast"
"""Where their folder is in a sandbox."""

FOLDER = "/box"
"""The working folder, as the program sees it."""

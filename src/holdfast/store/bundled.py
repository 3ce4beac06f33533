"""The bases that ship with the package, by the names that `model.path` takes. Torch-free."""

from importlib.resources import files
from pathlib import Path

BASES = {"lab": "base", "lab-wide": "base-wide"}
"""Folder of each."""


def base_folder(name: str) -> Path | None:
    """Where a bundled base lies; None where no base has this name."""
    return Path(str(files("holdfast.lab") / BASES[name])) if name in BASES else None

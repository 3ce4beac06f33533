"""The bundled base models, by the names that `model.path` accepts. Imports without torch."""

from importlib.resources import files
from pathlib import Path

BASES = {"lab": "base"}
"""Folder of each base model, within `holdfast.lab`."""


def base_folder(name: str) -> Path | None:
    """The folder of a bundled base model; None if no base model has this name."""
    return Path(str(files("holdfast.lab") / BASES[name])) if name in BASES else None

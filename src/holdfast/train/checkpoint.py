"""Checkpoints that a killed run goes on from: whole or not there, and never trusted without their checksums."""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

KEPT = 2
"""Checkpoints that are kept: the newest, and the one before it in case the newest is damaged."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by group ("policy", "optimizer", "teacher") and name, and the position they belong to."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    position: Mapping[str, Any]


def save_checkpoint(folder: Path, number: int, checkpoint: Checkpoint) -> Path:
    """Write checkpoint `number` under `folder`: into a temporary folder, checksummed, then renamed; prune old ones."""
    final = folder / f"{number:08d}"
    temporary = folder / f".{number:08d}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for group, tensors in checkpoint.tensors.items():
        save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, temporary / f"{group}.safetensors")
    (temporary / "position.json").write_text(json.dumps(checkpoint.position))
    sums = {path.name: _digest(path) for path in sorted(temporary.iterdir())}
    (temporary / "checksums.json").write_text(json.dumps(sums))
    for path in temporary.iterdir():
        _flush(path)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    _flush(folder)
    for old in _numbered(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; a damaged one is named in a warning and passed over. None where none is."""
    for path in reversed(_numbered(folder)):
        fault = _fault(path)
        if fault:
            warnings.warn(f"{path}: {fault}; going on from the checkpoint before it", stacklevel=2)
            continue
        tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
        return Checkpoint(tensors, json.loads((path / "position.json").read_text()))
    return None


def _numbered(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []


def _fault(path: Path) -> str:
    """What is wrong with a checkpoint; empty where nothing is."""
    try:
        sums = json.loads((path / "checksums.json").read_text())
    except (OSError, ValueError):
        return "incomplete checkpoint"
    for name, expected in sums.items():
        file = path / name
        if not file.is_file():
            return f"damaged checkpoint, {name} is missing"
        if _digest(file) != expected:
            return f"damaged checkpoint, {name} has changed"
    return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Ask the system to bring a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

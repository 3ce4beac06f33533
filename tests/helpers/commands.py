"""Runs commands in this process, and writes small configurations."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast.cli.app import main
from holdfast.config.overrides import apply_overrides

LAB_RUN: Mapping[str, Any] = {
    "name": "small",
    "model": {"path": "lab"},
    "tasks": [
        {"name": "calculation", "lab": "calculation", "limit": 32},
        {"name": "facts", "lab": "facts", "limit": 32},
    ],
    "suites": [],
    "recipe": "sft",
    "train": {"steps": 2, "prompts_per_step": 4, "max_prompt_length": 160, "max_completion_length": 48},
    "eval": {"max_items": 16, "kl_items": 4},
}
"""A run of a few seconds over the lab's first two tasks."""


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of one command."""

    code: int
    out: str
    err: str


class Commands:
    """Runs commands as the entry point does, and writes configurations into a folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def __call__(self, *arguments: str | Path) -> Outcome:
        self._capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        printed = self._capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    def config(self, base: Mapping[str, Any], name: str = "config.yaml", **changes: Any) -> Path:
        """Write a configuration with dotted keys replaced; a top-level key that is None is removed."""
        data = apply_overrides(base, {key: value for key, value in changes.items() if value is not None})
        for key in (key for key, value in changes.items() if value is None):
            del data[key]
        path = self.folder / name
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        return path

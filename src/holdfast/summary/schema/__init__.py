"""JSON Schemas of the files that a run leaves behind."""

import json
from importlib import resources
from typing import Any


def summary_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `summary.json`, of runs and comparisons alike."""
    text = resources.files(__package__).joinpath("summary.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema

"""Reading `summary.json`, of this version or an earlier one."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from holdfast.config.problems import expected
from holdfast.errors import RunError, shown
from holdfast.measure.scores import Json
from holdfast.store.files import read_json
from holdfast.summary.models.comparison import ComparisonSummary
from holdfast.summary.models.run import RunSummary
from holdfast.summary.upgrade import upgrade
from holdfast.summary.version import SCHEMA_VERSION

_SHOWN = 3
"""Problems that an error lists."""

_FIX = "delete the file and run `holdfast resume` on its folder, which writes it again"

_ONCE = {"sets": ("name",), "evaluations": ("stage",), "score_changes": ("set", "what"), "drift": ("stage",)}
"""Blocks of a run whose entries differ in these fields."""


def read_summary(path: Path) -> Json:
    """The summary in a file, upgraded to today's version and checked against its schema. The file stays as it is.

    Raises:
        RunError: the file is missing or is not JSON, it is of a version that is not known, or a field is wrong.
    """
    summary = read_json(path, damaged=_FIX)
    if not isinstance(summary, dict):
        raise RunError("is damaged: it is not a JSON object", where=str(path), fix=_FIX)
    version = summary.get("schema_version")
    if type(version) is not int or version < 1:  # `True` is 1
        what = f"is damaged: its schema_version is {shown(version)}, not a number from 1 to {SCHEMA_VERSION}"
        raise RunError(what, where=str(path), fix=_FIX)
    if version > SCHEMA_VERSION:
        raise RunError(
            f"is of a newer version of holdfast: its schema_version is {shown(version)}, and this one reads 1 to "
            f"{SCHEMA_VERSION}",
            where=str(path),
            fix="use the version of holdfast that wrote it",
        )
    if (kind := summary.get("kind")) not in ("run", "comparison"):
        raise RunError(f"is damaged: kind is {shown(kind)}, not 'run' or 'comparison'", where=str(path), fix=_FIX)
    try:
        upgraded = upgrade(summary)
    except Exception as error:  # damaged data can have any shape, so computing from it can fail in any way
        if version == SCHEMA_VERSION:
            check_summary(summary, str(path))  # gives the field
        problem = " ".join(f"{type(error).__name__} {error}".split())
        raise RunError(f"is damaged: {problem}", where=str(path), fix=_FIX) from error
    check_summary(upgraded, str(path))
    return upgraded


def check_summary(summary: Json, where: str = "summary.json") -> None:
    """Compare a summary of today's version with its schema.

    Raises:
        RunError: a field is missing, unknown, or has the wrong type.
    """
    model = ComparisonSummary if summary.get("kind") == "comparison" else RunSummary
    try:
        model.model_validate(summary)
    except ValidationError as error:
        problems = [_in_words(each) for each in error.errors(include_url=False)]
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        what = f"does not match its schema: {'; '.join(problems[:_SHOWN])}{more}"
        raise RunError(what, where=where, fix=_FIX) from None
    for run in (each["summary"] for each in summary["runs"]) if model is ComparisonSummary else (summary,):
        _refuse_repetition(run, where)


def _refuse_repetition(run: Json, where: str) -> None:
    """Refuse a run's summary that has two entries about the same thing: only one of them would be shown."""
    for block, keys in _ONCE.items():
        seen: set[Any] = set()
        for entry in run[block]:
            about = tuple(entry[key] for key in keys)
            if about in seen:
                what = f"is damaged: {block} has two entries of {', '.join(map(str, about))}"
                raise RunError(what, where=where, fix=_FIX)
            seen.add(about)


def _in_words(problem: ErrorDetails) -> str:
    place = ".".join(map(str, problem["loc"]))
    if problem["type"] == "missing":
        return f"{place} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{place} is unknown"
    if (wanted := expected(problem)) is not None:
        return f"{place} is {shown(problem['input'])}, not {wanted.partition(', such as')[0]}"
    return f"{place}: {problem['msg'].replace('Input should', 'should')}"

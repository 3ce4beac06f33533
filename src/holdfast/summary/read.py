"""Reading `summary.json`, of this version or an earlier one."""

from pathlib import Path

from pydantic import ValidationError

from holdfast.errors import RunError
from holdfast.measure.scores import Json
from holdfast.store.files import read_json
from holdfast.summary.models.comparison import ComparisonSummary
from holdfast.summary.models.run import RunSummary
from holdfast.summary.upgrade import upgrade
from holdfast.summary.version import SCHEMA_VERSION

_SHOWN = 3
"""Problems that an error lists."""

_FIX = "delete the file and run `holdfast resume` on its folder, which writes it again"


def read_summary(path: Path) -> Json:
    """The summary in a file, upgraded to today's version and checked against its schema. The file stays as it is.

    Raises:
        RunError: the file is missing or is not JSON, it is of a version that is not known, or a field is wrong.
    """
    try:
        summary = read_json(path)
    except RunError as error:
        raise RunError(error.what, where=error.where, fix=error.fix or _FIX) from None
    if not isinstance(summary, dict):
        raise RunError("is damaged: it is not a JSON object", where=str(path), fix=_FIX)
    version = summary.get("schema_version")
    if version not in range(1, SCHEMA_VERSION + 1):
        raise RunError(
            f"has schema_version {version}; this version of holdfast reads 1 to {SCHEMA_VERSION}",
            where=str(path),
            fix="use the version of holdfast that wrote it",
        )
    if (kind := summary.get("kind")) not in ("run", "comparison"):
        raise RunError(f"is damaged: kind is {kind!r}, not 'run' or 'comparison'", where=str(path), fix=_FIX)
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
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        what = f"does not match its schema: {'; '.join(problems[:_SHOWN])}{more}"
        raise RunError(what, where=where, fix=_FIX) from None

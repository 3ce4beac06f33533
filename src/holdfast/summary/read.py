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


def read_summary(path: Path) -> Json:
    """The summary in a file, upgraded to today's version and checked against its schema. The file stays as it is.

    Raises:
        RunError: the file is missing or is not JSON, it is of a version that is not known, or a field is wrong.
    """
    summary = read_json(path)
    version = summary.get("schema_version") if isinstance(summary, dict) else None
    if version not in range(1, SCHEMA_VERSION + 1):
        raise RunError(
            f"has schema_version {version}; this version of holdfast reads 1 to {SCHEMA_VERSION}",
            where=str(path),
            fix="use the version of holdfast that wrote it",
        )
    try:
        summary = upgrade(summary)
    except (KeyError, TypeError) as error:
        raise RunError(f"is damaged: {type(error).__name__} {error}", where=str(path)) from error
    check_summary(summary, str(path))
    return summary


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
        raise RunError(f"does not match its schema: {'; '.join(problems[:_SHOWN])}{more}", where=where) from None

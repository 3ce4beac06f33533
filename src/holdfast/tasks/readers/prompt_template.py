"""Prompts that a template writes from columns."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.errors import ConfigError, DataError, did_you_mean
from holdfast.tasks.readers.record import Record, column, column_names, has_column, kind

_PLACE = re.compile(r"\{\{([^{}\n]+)\}\}|\{(\w[\w .\-/]*)\}")
"""A place, such as {question}, or one in double braces, which stands for itself in single ones."""


def template_columns(template: str) -> tuple[str, ...]:
    """The columns that a template names, each once."""
    return tuple(dict.fromkeys(match[2] for match in _PLACE.finditer(template) if match[2] is not None))


def check_template(template: str, records: Sequence[Record], where: str) -> None:
    """Refuse a template that names a column that no record has.

    Raises:
        ConfigError: it does; or it names no column, so that all prompts would be equal.
    """
    names = template_columns(template)
    if not names:
        raise ConfigError(
            "`prompt_template` names no column", where=where, fix="write a column's name in braces, e.g. {question}"
        )
    for name in names:
        if not any(has_column(record.values, name) for record in records):
            known = column_names(records)
            raise ConfigError(
                f"`prompt_template` names the column {name!r}, which no record has",
                where=where,
                fix=f"{did_you_mean(name, known)}; double the braces of a word that is no column",
            )


def write_prompt(template: str, values: Mapping[str, Any], where: str) -> str:
    """The prompt of a record. A value is never read as a template, so its braces stay as they are.

    A column without a value leaves nothing, and white space at the ends of the prompt is removed.

    Raises:
        DataError: a value is no text, number or boolean.
    """

    def value(match: re.Match[str]) -> str:
        if match[2] is None:
            return f"{{{match[1]}}}"
        found = column(values, match[2])
        if found is None or isinstance(found, str):
            return found or ""
        if isinstance(found, bool | int | float):
            return json.dumps(found)
        what = f"`{match[2]}` is {kind(found)}, and a template takes text"
        raise DataError(what, where=where, fix="write it as text")

    return _PLACE.sub(value, template).strip()

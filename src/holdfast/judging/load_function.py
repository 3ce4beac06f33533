"""Finds a function by its name, `module:function`."""

import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from holdfast.errors import ConfigError, did_you_mean

LOAD_LIMIT = 300.0
"""Seconds until the import of a user's module, with all that it imports, has taken too long."""


def import_took_too_long(where: str) -> ConfigError:
    """The error of an import that took longer than `LOAD_LIMIT`."""
    fix = "let it do less when it is imported"
    return ConfigError(f"importing it took longer than {LOAD_LIMIT:g} s", where=where, fix=fix)


def load_function(name: str, where: str, arguments: str) -> Any:
    """The function named `module:function`. The working directory is on the import path during the import.

    Args:
        name: the module's name, a colon, and the function's name. The latter may have dots.
        where: names the setting in error messages.
        arguments: the function's arguments, for error messages.

    Raises:
        ConfigError: the name has another form, the module cannot be imported, or it has no such function, or one whose
            first parameter is not called `example`.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise ConfigError("is not of the form module:function", where=where, fix="write e.g. my_task:verify")
    result: Any = _import(module_name, where)
    for part in path.split("."):
        if not hasattr(result, part):
            known = [n for n, v in vars(result).items() if callable(v) and not n.startswith("_")]
            raise ConfigError(f"{module_name!r} has no {path!r}", where=where, fix=did_you_mean(part, known))
        result = getattr(result, part)
    if not callable(result):
        raise ConfigError(
            f"is {type(result).__name__}, not a function", where=where, fix=f"name a function of {arguments}"
        )
    if _first_parameter(result).strip("_") != "example":
        raise ConfigError(
            f"{name!r} is no function of {arguments}: its first parameter has another name",
            where=where,
            fix="name a function whose first parameter is called `example`",
        )
    return result


def _first_parameter(function: Any) -> str:
    """The name of a function's first parameter; "" if it has none or cannot be asked.

    A run directory or a configuration may come from a stranger, and its data with it. Without this check it could name
    any function of any library, which would be called with the stranger's text: `pydoc:pipepager` gives it to a shell.
    """
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):
        return ""
    return "" if first is None or first.kind is inspect.Parameter.VAR_POSITIONAL else first.name


def _import(name: str, where: str) -> ModuleType:
    try:
        with _working_directory_on_path():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that the user's module imports is missing, not the user's module itself.
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"importing it needs {error.name!r}", where=where, fix="install that module") from error
        raise ConfigError(
            f"no module {error.name!r}", where=where, fix=f"put it into {os.getcwd()} or on PYTHONPATH"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # `sys.exit()` in a module too
        raise ConfigError(
            f"importing it raised {type(error).__name__}: {error}".splitlines()[0],
            where=where,
            fix="correct the module",
        ) from error


@contextmanager
def _working_directory_on_path() -> Iterator[None]:
    here = os.getcwd()
    sys.path.insert(0, here)
    importlib.invalidate_caches()  # the module may have been written after the folder was last listed
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)

"""What a configuration may make this machine do on the user's word alone: a run directory has no say in it.

A run directory may be a stranger's. Three things count only if the user says them at the call: code that comes with a
model or with a task file of lm-evaluation-harness, and programs without a sandbox. Functions that a configuration names
are the user's own, and never come out of the directory.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.config.settings import StreamSettings
from holdfast.errors import ConfigError

KEY = "model.trust_remote_code"

TRUST, UNPROTECTED = "--trust-remote-code", "--unprotected"
"""The options by which a user says it."""

FUNCTIONS = ("verifier", "environment_factory")
"""Keys of tasks and suites that name a function."""

_CELL = re.compile(r".+-s\d+-o\d+")
"""The folder of a comparison's run, in its folder `runs`. Others in a folder of this name are runs of a project."""


@dataclass(frozen=True, slots=True)
class UsersWord:
    """What a user allows at one call.

    Args:
        trust_remote_code: code that comes with a model, or with a task file of lm-evaluation-harness, may run.
        unprotected: code that the model writes may run without a sandbox.
    """

    trust_remote_code: bool = False
    unprotected: bool = False


NO_WORD = UsersWord()


@dataclass(frozen=True, slots=True)
class _Request:
    """A setting that needs the user's word.

    Args:
        keys: its dotted keys, as `--set` takes them.
        value: as `--set` takes it.
        option: that allows it in commands on run directories, `TRUST` or `UNPROTECTED`.
        what: it does.
        before: what the user does first.
    """

    keys: tuple[str, ...]
    value: str
    option: str
    what: str
    before: str = ""


def refuse_kept_trust(config: StreamSettings, path: Path, word: UsersWord, *, loads_tasks: bool = True) -> None:
    """Check that a configuration which a run directory keeps makes nothing run that the user has not allowed.

    Args:
        path: of the configuration.
        word: the user's, at this call.
        loads_tasks: whether tasks and suites are going to be loaded.

    Raises:
        ConfigError: it would.
    """
    allowed = {TRUST: word.trust_remote_code, UNPROTECTED: word.unprotected}
    for each in _requests(config, loads_tasks):
        if not allowed[each.option]:
            raise _refused(each, path, f"repeat the command with {each.option}")
    if loads_tasks:
        _refuse_own_functions(config, path, {})


def refuse_own_trust(config: StreamSettings, path: Path, overrides: Mapping[str, Any]) -> None:
    """Check the same of a configuration file that is a run directory's own. What the command's settings say counts.

    Raises:
        ConfigError: it would make something run that the command does not allow.
    """
    if path.name != "config.yaml" or not (_is_run(path.parent) or _is_comparison(path.parent)):
        return
    for each in _requests(config):
        if not any(_is_said(key, overrides) for key in each.keys):
            how = f"add `--set {each.keys[0]}={each.value}`, or copy the file out of the run directory"
            raise _refused(each, path, how)
    _refuse_own_functions(config, path, overrides)


def _requests(config: StreamSettings, loads_tasks: bool = True) -> Iterator[_Request]:
    """Everything in a configuration that needs the user's word."""
    if config.model.trust_remote_code:
        what = f"would run code that comes with {config.model.path}"
        yield _Request((KEY,), "true", TRUST, what, "read that code, then ")
    for keys, source in _sources(config) if loads_tasks else ():
        what = "would run code that the model writes without a sandbox, as you"
        if source.run_code == "unprotected":
            yield _Request(_within(keys, "run_code"), "unprotected", UNPROTECTED, what)
        name, settings = getattr(source, "lm_eval", None), getattr(source, "lm_eval_settings", None)
        if settings is not None and settings.run_code == "unprotected":
            yield _Request(_within(keys, "lm_eval_settings.run_code"), "unprotected", UNPROTECTED, what)
        if name is not None and _is_file(name):
            what = f"would run code that the task file {name} names"
            yield _Request(_within(keys, "lm_eval"), name, TRUST, what, "read that file and what it names, then ")


def _sources(config: StreamSettings) -> Iterator[tuple[tuple[str, str], Any]]:
    """Tasks and suites, each with its keys: by name, and by index."""
    for kind, entries in (("tasks", config.tasks), ("suites", config.suites or ())):
        for index, each in enumerate(entries):
            by_name, by_index = f"{kind}.{each.name}", f"{kind}.{index}"
            yield ((by_index, by_name) if "." in each.name else (by_name, by_index)), each


def _within(keys: tuple[str, ...], key: str) -> tuple[str, ...]:
    return tuple(f"{each}.{key}" for each in keys)


def _is_said(key: str, overrides: Mapping[str, Any]) -> bool:
    """Whether the value at a key is the command's: of the key itself, or of a block around it."""
    return any(key == each or key.startswith(f"{each}.") for each in overrides)


def _is_file(name: str) -> bool:
    """Whether lm-evaluation-harness would take a name for a task file."""
    try:
        return Path(os.path.expanduser(name)).is_file()
    except (OSError, RuntimeError, ValueError):
        return False


def _refused(request: _Request, path: Path, how: str) -> ConfigError:
    what = f"{request.keys[0]} {request.what}, and a run directory cannot allow that"
    return ConfigError(what, where=str(path), fix=f"{request.before}{how}")


def _refuse_own_functions(config: StreamSettings, path: Path, overrides: Mapping[str, Any]) -> None:
    """Refuse functions of modules in the run directory. Nothing is imported."""
    directory = _whole(path.parent.resolve())
    for keys, source in _sources(config):
        for key in FUNCTIONS:
            name = getattr(source, key)
            if name is None or any(_is_said(each, overrides) for each in _within(keys, key)):
                continue
            if _may_come_from(name, directory):
                what = f"{keys[0]}.{key} names {name}, which could be code in the run directory"
                fix = f"start the command in a folder of your own, outside of {directory}, and keep modules there"
                raise ConfigError(what, where=str(path), fix=fix)


def _is_run(directory: Path) -> bool:
    return (directory / "manifest.json").exists()


def _is_comparison(directory: Path) -> bool:
    try:
        return any(_CELL.fullmatch(each.name) for each in (directory / "runs").iterdir())
    except OSError:
        return False


def _whole(directory: Path) -> Path:
    """The comparison that a run directory is a part of, if it is one."""
    above = directory.parent.parent
    is_part = directory.parent.name == "runs" and _CELL.fullmatch(directory.name) and (above / "config.yaml").exists()
    return above if is_part else directory


def _may_come_from(name: str, directory: Path) -> bool:
    """Whether some folder on the import path leads into a directory, by the name of a module `package.module`."""
    within = Path(*name.partition(":")[0].split("."))
    roots = [Path(os.getcwd()), *map(Path, sys.path)]
    return any((root / within).resolve().is_relative_to(directory) for root in roots)

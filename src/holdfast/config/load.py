"""Read a YAML file or plain data as a typed configuration."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from holdfast.config.kept import with_new_names
from holdfast.config.overrides import apply_overrides
from holdfast.config.plain import check_plain
from holdfast.config.problems import first_problem
from holdfast.config.settings import CompareConfig, RunConfig, SourceSettings, StreamSettings, SuiteSettings
from holdfast.config.trust import NO_WORD, UsersWord, refuse_kept_trust, refuse_own_trust
from holdfast.config.yaml import read_config, write_yaml
from holdfast.errors import ConfigError
from holdfast.store.bundled import BASES

AnyConfig = TypeVar("AnyConfig", bound=StreamSettings)


def load_config(path: str | Path, kind: type[AnyConfig], overrides: Mapping[str, Any] | None = None) -> AnyConfig:
    """Read a YAML file as a configuration of the given kind. `overrides` replace settings, see `apply_overrides`.

    Relative paths of task files start at the configuration file's folder.

    Raises:
        ConfigError: the file is missing, is not YAML, or does not describe a valid configuration.
    """
    path = Path(path)
    data = apply_overrides(read_config(path), overrides or {})
    config = parse_config(data, kind, where=str(path), base_dir=path.parent)
    refuse_own_trust(config, path, overrides or {})
    return config


def load_kept_config(
    path: Path, kind: type[AnyConfig], word: UsersWord = NO_WORD, *, loads_tasks: bool = True
) -> AnyConfig:
    """Read the configuration that a run directory keeps. One of an earlier version may have old names.

    Args:
        word: what the user allows at this call. What the directory says of it does not count: it may be a stranger's.
        loads_tasks: whether tasks and suites are going to be loaded.

    Raises:
        ConfigError: as `load_config`; or it would make something run that the user has not allowed.
    """
    config = parse_config(with_new_names(read_config(path), kind), kind, where=str(path), base_dir=path.parent)
    refuse_kept_trust(config, path, word, loads_tasks=loads_tasks)
    return config


def parse_config(
    data: Mapping[str, Any], kind: type[AnyConfig], *, where: str = "configuration", base_dir: Path | None = None
) -> AnyConfig:
    """Plain data as a configuration.

    Raises:
        ConfigError: the first problem; it names the key.
    """
    check_plain(data, where)
    if kind is RunConfig and "recipes" in data and "recipe" not in data:
        raise ConfigError(
            "this describes a comparison", where=where, fix="use `holdfast compare`, or name one `recipe`"
        )
    if kind is CompareConfig and "recipe" in data and "recipes" not in data:
        raise ConfigError("this describes a single run", where=where, fix="use `holdfast run`, or list `recipes`")
    try:
        config = kind.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(first_problem(error, kind), where=where) from None
    try:
        config.model_dump(mode="json")
    except PydanticSerializationError as error:  # some settings take values of any kind
        fix = "give text, numbers, lists and mappings"
        raise ConfigError(f"a value cannot be kept with the run: {error}", where=where, fix=fix) from None
    return _with_absolute_paths(config, base_dir) if base_dir is not None else config


def dump_config(config: StreamSettings) -> str:
    """The configuration as YAML, all defaults included. `load_config` reads it back to an equal one."""
    return write_yaml(config.model_dump(mode="json"))


def _with_absolute_paths(config: AnyConfig, base_dir: Path) -> AnyConfig:
    def absolute(source: SourceSettings) -> SourceSettings:
        if source.lab is not None or source.gym is not None:
            return source
        if isinstance(source, SuiteSettings) and source.lm_eval is not None:
            file = base_dir / source.lm_eval
            return source.model_copy(update={"lm_eval": _absolute(file)}) if _is(file, Path.is_file) else source
        if source.dataset is not None:
            folder = base_dir / source.dataset
            return source.model_copy(update={"dataset": _absolute(folder)}) if _is(folder, Path.is_dir) else source
        paths = {f: getattr(source, f, None) for f in ("train", "test")}
        return source.model_copy(update={f: _absolute(base_dir / p) for f, p in paths.items() if p is not None})

    model = config.model
    if model.path not in BASES and _is(base_dir / model.path, Path.is_dir):
        model = model.model_copy(update={"path": _absolute(base_dir / model.path)})
    update: dict[str, Any] = {"model": model, "tasks": [absolute(t) for t in config.tasks]}
    if config.suites is not None:
        update["suites"] = [absolute(s) for s in config.suites]
    if config.eval.embedder is not None:
        embedder = _absolute(base_dir / config.eval.embedder)
        update["eval"] = config.eval.model_copy(update={"embedder": embedder})
    return config.model_copy(update=update)


def _is(path: Path, test: Callable[[Path], bool]) -> bool:
    """Whether a path leads to a file or folder; false also if it cannot be looked up, e.g. because it is too long."""
    try:
        return test(path)
    except (OSError, ValueError):
        return False


def _absolute(path: Path) -> str:
    """The path with symbolic links followed; one that cannot be followed is refused when it is read."""
    try:
        return str(path.resolve())
    except (OSError, RuntimeError):
        return os.path.abspath(path)

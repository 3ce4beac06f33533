"""Read a YAML file or plain data as a typed configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from holdfast.config.kept import with_new_names
from holdfast.config.overrides import apply_overrides
from holdfast.config.problems import first_problem
from holdfast.config.settings import CompareConfig, RunConfig, SourceSettings, StreamSettings, SuiteSettings
from holdfast.config.trust import refuse_kept_trust, refuse_own_trust
from holdfast.config.yaml import read_config
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


def load_kept_config(path: Path, kind: type[AnyConfig], *, trust_remote_code: bool = False) -> AnyConfig:
    """Read the configuration that a run directory keeps. One of an earlier version may have old names.

    Args:
        trust_remote_code: the user's word that code which comes with the model may run. The directory's own does not
            count: it may be a stranger's.

    Raises:
        ConfigError: as `load_config`; or it asks for such code without the user's word.
    """
    config = parse_config(with_new_names(read_config(path), kind), kind, where=str(path), base_dir=path.parent)
    if not trust_remote_code:
        refuse_kept_trust(config, str(path), fix="repeat the command with --trust-remote-code")
    return config


def parse_config(
    data: Mapping[str, Any], kind: type[AnyConfig], *, where: str = "configuration", base_dir: Path | None = None
) -> AnyConfig:
    """Plain data as a configuration.

    Raises:
        ConfigError: the first problem; it names the key.
    """
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
    return _with_absolute_paths(config, base_dir) if base_dir is not None else config


def dump_config(config: StreamSettings) -> str:
    """The configuration as YAML, all defaults included. `load_config` reads it back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def _with_absolute_paths(config: AnyConfig, base_dir: Path) -> AnyConfig:
    def absolute(source: SourceSettings) -> SourceSettings:
        if source.lab is not None or source.gym is not None:
            return source
        if isinstance(source, SuiteSettings) and source.lm_eval is not None:
            file = base_dir / source.lm_eval
            return source.model_copy(update={"lm_eval": str(file.resolve())}) if file.is_file() else source
        if source.dataset is not None:
            folder = base_dir / source.dataset
            return source.model_copy(update={"dataset": str(folder.resolve())}) if folder.is_dir() else source
        paths = {f: getattr(source, f, None) for f in ("train", "test")}
        return source.model_copy(update={f: str((base_dir / p).resolve()) for f, p in paths.items() if p is not None})

    model = config.model
    if model.path not in BASES and (base_dir / model.path).is_dir():
        model = model.model_copy(update={"path": str((base_dir / model.path).resolve())})
    update: dict[str, Any] = {"model": model, "tasks": [absolute(t) for t in config.tasks]}
    if config.suites is not None:
        update["suites"] = [absolute(s) for s in config.suites]
    if config.eval.embedder is not None:
        embedder = str((base_dir / config.eval.embedder).resolve())
        update["eval"] = config.eval.model_copy(update={"embedder": embedder})
    return config.model_copy(update=update)

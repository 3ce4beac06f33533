"""Code that comes with a model runs on the user's word alone: a run directory may be a stranger's, and has no say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.config.settings import StreamSettings
from holdfast.errors import ConfigError

KEY = "model.trust_remote_code"


def refuse_kept_trust(config: StreamSettings, where: str, *, fix: str) -> None:
    """Check that a configuration from a run directory does not ask for the code of a model.

    Args:
        where: the configuration's file.
        fix: how the user says that the code may run.

    Raises:
        ConfigError: it does.
    """
    if config.model.trust_remote_code:
        what = f"{KEY} would run code that comes with {config.model.path}, and a run directory cannot allow that"
        raise ConfigError(what, where=where, fix=f"read that code, then {fix}")


def refuse_own_trust(config: StreamSettings, path: Path, overrides: Mapping[str, Any]) -> None:
    """Check the same of a configuration file that is a run directory's own, unless the command's settings allow it.

    Raises:
        ConfigError: it asks for the code of a model, and the command does not.
    """
    is_own = path.name == "config.yaml" and any((path.parent / name).exists() for name in ("manifest.json", "runs"))
    model = overrides.get("model")
    said = KEY in overrides or (isinstance(model, Mapping) and "trust_remote_code" in model)
    if is_own and not said:
        refuse_kept_trust(config, str(path), fix=f"add `--set {KEY}=true`")

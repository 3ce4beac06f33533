"""Reading `--set KEY=VALUE`."""

from collections.abc import Sequence
from typing import Any

from holdfast.errors import ConfigError


def parse_overrides(settings: Sequence[str] | None) -> dict[str, Any]:
    """Dotted keys with their values; a value is YAML.

    Raises:
        ConfigError: a setting is not KEY=VALUE, or its value is not YAML.
    """
    from holdfast.config.yaml import parse_yaml

    overrides = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise ConfigError("is not of the form KEY=VALUE", where=f"--set {setting}", fix="e.g. train.steps=100")
        overrides[key] = parse_yaml(value, f"--set {setting}")
    return overrides

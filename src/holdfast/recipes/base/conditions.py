"""When a setting of a recipe is used. A setting that was changed but is not used is refused."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Above:
    """All numbers above a bound."""

    bound: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and value > self.bound

    def __str__(self) -> str:
        return f"above {self.bound:g}"


SettingValues = tuple[object, ...] | Above

Condition = Mapping[str, SettingValues]
"""For each named setting, the values that satisfy the condition. All of the settings must satisfy it."""


def holds(condition: Condition, settings: object) -> bool:
    """Whether every setting that the condition names has one of the values."""
    return all(getattr(settings, name) in values for name, values in condition.items())


def in_words(name: str, values: SettingValues) -> str:
    """A setting with its values, such as `clip is entry or token`."""
    if isinstance(values, Above):
        return f"{name} is {values}"
    words = {None: "unset", True: "true", False: "false"}
    # `1 in words` is true because 1 == True, so booleans are recognized by their type.
    shown = [words[value] if value is None or isinstance(value, bool) else str(value) for value in values]
    return f"{name} is {' or '.join(shown)}"

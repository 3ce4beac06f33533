"""Tasks and suites that are passed as objects in Python. A configuration only names them.

Their examples and verifiers exist in the caller's process alone. So whoever resumes such a run passes them again, and
the manifest's hash tells whether they are the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from holdfast.config.settings import SuiteSettings, TaskSettings
from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError


@dataclass(frozen=True)
class GivenSets:
    """The objects by name.

    Attributes:
        tasks, suites: what was passed.
    """

    tasks: Mapping[str, Task] = field(default_factory=dict)
    suites: Mapping[str, Suite] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Sequence[Task] | None, suites: Sequence[Suite] | None) -> Self:
        """The objects that a caller passes.

        Raises:
            ConfigError: two share a name.
        """
        names = [each.name for each in tasks or ()] + [each.name for each in suites or ()]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two tasks or suites are named {name!r}", fix="give one of them another name")
        return cls({each.name: each for each in tasks or ()}, {each.name: each for each in suites or ()})

    def task(self, settings: TaskSettings) -> Task:
        """The task that an entry names.

        Raises:
            ConfigError: it was not passed.
        """
        if settings.name not in self.tasks:
            raise _not_passed("task", settings.name)
        return self.tasks[settings.name]

    def suite(self, settings: SuiteSettings) -> Suite:
        """The suite that an entry names. Errors are those of `task`."""
        if settings.name not in self.suites:
            raise _not_passed("suite", settings.name)
        return self.suites[settings.name]

    def entries(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Plain data of a configuration with an entry for each object that it does not name yet.

        An entry `{name: NAME, given: true}` that is there already may have more, such as `steps`.
        """
        named = dict(data)
        for key, objects in (("tasks", self.tasks), ("suites", self.suites)):
            present = list(named.get(key) or [])
            names = {each.get("name") for each in present if isinstance(each, Mapping)}
            missing = [{"name": name, "given": True} for name in objects if name not in names]
            if objects:
                named[key] = [*present, *missing]
        return named


NOTHING_GIVEN = GivenSets()


def _not_passed(kind: str, name: str) -> ConfigError:
    return ConfigError(
        f"{kind} {name!r} is an object that was passed in Python, and is not passed now",
        fix=f"pass it from Python with {kind}s=[...], also to holdfast.resume",
    )

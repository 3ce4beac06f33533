"""Tasks and suites that are passed in Python: as objects, which a configuration only names, or as it has them itself.

Examples and verifiers of objects exist in the caller's process alone. So whoever resumes such a run passes them again,
and the manifest's hash tells whether they are the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from holdfast.config.settings import SuiteSettings, TaskSettings
from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError


@dataclass(frozen=True)
class GivenSets:
    """What was passed.

    Attributes:
        tasks, suites: the objects by name.
        listed: by key, `tasks` or `suites`, a list that is empty or has entries beside objects. It replaces the
            configuration's.
    """

    tasks: Mapping[str, Task] = field(default_factory=dict)
    suites: Mapping[str, Suite] = field(default_factory=dict)
    listed: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Sequence[Any] | None, suites: Sequence[Any] | None) -> Self:
        """What a caller passes: objects, or entries as a configuration has them.

        Raises:
            ConfigError: two objects share a name, or a suite is passed as a task or a task as a suite.
        """
        objects: dict[str, dict[str, Any]] = {"tasks": {}, "suites": {}}
        listed: dict[str, list[Any]] = {}
        for key, kind, passed in (("tasks", Task, tasks), ("suites", Suite, suites)):
            for each in passed or ():
                if isinstance(each, Task | Suite):
                    if not isinstance(each, kind):
                        raise ConfigError(
                            f"{each.name!r} is not a {kind.__name__.lower()}", where=key, fix=f"pass a {kind.__name__}"
                        )
                    if any(each.name in names for names in objects.values()):
                        fix = "give one of them another name"
                        raise ConfigError(f"two tasks or suites are named {each.name!r}", fix=fix)
                    objects[key][each.name] = each
            if passed is not None and (not passed or len(objects[key]) < len(passed)):
                listed[key] = [_entry(each) if isinstance(each, kind) else each for each in passed]
        return cls(objects["tasks"], objects["suites"], listed)

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

        Raises:
            ConfigError: an entry with the name of an object has data of its own.
        """
        named = {**data, **self.listed}
        for key, objects in (("tasks", self.tasks), ("suites", self.suites)):
            present = list(named.get(key) or [])
            names = set()
            for entry in present:
                if isinstance(entry, Mapping) and entry.get("name") in objects:
                    if not entry.get("given"):
                        fix = "write `given: true` beside its name, or give the object another name"
                        raise ConfigError(f"{entry['name']!r} is passed and has data of its own", where=key, fix=fix)
                    names.add(entry["name"])
            missing = [_entry(each) for name, each in objects.items() if name not in names]
            if objects:
                named[key] = [*present, *missing]
        return named


NOTHING_GIVEN = GivenSets()


def _entry(each: Task | Suite) -> dict[str, Any]:
    """How a configuration names an object."""
    return {"name": each.name, "given": True}


def _not_passed(kind: str, name: str) -> ConfigError:
    return ConfigError(
        f"{kind} {name!r} is an object that was passed in Python, and is not passed now",
        fix=f"pass it from Python with {kind}s=[...], also to holdfast.resume",
    )

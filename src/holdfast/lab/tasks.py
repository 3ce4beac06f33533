"""The lab's tasks and suites by name, in the world of a seed."""

from collections.abc import Sequence
from functools import cache

from holdfast.data.example import Example
from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError
from holdfast.lab import headed, plain, retention
from holdfast.lab.headers import Header, free_header
from holdfast.lab.plain import PlainSet
from holdfast.lab.questions import HELD_OUT_SURFACE, TRAINED_SURFACES
from holdfast.lab.words import OPTIONS, TOOL_PRIORS
from holdfast.lab.world import DEFAULT_DIALS, HEADED_TASKS, Dials, World, world

TRAIN_ITEMS = 512

TEST_ITEMS = 640
"""At 640 items, a 95% interval extends at most 3.9 points to each side."""

_DESCRIPTIONS = {
    "facts": "facts about new things, as multiple choice",
    "tools": "which tool fulfills a new kind of request",
    "calculation": "what new operation words mean",
    "more-facts": "other facts about the things of `facts`, some of them contrary to it",
}

_CHANCE = {"facts": 1 / OPTIONS, "tools": 1 / len(TOOL_PRIORS), "calculation": 0.0, "more-facts": 1 / OPTIONS}
"""The score of somebody who takes one of the options."""

TASKS: tuple[str, ...] = HEADED_TASKS
"""Names of the tasks of the default stream, in its order."""

ALL_TASKS: tuple[str, ...] = (*TASKS, *plain.TASKS)
"""Including the tasks that single recipes need."""

PROGRAMS = "programs"
"""The task whose answers are programs. It is not one of `ALL_TASKS`: what judges it is above the lab, and so the task
itself comes from `holdfast.tasks.lab_programs`."""

RETENTION: tuple[str, ...] = tuple(retention.SUITES)
"""Names of the suites of old skills that every stream on a lab model gets by default."""

ALL_SUITES: tuple[str, ...] = (*RETENTION, *(f"{name}-ood" for name in TASKS), *plain.SUITES, *plain.OOD)


@cache
def lab_task(name: str, seed: int = 0, dials: Dials = DEFAULT_DIALS) -> Task:
    """A task in the world of a seed.

    Raises:
        ConfigError: there is no such task.
    """
    if name not in ALL_TASKS:
        raise ConfigError(f"the lab has no task {name!r}", fix=f"its tasks: {', '.join((*ALL_TASKS, PROGRAMS))}")
    here = world(seed)
    if name in plain.TASKS:
        source, header = plain.TASKS[name], here.free_headers[name]
        seen: set[str] = set()
        test = _plain_examples(here, source, name, "test", source.test, TRAINED_SURFACES, header, seen)
        train = _plain_examples(here, source, name, "train", source.train, TRAINED_SURFACES, header, seen)
        verifier = source.verify if source.episodes is None else None
        return Task(name, train, test, verifier, source.description, source.episodes)
    asked: set[str] = set()
    test = headed.examples(here, name, "test", TEST_ITEMS, TRAINED_SURFACES, dials, asked)
    train = headed.examples(here, name, "train", TRAIN_ITEMS, TRAINED_SURFACES, dials, asked)
    return Task(name, train, test, headed.verify, _DESCRIPTIONS[name], chance=_CHANCE[name])


@cache
def lab_suite(name: str, seed: int = 0, dials: Dials = DEFAULT_DIALS) -> Suite:
    """A suite in the world of a seed.

    Raises:
        ConfigError: there is no such suite.
    """
    if name not in ALL_SUITES:
        raise ConfigError(f"the lab has no suite {name!r}", fix=f"its suites: {', '.join(ALL_SUITES)}")
    here = world(seed)
    if name in RETENTION:
        make, verifier, description = retention.SUITES[name]
        rng = here.rng(name)
        return Suite(name, "retention", [make(here, rng, i) for i in range(TEST_ITEMS)], verifier, description)
    if name in plain.SUITES:
        source = plain.SUITES[name]
        items = _plain_examples(here, source, name, "test", source.test, TRAINED_SURFACES, None, set())
        return Suite(name, "retention", items, source.verify, source.description, source.episodes)
    task = name.removesuffix("-ood")
    if name in plain.OOD:
        source = plain.OOD[name]
        header = here.free_headers[task]
        items = _plain_examples(here, source, name, "ood", source.test, (HELD_OUT_SURFACE,), header, set())
        return Suite(name, "ood", items, source.verify, source.description, source.episodes)
    items = headed.examples(here, task, "ood", TEST_ITEMS, (HELD_OUT_SURFACE,), dials, set())
    about = f"{task}, in a phrasing that is not trained"
    return Suite(name, "ood", items, headed.verify, about, chance=_CHANCE[task])


def default_suites(tasks: Sequence[str]) -> list[str]:
    """Names of the suites that a stream of these tasks gets by default: the old skills, and what lies beside the
    tasks."""
    own = {**plain.BESIDE, PROGRAMS: ()}
    beside = [suite for task in tasks for suite in own.get(task, (f"{task}-ood",))]
    return list(dict.fromkeys([*RETENTION, *beside]))


def _plain_examples(
    here: World,
    source: PlainSet,
    name: str,
    split: str,
    count: int,
    surfaces: Sequence[int],
    header: Header | None,
    seen: set[str],
) -> list[Example]:
    """Distinct questions, all under `header`, or each under a free header if `header` is None."""
    rng = here.rng(name, split)
    made: list[Example] = []
    while len(made) < count:
        identity = f"{name}-{split}-{len(made)}"
        example = source.make(here, rng, rng.choice(surfaces), identity, header or free_header(rng))
        text = example.messages[-1]["content"]
        if text not in seen:
            seen.add(text)
            made.append(example)
    return made

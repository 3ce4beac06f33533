"""`holdfast.lab.world`: what a seed decides, and what it leaves alone."""

import os
import subprocess
import sys

import pytest

from holdfast.lab import questions
from holdfast.lab.headers import FREE, HABIT_SHARES, HABITS, main_form, rarest_form
from holdfast.lab.words import (
    ATTRIBUTES,
    ENTITIES,
    FORBIDDEN,
    FORMATS,
    NEW_ENTITIES,
    NEW_VERBS,
    OPERATION_MEANINGS,
    STEP_MEANINGS,
)
from holdfast.lab.world import HEADED_TASKS, HEADERS_PER_TASK, THINGS, VERBS, WORDS, world

SEEDS = (0, 1, 7)

HASH_OF_DATA = (
    "from holdfast.lab.tasks import lab_suite, lab_task; from holdfast.tasks.load import data_hash; "
    "print([data_hash(each) for each in (lab_task('facts', 3), lab_task('more-facts', 3), lab_task('steps', 3), "
    "lab_suite('old-skills', 3), lab_suite('quests-ood', 3))])"
)


def test_each_form_is_the_main_one_of_as_many_headers() -> None:
    mains = [main_form(header) for header in HABITS]
    assert {form: mains.count(form) for form in FORMATS} == dict.fromkeys(FORMATS, len(HABITS) // len(FORMATS))
    for header, habit in HABITS.items():
        assert sorted(habit) == sorted(FORMATS)
        assert tuple(habit.values()) == HABIT_SHARES
        assert habit[rarest_form(header)] == min(HABIT_SHARES)
    assert sum(HABIT_SHARES) == pytest.approx(1)
    assert not set(HABITS) & set(FREE)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_task_asks_under_headers_of_one_form_and_no_two_tasks_share_it(seed: int) -> None:
    here = world(seed)
    assert set(here.headers) == set(HEADED_TASKS)
    for task, headers in here.headers.items():
        assert len(set(headers)) == HEADERS_PER_TASK
        assert {main_form(header) for header in headers} == {here.form(task)}
    assert len({here.form(task) for task in HEADED_TASKS}) == len(HEADED_TASKS)
    used = [header for headers in here.headers.values() for header in headers]
    assert len(used) == len(set(used))
    assert set(here.other_headers) == set(HABITS) - set(used)
    assert set(here.free_headers.values()) <= set(FREE)
    assert len(set(here.free_headers.values())) == len(here.free_headers)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_has_its_items_and_the_base_knows_none_of_them(seed: int) -> None:
    here = world(seed)
    assert len(set(here.things)) == THINGS
    assert set(here.things) <= set(NEW_ENTITIES)
    assert not set(NEW_ENTITIES) & set(ENTITIES)
    assert sorted(here.attributes) == sorted(ATTRIBUTES)
    asked = {(thing, attribute) for thing, attribute, _ in here.facts}
    assert asked == {(thing, attribute) for thing in here.things for attribute in here.attributes[:2]}
    assert len(here.facts) == len(asked)
    assert all(value in ATTRIBUTES[attribute] for _, attribute, value in here.facts)
    assert len(here.tools) == VERBS
    assert set(here.tools) <= set(NEW_VERBS)
    assert all(tool in questions.tools_of(verb) for verb, tool in here.tools.items())
    assert len(here.operations) == WORDS
    assert set(here.operations.values()) == set(OPERATION_MEANINGS)
    for meanings in (here.steps, here.steps_hard):
        assert all(meaning in STEP_MEANINGS[word] for word, meaning in meanings.items())
    assert not set(here.steps) & set(here.steps_hard)
    named, never = map(set, here.forbidden)
    assert named | never == set(FORBIDDEN)
    assert not named & never


@pytest.mark.parametrize("overlap", [0.0, 0.25, 1.0])
def test_overlap_is_the_share_of_contrary_items(overlap: float) -> None:
    here = world(5)
    known = {(thing, attribute): value for thing, attribute, value in here.facts}
    more = here.more_facts(overlap)
    items = {(thing, attribute): value for thing, attribute, value in more}
    contrary = items.keys() & known.keys()
    assert len(items) == len(more) == len(here.facts)
    assert len(contrary) == round(overlap * len(here.facts))
    assert all(items[item] != known[item] for item in contrary)
    assert {attribute for _, attribute in items.keys() - contrary} <= set(here.attributes[2:])


def test_another_seed_is_another_world_in_all_that_is_learned() -> None:
    one, two = world(0), world(1)
    for name in ("headers", "facts", "tools", "operations", "quests", "things", "forbidden", "free_headers"):
        assert getattr(one, name) != getattr(two, name), name


def test_a_world_is_the_same_in_every_process() -> None:
    """The order of a set of words depends on the process, so no draw may depend on one."""
    found = [
        subprocess.run(
            [sys.executable, "-c", HASH_OF_DATA],
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in (1, 2)
    ]
    assert found[0] == found[1] != ""


def test_draws_with_different_names_do_not_depend_on_each_other() -> None:
    here = world(2)
    first = here.rng("a", "train").random()
    here.rng("a", "test").random()
    assert here.rng("a", "train").random() == first
    assert here.rng("a", "test").random() != first

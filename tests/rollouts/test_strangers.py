"""`holdfast.rollouts.strangers`: another example for each; and the teachers that see it."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.example import Example, Message
from holdfast.data.rows import Row
from holdfast.data.task import Task
from holdfast.errors import ConfigError
from holdfast.model.load import load_policy
from holdfast.recipes import OPSD, RECIPES, SDFT
from holdfast.recipes.base.needs import require
from holdfast.recipes.base.privilege import PrivilegeSettings
from holdfast.recipes.base.recipe import Recipe
from holdfast.rollouts.collect import Collector
from holdfast.rollouts.strangers import strangers
from holdfast.sampling.sampler import Sampler

PLAIN = {"template": "{prompt}|{demonstration}|"}


def asked(name: str, question: str) -> Example:
    return Example(name, (Message(role="user", content=question),), demonstration=f"answer to {question}")


@given(st.lists(st.integers(0, 5), min_size=2, max_size=12), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_stranger_has_another_prompt(questions: list[int], seed: int) -> None:
    examples = [asked(f"e{place}", f"q{number}") for place, number in enumerate(questions)]
    found = strangers(examples, "t", seed)
    assert found.keys() == ({example.id for example in examples} if len(set(questions)) > 1 else set())
    for example in examples:
        assert example.id not in found or found[example.id].messages != example.messages
    assert strangers(examples, "t", seed) == found


def test_every_example_is_the_stranger_of_one_other_and_the_seed_decides_of_which() -> None:
    examples = [asked(f"e{number}", f"q{number}") for number in range(20)]
    drawn = [strangers(examples, "t", seed) for seed in (1, 2)]
    for found in drawn:
        assert Counter(each.id for each in found.values()) == Counter(example.id for example in examples)
    assert drawn[0] != drawn[1]
    assert strangers(examples, "another", 1) != drawn[0]


def rows_of(folder: Path, recipe: Recipe, batch: int) -> list[Row]:
    """The rows of a rollout batch of all eight prompts."""
    policy = load_policy(ModelSettings(path=str(folder)))
    made = Collector(policy, Sampler(policy), recipe, TrainSettings(prompts_per_step=8, max_completion_length=4), 0)
    task = Task("t", [asked(f"e{number}", f"q{number}") for number in range(8)], [], None)
    made.prepare(task)
    return [row for group in made.collect(task, 1, batch)[0] for row in group.rows]


@pytest.mark.parametrize("kind", [SDFT, OPSD])
def test_the_teacher_sees_the_strangers_prompt_and_demonstration(
    tiny_model: Path, kind: type[SDFT] | type[OPSD]
) -> None:
    seen: dict[str, str] = {}
    for batch in (0, 1):
        for row in rows_of(tiny_model, kind(privilege="stranger", **PLAIN), batch):  # type: ignore[arg-type]
            assert row.teacher_messages is not None
            question = row.example.messages[-1]["content"]
            asked_first, shown, _ = row.teacher_messages[-1]["content"].split("\n\n")
            _, stranger, _, demonstration = shown.split("\n")
            assert asked_first == question
            assert stranger != question
            assert demonstration == f"answer to {stranger}"
            assert seen.setdefault(question, stranger) == stranger, "the same in every epoch"
            assert row.div == 1.0
            assert row.teacher_prompt_ids
    assert len(seen) == len(set(seen.values())) == 8


@pytest.mark.parametrize("kind", [SDFT, OPSD])
def test_without_privilege_only_the_words_of_the_template_are_left(tiny_model: Path, kind: type[SDFT]) -> None:
    for privilege, shown in (("none", ""), ("own", "answer to {}")):
        for row in rows_of(tiny_model, kind(privilege=privilege, **PLAIN), 0):  # type: ignore[arg-type]
            assert row.teacher_messages is not None
            question = row.example.messages[-1]["content"]
            assert row.teacher_messages[-1]["content"] == f"{question}|{shown.format(question)}|"


def test_atesd_exposes_the_steps_of_the_strangers_solution() -> None:
    from holdfast.data.rows import Group

    own, other = (
        Example(name, (Message(role="user", content=name),), solution=(f"{name}1", f"{name}2", f"{name}3"))
        for name in "ab"
    )
    row = Row(own, [1], [2])
    for privilege, shown in (("own", "a1\na3"), ("none", "")):
        recipe = RECIPES["atesd"](privilege=privilege, exposure=0.3, **PLAIN)  # type: ignore[arg-type]
        recipe.annotate([Group(own, [row], stranger=other)])
        assert row.teacher_messages is not None
        assert row.teacher_messages[-1]["content"] == f"a|{shown}|"
    recipe = RECIPES["atesd"](privilege="stranger", exposure=0.3, **PLAIN)  # type: ignore[arg-type]
    recipe.annotate([Group(own, [row], stranger=other)])
    assert "another question:\nb\nOne good answer to it is:\nb1\nb3\n\n" in row.teacher_messages[-1]["content"]


def test_a_task_with_one_prompt_has_no_strangers() -> None:
    task = Task("t", [asked("a", "q"), asked("b", "q")], [], None)
    with pytest.raises(ConfigError, match="shows the teacher another example, and task 't' has only one prompt"):
        require(SDFT(privilege="stranger"), [task])
    require(SDFT(privilege="none"), [task])


def test_thoughts_are_removed_from_the_strangers_demonstration_only() -> None:
    from holdfast.data.rows import Group

    own, other = (
        asked("a", "q"),
        Example("b", (Message(role="user", content="<think>?"),), demonstration="<think>hm</think>so"),
    )
    row = Row(own, [1], [2])
    settings_ = {"privilege": "stranger", "remove_thinking_from_demonstration": True, **PLAIN}
    SDFT(**settings_).annotate([Group(own, [row], stranger=other)])  # type: ignore[arg-type]
    assert row.teacher_messages is not None
    assert "another question:\n<think>?\nOne good answer to it is:\nso\n\n" in row.teacher_messages[-1]["content"]
    with pytest.raises(ValueError, match="remove_thinking_from_demonstration is used only if privilege is own or stra"):
        SDFT(**{**settings_, "privilege": "none"})  # type: ignore[arg-type]


def test_every_recipe_with_a_solution_in_a_template_that_distills_has_the_control() -> None:
    found = {name for name, kind in RECIPES.items() if issubclass(kind, PrivilegeSettings)}
    assert found >= {"sdft", "isdft", "correct_only", "opsd", "beta_opsd", "vopd", "stable_opd", "atesd", "anchored"}

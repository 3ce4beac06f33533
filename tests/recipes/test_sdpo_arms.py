"""`holdfast.recipes.sdpo`: the arms of "Denser ≠ Better" (arXiv 2607.01763) are settings, each with these parts."""

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Group, Row
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.teacher import TeacherSpec

THOUGHT = "<think>two and two</think>\n4"


def _annotated(recipe: Recipe, text: str = THOUGHT, length: int = 1000) -> list[Row]:
    """A wrong sample, and a right one with reasoning; the demonstration has reasoning too."""
    example = Example("e", (Message(role="user", content="2 + 2"),), demonstration=text)
    rows = [
        Row(example, [1], [2] * length, completion=said, verdict=Verdict(reward), seed=seed)
        for seed, (said, reward) in enumerate([("5", 0.0), (text, 1.0)])
    ]
    recipe.annotate([Group(example, rows)])
    return rows


def _shown(recipe: Recipe) -> str:
    messages = _annotated(recipe)[0].teacher_messages
    assert messages is not None
    return messages[-1]["content"]


def _left_out(recipe: Recipe) -> float:
    weights = _annotated(recipe)[0].token_weights or [1.0]
    return round(sum(weight == 0 for weight in weights) / len(weights), 1)


def _teacher(**settings: Any) -> Callable[[TeacherSpec], bool]:
    return lambda spec: all(getattr(spec, name) == value for name, value in settings.items())


TEACHERS: dict[str, tuple[dict[str, Any], Callable[[TeacherSpec], bool]]] = {
    "frozen at a stage's start": (
        {"teacher_kind": "frozen", "stage_start": "student"},
        _teacher(kind="frozen", stage_start="student"),
    ),
    "frozen at the base": ({"teacher_kind": "frozen"}, _teacher(kind="frozen", stage_start="base")),
    "EMA of 5%": ({"ema_rate": 0.05}, _teacher(kind="ema", rate=0.05)),
    "EMA of 1%, never reset": ({"ema_rate": 0.01, "stage_start": "keep"}, _teacher(kind="ema", stage_start="keep")),
    "restart and freeze": (
        {"teacher_kind": "periodic", "refresh_every": 20, "refresh_share": 0.6, "stage_start": "student"},
        _teacher(kind="periodic", every=20, share=0.6, stage_start="student"),
    ),
    "live": ({"teacher_kind": "live"}, _teacher(kind="live")),
    "trust region": (
        {"teacher_kind": "trust_region", "trust_region_mix": 0.1},
        _teacher(kind="trust_region", mix=0.1, stage_start="base"),
    ),
}


def _recipe(name: str, **settings: Any) -> Recipe:
    return parse_config({"tasks": ["lab:calculation"], "recipe": {"name": name, **settings}}, RunConfig).recipe


@pytest.mark.parametrize("recipe", ["sdft", "sdpo"])
@pytest.mark.parametrize("arm", TEACHERS)
def test_every_teacher_is_a_setting(recipe: str, arm: str) -> None:
    settings, is_so = TEACHERS[arm]
    spec = _recipe(recipe, **settings).teacher()
    assert spec is not None
    assert is_so(spec)
    assert sum(known(spec) for _, known in TEACHERS.values()) == 1, "and no two arms are the same"


@pytest.mark.parametrize("recipe", ["sdft", "sdpo"])
@pytest.mark.parametrize("bare", [False, True])
def test_reasoning_in_the_demonstration_is_a_setting(recipe: str, bare: bool) -> None:
    made = _recipe(recipe, remove_thinking_from_demonstration=bare)
    assert ("two and two" in _shown(made)) == (not bare)
    assert "4" in _shown(made)
    assert _annotated(made, "<think>and so on</think>", length=5)[0].has_signal == (not bare)


@pytest.mark.parametrize("recipe", ["sdft", "sdpo"])
def test_random_tokens_can_be_masked(recipe: str) -> None:
    assert [_left_out(_recipe(recipe, token_mask_ratio=ratio)) for ratio in (0.0, 0.5, 0.8)] == [0.0, 0.5, 0.8]


def test_grpo_with_and_without_a_reference() -> None:
    plain, held = _recipe("grpo"), _recipe("grpo", beta=0.04)
    assert (plain.uses_base(), held.uses_base()) == (False, True)
    assert [recipe.objective().reference_kl for recipe in (plain, held)] == [0.0, 0.04]
    assert [_annotated(recipe)[0].base_kl for recipe in (plain, held)] == [0.0, 1.0]
    assert plain.teacher() is held.teacher() is None

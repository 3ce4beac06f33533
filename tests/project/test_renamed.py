"""`holdfast.renamed`: who uses an old name is given the new one, in one line."""

import importlib
from typing import Any

import pytest

from holdfast import renamed
from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig
from holdfast.errors import ConfigError


@pytest.mark.parametrize(("old", "new"), renamed.MODULES.items())
def test_a_module_that_moved_names_its_new_place(old: str, new: str) -> None:
    with pytest.raises(ModuleNotFoundError) as refused:
        importlib.import_module(f"holdfast.{old}")
    assert str(refused.value) == f"holdfast.{old} is called holdfast.{new} now"
    importlib.import_module(f"holdfast.{new}")


def test_what_never_was_a_module_is_refused_as_python_refuses_it() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'holdfast\.never'"):
        importlib.import_module("holdfast.never")


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"name": "sort", "normalise_weights": True}, "it is called 'normalize_weights' now"),
        ({"name": "sdpo", "support": "topk_renormalised"}, "it is called 'topk_renormalized' now"),
    ],
)
def test_an_old_key_or_value_is_refused_with_the_new_one(recipe: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config({"tasks": ["lab:facts"], "recipe": recipe}, RunConfig)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_saved_data_takes_the_new_names_and_nothing_else_changes() -> None:
    saved = {"recipe": {"name": "sort", "normalise_weights": True}, "tasks": [{"name": "normalise_weights"}]}
    assert renamed.with_new_names(saved) == {
        "recipe": {"name": "sort", "normalize_weights": True},
        "tasks": [{"name": "normalise_weights"}],
    }

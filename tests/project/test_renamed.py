"""`holdfast.renamed`: old names give the new one, and run directories of earlier versions are read with their names."""

import importlib
import importlib.util
import warnings
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

import holdfast
from commands import LAB_RUN, Commands
from holdfast.config.kept import recipe_with_new_names, with_new_names
from holdfast.config.load import load_kept_config, parse_config
from holdfast.config.overrides import apply_overrides
from holdfast.config.settings import CompareConfig, RunConfig
from holdfast.errors import ConfigError
from holdfast.recipes import RECIPES
from holdfast.recipes.anchored import Anchored
from holdfast.recipes.correct_only import CorrectOnly
from holdfast.recipes.npo import NPO
from holdfast.recipes.sdft import SDFT
from holdfast.recipes.sdpg import SDPG
from holdfast.recipes.sort import SORT
from holdfast.renamed import KEYS, MODULES, NAMES, VALUES

VERSION_1 = Path(__file__).parent.parent / "fixtures" / "version-1"

REMOVED = ("holdfast.report.vector", "holdfast.cli.HELP_NAMES")
"""Nothing replaces them."""

REBUILT = "holdfast.findings."
"""Experiments, and no interface: its modules were written anew."""

STREAM: dict[str, Any] = {"name": "holdfast", "tasks": [{"name": "holdfast", "lab": "facts"}], "suites": ["lab:songs"]}

OLD_SETTINGS: list[tuple[dict[str, Any], Any]] = [
    ({"name": "sdft", "teacher_kind": "gated", "gate_rate": 0.5}, SDFT(teacher_kind="gated", refresh_average_rate=0.5)),
    (
        {"name": "sdft", "teacher_kind": "gated", "gate_margin": 0.5},
        SDFT(teacher_kind="gated", refresh_length_margin=0.5),
    ),
    ({"name": "correct_only", "distil": "all"}, CorrectOnly(distill="all")),
    ({"name": "npo", "gate": 0.5}, NPO(max_success_fraction=0.5)),
    ({"name": "sdpg", "gate_positive": True}, SDPG(positive_advantages_only=True)),
    ({"name": "sort", "normalise_weights": True}, SORT(normalize_weights=True)),
    ({"name": "sdft", "support": "topk_renormalised"}, SDFT(support="topk_renormalized")),
]


def kept(folder: Path, kind: Any, data: dict[str, Any]) -> Any:
    """What is read from a run directory's config.yaml; any warning is an error."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_kept_config(path, kind)


@pytest.mark.parametrize("recipe", ["holdfast", {"name": "holdfast"}])
def test_the_recipe_holdfast_runs_anchored_with_a_warning(recipe: Any) -> None:
    with pytest.warns(UserWarning, match="^recipe 'holdfast' is called 'anchored' now$") as said:
        config = parse_config({**STREAM, "recipe": recipe}, RunConfig)
    assert len(said) == 1
    assert config.recipe == Anchored()
    assert (config.name, config.tasks[0].name) == ("holdfast", "holdfast")


def test_the_command_says_the_new_name_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = Commands(tmp_path, capsys)
    done = command("advise", command.config(LAB_RUN, recipe={"name": "holdfast", "mu": 0.1}))
    assert done.code == 0
    assert done.err == "holdfast: warning: recipe 'holdfast' is called 'anchored' now\n"
    assert "anchored with mu 0.1" in done.out


def test_a_comparison_takes_the_alias_too() -> None:
    data = {**STREAM, "recipes": ["holdfast", {"name": "holdfast", "label": "holdfast", "mu": 0.1}, "sft"]}
    with pytest.warns(UserWarning, match="'holdfast' is called 'anchored' now"):
        config = parse_config(data, CompareConfig)
    assert [arm.label for arm in config.recipes] == ["anchored", "holdfast", "sft"], "only a label of one's own stays"
    assert [arm.recipe for arm in config.recipes[:2]] == [Anchored(), Anchored(mu=0.1)]
    with pytest.warns(UserWarning, match="'anchored' now"):  # overrides name entries as the file does
        named = parse_config(apply_overrides(data, {"recipes.0.mu": 0.2}), CompareConfig)
    assert named.recipes[0].recipe == Anchored(mu=0.2)


def test_your_own_recipe_may_be_called_holdfast(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(SDFT):
        name: ClassVar[str] = "holdfast"

    monkeypatch.setitem(RECIPES, "holdfast", Own)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert type(parse_config({**STREAM, "recipe": "holdfast"}, RunConfig).recipe) is Own


@pytest.mark.parametrize("name", ["holdfast", "mine"])
def test_your_own_recipe_keeps_its_name_and_its_settings_in_a_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It may be called `holdfast`. Its settings may have names and values that recipes of version 0.1.0 had."""

    class Own(SDFT):
        gate: float = 0.0
        distil: str = "topk_renormalised"

    Own.name = name
    monkeypatch.setitem(RECIPES, name, Own)
    settings = {"name": name, "gate": 0.5, "distil": "topk_renormalised"}
    settings |= {"teacher_kind": "gated", "gate_rate": 0.25}  # fields of SDFT
    own = Own(gate=0.5, teacher_kind="gated", refresh_average_rate=0.25)
    assert kept(tmp_path, RunConfig, {**STREAM, "recipe": settings}).recipe == own
    assert type(kept(tmp_path, RunConfig, {**STREAM, "recipe": name}).recipe) is Own
    arms = [{"label": "a", "recipe": settings}, {**settings, "label": "b"}, name, "sft"]
    comparison = kept(tmp_path, CompareConfig, {**STREAM, "recipes": arms})
    assert [arm.recipe for arm in comparison.recipes[:3]] == [own, own, Own()]
    assert [arm.label for arm in comparison.recipes] == ["a", "b", name, "sft"]
    today = {key: value for key, value in settings.items() if key != "gate_rate"} | {"refresh_average_rate": 0.25}
    assert recipe_with_new_names(settings) == today, "summaries"
    new = parse_config({**STREAM, "recipes": [today]}, CompareConfig)
    assert [(arm.label, arm.recipe) for arm in new.recipes] == [(name, own)]


def test_settings_of_a_recipe_that_is_not_registered_stay() -> None:
    assert recipe_with_new_names({"name": "gone", "gate": 0.5}) == {"name": "gone", "gate": 0.5}


def test_a_run_directory_with_the_old_recipe_is_read_silently(tmp_path: Path) -> None:
    run = kept(tmp_path, RunConfig, {**STREAM, "recipe": {"name": "holdfast", "mu": 0.1}})
    assert run.recipe == Anchored(mu=0.1)
    assert (run.name, run.tasks[0].name) == ("holdfast", "holdfast"), "names that are no recipe's stay"
    arms = [{"label": "holdfast", "recipe": {"name": "holdfast", "mu": 0.1}}, {"label": "sft", "recipe": "sft"}]
    comparison = kept(tmp_path, CompareConfig, {**STREAM, "recipes": arms})
    assert [(arm.label, arm.recipe.name) for arm in comparison.recipes] == [("holdfast", "anchored"), ("sft", "sft")]
    short = kept(tmp_path, CompareConfig, {**STREAM, "recipes": ["holdfast", {"name": "holdfast", "label": "b"}]})
    assert [(arm.label, arm.recipe.name) for arm in short.recipes] == [("anchored", "anchored"), ("b", "anchored")]


def test_a_run_of_the_old_recipe_resumes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = {"name": "anchored", "replay_ratio": 0.0}
    holdfast.run({**LAB_RUN, "tasks": LAB_RUN["tasks"][:1], "recipe": small}, run)
    data = yaml.safe_load((run / "config.yaml").read_text())
    data["recipe"]["name"] = "holdfast"
    (run / "config.yaml").write_text(yaml.safe_dump(data))
    (run / "summary.json").unlink()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*is called.*")
        assert holdfast.resume(run)["recipe"]["name"] == "anchored"


@pytest.mark.parametrize(("settings", "recipe"), OLD_SETTINGS, ids=lambda each: str(each)[:60])
def test_old_settings_name_the_new_one_and_are_read_from_a_run_directory(
    tmp_path: Path, settings: dict[str, Any], recipe: Any
) -> None:
    with pytest.raises(ConfigError, match=r"it is called '.*' now") as refused:
        parse_config({**STREAM, "recipe": settings}, RunConfig)
    old = list(settings)[-1]
    new = KEYS.get(old) or VALUES[settings[old]]
    assert f"it is called {new!r} now" in str(refused.value)
    assert kept(tmp_path, RunConfig, {**STREAM, "recipe": settings}).recipe == recipe


def test_an_old_key_is_recognized_only_in_a_block_that_has_the_new_one() -> None:
    for data in ({**STREAM, "recipe": "sft", "gate": 0.5}, {**STREAM, "recipe": {"name": "sft", "gate": 0.5}}):
        with pytest.raises(ConfigError, match="gate: unknown key") as refused:
            parse_config(data, RunConfig)
        assert "max_success_fraction" not in str(refused.value)


def test_keys_that_are_not_holdfasts_stay(tmp_path: Path) -> None:
    free = {"model": {"path": "lab", "chat_template_kwargs": {"gate": "topk_renormalised"}}}
    assert with_new_names(free, RunConfig) == free
    settings = {"tasks": [{"name": "a", "gym": "g", "gym_settings": {"gate_rate": 1}}]}
    assert with_new_names(settings, RunConfig) == settings


@pytest.mark.parametrize(("old", "new"), [("guide", "near_future"), ("guidance", "hints"), ("read_where", "used_if")])
def test_a_recipe_class_with_an_old_attribute_is_refused(old: str, new: str) -> None:
    with pytest.raises(TypeError, match=f"recipe Own: {old} is called {new} now"):
        type("Own", (SDFT,), {old: lambda self: None, "__module__": __name__})


def import_error(name: str) -> str:
    """The error of the import; "" if it works."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        return str(error) if "holdfast" in str(error) else ""  # an extra that is not installed
    return ""


@pytest.mark.parametrize(
    "old", [name for name in (VERSION_1 / "modules.txt").read_text().split() if name != "holdfast.__main__"]
)  # importing __main__ runs the command
def test_a_module_of_version_0_1_0_is_there_or_gives_its_new_name(old: str) -> None:
    error = import_error(old)
    assert not error or "is called holdfast." in error or old in REMOVED or old.startswith(REBUILT), error


@pytest.mark.parametrize("old", (VERSION_1 / "names.txt").read_text().split())
def test_a_name_of_a_module_that_became_a_package_is_there_or_gives_its_new_name(old: str) -> None:
    package, _, name = old.rpartition(".")
    try:
        exec(f"from {package} import {name}", {})
    except ImportError as error:
        assert f"{old} is called holdfast." in str(error) or old in REMOVED, error  # noqa: PT017


@pytest.mark.parametrize(("old", "new"), sorted(NAMES.items()))
def test_a_moved_name_gives_the_new_one(old: str, new: str) -> None:
    module, _, name = old.rpartition(".")
    message = rf"^holdfast\.{module}\.{name} is called holdfast\.{new} now$"
    with pytest.raises(ImportError, match=message):
        exec(f"from holdfast.{module} import {name}", {})
    place, _, name = new.rpartition(".")
    assert hasattr(importlib.import_module(f"holdfast.{place}"), name)
    if hasattr(importlib.import_module(f"holdfast.{module}"), "__path__"):
        assert importlib.util.find_spec(f"holdfast.{old}") is None, "a submodule of this name could not be imported"


def test_a_name_that_never_was_is_refused_as_python_refuses_it() -> None:
    with pytest.raises(ImportError, match="cannot import name 'never'"):
        exec("from holdfast.store import never", {})
    assert not hasattr(importlib.import_module("holdfast.measure"), "never")


@pytest.mark.parametrize("old", sorted(MODULES))
def test_an_import_by_an_old_name_gives_the_new_one(old: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=rf"^holdfast\.{old} is called holdfast\.{MODULES[old]} now$"):
        __import__(f"holdfast.{old}")


@pytest.mark.parametrize("new", sorted(set(MODULES.values())))
def test_the_new_name_of_a_module_exists(new: str) -> None:
    assert importlib.util.find_spec(f"holdfast.{new}") is not None


def test_what_never_was_a_module_is_refused_as_python_refuses_it() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'holdfast\.never'"):
        importlib.import_module("holdfast.never")

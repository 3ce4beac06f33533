"""`docs/architecture.md` and the import-linter contracts in `pyproject.toml`: the page shows what holds."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "holdfast"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_layers_are_those_of_the_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {contract["id"]: contract for contract in project["tool"]["importlinter"]["contracts"]}
    picture = re.search(r"<!-- layers -->\n```text\n(.*?)^```$", PAGE, re.M | re.S)
    assert picture is not None
    # Two spaces or more separate a layer from what it does.
    shown = [re.split(r" {2,}", line)[0] for line in picture[1].splitlines()]
    assert shown == contracts["layers"]["layers"]


def named_folders() -> list[str]:
    """The first column of the folder table."""
    return re.findall(r"^\| `([\w/]+)/` \|", PAGE, re.M)


def test_every_folder_of_the_package_is_named_and_exists() -> None:
    folders = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")} - {"."}
    named = named_folders()
    assert len(named) == len(set(named))
    assert set(named) == folders


def test_every_module_outside_folders_is_named() -> None:
    outside_folders = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert len(outside_folders) <= 4
    assert {name for name in outside_folders if f"`{name}`" not in PAGE} == set()


def test_every_file_that_the_page_points_to_exists() -> None:
    paths = set(re.findall(r"\b((?:\w+/)+\w+\.py)\b", PAGE))
    assert paths
    assert {path for path in paths if not (PACKAGE / path).is_file()} == set()


def test_every_file_that_the_page_names_without_its_folder_exists() -> None:
    names = set(re.findall(r"(?<![\w/])\w+\.py\b", PAGE))
    assert "kv_choice.py" in names
    assert names - {path.name for path in PACKAGE.rglob("*.py")} == set()


def test_only_recipes_call_what_a_recipe_says_of_its_rows_without_replay() -> None:
    """Everything else asks `rollout_spec`, which adds the replay that the settings ask for."""
    asking = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if ".rollouts()" in path.read_text("utf-8")}
    assert {path.as_posix() for path in asking if path.parts[0] != "recipes"} == set()
    assert Path("recipes/base/recipe.py") in asking

"""`holdfast`: tests mirror its folders, a class name is used once, and no folder hides what users call."""

import ast
import re
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import pytest

import holdfast

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "holdfast"
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py"))
APART = {"project", "helpers", "fixtures", "benchmarks"}
"""Folders of tests/ that mirror none of the package: the project as a whole, what tests share, and benchmarks/."""


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_a_test_file_names_what_it_is_about_and_is_in_its_folder(path: Path) -> None:
    about = re.match(r"`([\w./]+)`", ast.get_docstring(ast.parse((ROOT / path).read_text())) or "")
    assert about is not None, "the docstring begins with a module, or a file of the project, in backticks"
    folder = path.parts[1]
    if folder in APART:
        assert (ROOT / about[1]).exists() or find_spec(about[1]) is not None
        return
    assert find_spec(about[1]) is not None
    assert (PACKAGE / Path(*path.parts[1:-1])).is_dir()
    folders = ["holdfast", *path.parts[1:-1]]
    assert about[1].split(".")[: len(folders)] == folders


def test_few_modules_stand_beside_the_folders() -> None:
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert modules == {"api.py", "errors.py", "renamed.py", "stop.py"}


def test_what_users_call_is_hidden_by_no_folder() -> None:
    # `import holdfast.x.y` sets the attribute x of the package, whatever `holdfast.x` was before.
    assert [name for name in holdfast.__all__ if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()] == []


def _capitalized(node: ast.stmt) -> list[str]:
    """The public classes and aliases that a statement of a module defines, without CONSTANTS and type variables."""
    targets: list[ast.expr] = []
    match node:
        case ast.ClassDef(name=name):
            return [] if name.startswith("_") else [name]
        case ast.Assign():
            targets = node.targets
        case ast.AnnAssign():
            targets = [node.target]
    names = [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
    return [name for name in names if name[0].isupper() and not name.isupper()]


def test_a_home_folder_that_nobody_has_ends_no_command() -> None:
    """`Path.expanduser` and `Path.home` raise RuntimeError where `os.path.expanduser` leaves the path as it is."""
    calls = re.compile(r"\)\.expanduser\(|\bPath\.home\(")
    assert [path.name for path in PACKAGE.rglob("*.py") if calls.search(path.read_text("utf-8"))] == []


def test_a_class_name_is_used_once() -> None:
    places = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            for name in _capitalized(node):
                places[name].append(str(path.relative_to(PACKAGE)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}

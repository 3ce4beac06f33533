"""`holdfast`: its rooms. Tests mirror them, names are used once, and what users call is not hidden by a folder."""

import ast
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
def test_a_test_file_names_the_module_that_it_is_about_and_stands_in_its_folder(path: Path) -> None:
    begins = (ast.get_docstring(ast.parse((ROOT / path).read_text())) or "").partition(":")[0]
    module = begins.strip("`")
    assert begins == f"`{module}`", "the docstring begins with the module, in backticks, and a colon"
    assert find_spec(module) is not None
    folder = path.parts[1:-1]
    if folder[0] not in APART:
        assert (PACKAGE / Path(*folder)).is_dir()
        assert module.split(".")[1 : 1 + len(folder)] == list(folder)


def test_few_modules_stand_beside_the_folders() -> None:
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert modules == {"api.py", "errors.py", "renamed.py", "stop.py"}


def test_what_users_call_is_hidden_by_no_folder() -> None:
    # `import holdfast.x.y` sets the attribute x of the package, whatever `holdfast.x` was before.
    assert [name for name in holdfast.__all__ if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()] == []


def test_a_class_name_is_used_once() -> None:
    found = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(PACKAGE)))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}

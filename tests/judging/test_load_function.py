"""`holdfast.judging.load_function`: functions of users are found by name, and functions of libraries are not."""

import functools
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import ConfigError
from holdfast.judging.load_function import load_function

GADGETS = (
    "pydoc:pipepager",
    "pydoc:tempfilepager",
    "os:system",
    "os:popen",
    "os:unlink",
    "os:replace",
    "subprocess:run",
    "subprocess:Popen",
    "subprocess:getoutput",
    "builtins:eval",
    "builtins:exec",
    "builtins:open",
    "runpy:run_path",
    "runpy:run_module",
    "importlib:import_module",
    "code:interact",
    "timeit:timeit",
    "shutil:copytree",
    "shutil:rmtree",
    "pickle:loads",
    "webbrowser:open",
    "torch:load",
    "torch:save",
    "numpy:load",
    "functools:partial",
    "operator:methodcaller",
)


@pytest.mark.parametrize("name", GADGETS)
def test_a_function_of_a_library_is_no_verifier(name: str) -> None:
    with pytest.raises(ConfigError, match="first parameter"):
        load_function(name, "verifier", "(example, completion)")


class Judge:
    def __call__(self, example: Any, completion: str) -> float:
        return 1.0

    @staticmethod
    def static(example: Any, completion: str) -> float:
        return 1.0


class Room:
    def __init__(self, example: Any) -> None:
        pass


def logged(function: Any) -> Any:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapped


@logged
def decorated(example: Any, completion: str) -> float:
    return 1.0


def unused(_example: Any, completion: str) -> float:
    return 1.0


judge = Judge()


@pytest.mark.parametrize("path", ["judge", "Judge.static", "Room", "decorated", "unused"])
def test_functions_methods_and_classes_of_a_users_module_are_found(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    assert callable(load_function(f"test_load_function:{path}", "verifier", "(example, completion)"))

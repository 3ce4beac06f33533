"""Verifiers: exact match for records with an `answer`, and a user's own function by name."""

import importlib
import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from holdfast.data.example import Example, Verdict
from holdfast.data.task import Verify
from holdfast.data.teacher_prompts import strip_thinking
from holdfast.errors import ConfigError, DataError, did_you_mean


def exact_match(example: Example, completion: str) -> Verdict:
    """Reward 1 where the completion, thinking left out, is the answer but for spacing and Unicode composition.

    A list of answers accepts each of them; numbers and booleans are compared as JSON writes them. Case counts: a
    task where it does not needs a verifier of its own. Feedback never depends on the answer.
    """
    answer = _normalized(strip_thinking(completion))
    if answer in accepted_answers(example.answer):
        return Verdict(1.0, answer=answer)
    if not answer:
        return Verdict(0.0, "There is no answer.", format_ok=False)
    return Verdict(0.0, "This answer is wrong.", answer=answer)


def accepted_answers(answer: Any) -> frozenset[str]:
    """What exact match accepts for an example's `answer`.

    Raises:
        DataError: the answer is absent, or of a kind that no completion can equal.
    """
    answers = answer if isinstance(answer, list) else [answer]
    if not answers or not all(isinstance(a, str | int | float) for a in answers):
        raise DataError(
            "its `answer` is not text, a number, or a list of them",
            fix="name a verifier that reads it: `verifier: module:function`",
        )
    return frozenset(_normalized(a if isinstance(a, str) else json.dumps(a)) for a in answers)


def load_verifier(name: str) -> Verify:
    """The verifier named `module:function`; errors as for `load_function`."""
    verify: Verify = load_function(name, f"verifier {name!r}", "(example, completion)")
    return verify


def load_function(name: str, where: str, arguments: str) -> Any:
    """What is named `module:function`; the working directory is on the import path while it is imported.

    Args:
        where: what names it, for messages; `arguments`: what it is called with, likewise.

    Raises:
        ConfigError: the name has another form, the module cannot be imported, or it has no such function.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise ConfigError("is not of the form module:function", where=where, fix="for example my_task:verify")
    found: Any = _import(module_name, where)
    for part in path.split("."):
        if not hasattr(found, part):
            known = [n for n, v in vars(found).items() if callable(v) and not n.startswith("_")]
            raise ConfigError(f"{module_name!r} has no {path!r}", where=where, fix=did_you_mean(part, known))
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(
            f"is {type(found).__name__}, not a function", where=where, fix=f"name a function of {arguments}"
        )
    return found


def _import(name: str, where: str) -> ModuleType:
    try:
        with _working_directory_on_path():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"importing it needs {error.name!r}", where=where, fix="install that module") from error
        raise ConfigError(
            f"no module {error.name!r}", where=where, fix=f"put it into {os.getcwd()} or on PYTHONPATH"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"importing it raised {type(error).__name__}: {error}".splitlines()[0], where=where, fix="mend the module"
        ) from error


@contextmanager
def _working_directory_on_path() -> Iterator[None]:
    here = os.getcwd()
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _normalized(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())

"""Verifiers: exact match for records with an `answer`, and user functions by name."""

import importlib
import json
import math
import os
import re
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
from holdfast.tasks.readers.record import kind

_ENDS = re.compile(r"^[^\w$€£+-]+|[^\w%°+#]+$")
"""Marks around an answer that are no part of it."""

_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana and Han."""

_LETTER = rf"[^\W{_UNSPACED}]"
"""A letter or digit that a word could go on with."""


def exact_match(example: Example, completion: str) -> Verdict:
    """Reward 1 if the completion is the answer, else 0.

    Thinking, differences in spacing and Unicode composition do not count. Case does; a task in which it should not
    needs its own verifier. If the answer is a list, each of its items is accepted. Numbers and booleans are compared as
    JSON writes them; 42 is also right if the answer is 42.0, as tables with empty cells have it. Feedback never depends
    on the answer.
    """
    answer = _normalized(strip_thinking(completion))
    if answer in accepted_answers(example.answer):
        return Verdict(1.0, answer=answer)
    if not answer:
        return Verdict(0.0, "There is no answer.", format_ok=False)
    return Verdict(0.0, "This answer is wrong.", answer=answer)


def contains_answer(example: Example, completion: str) -> Verdict:
    """Reward 1 if the completion says the answer somewhere, else 0: whether other words have the same content.

    The answer is one of the example's `answer`s if these are text or numbers, otherwise its whole demonstration without
    thoughts. It must stand there as words: "4" is not in "14", "-4", "4.5" or "3/4". In scripts without spaces it may
    stand anywhere. Case, spacing and the marks at its ends do not count.
    """
    text = _normalized(strip_thinking(completion)).casefold()
    try:
        wanted = accepted_answers(example.answer)
    except DataError:
        wanted = frozenset({_normalized(strip_thinking(example.demonstration or ""))})
    for each in wanted:
        words = _ENDS.sub("", each.casefold()) or each.casefold()
        if words and re.search(_not_within(words[0], words[-1]).format(re.escape(words)), text):
            return Verdict(1.0, answer=each)
    return Verdict(0.0, "The answer is not in this text.")


def _not_within(first: str, last: str) -> str:
    """A pattern of words that are no part of a longer word or number, with a place for them.

    Args:
        first, last: the characters at their ends.
    """
    before = after = ""
    if first.isdigit():
        before = rf"(?<!{_LETTER})(?<![.,–−-])(?<!\d[/:])"
    elif first in "+-–−":
        before = rf"(?<!{_LETTER})"  # the sign of a number, not a minus between two
    elif first.isalnum() and re.match(_LETTER, first):
        before = rf"(?<!{_LETTER})"
    if last.isalnum() and re.match(_LETTER, last):
        after = rf"(?!{_LETTER}|[.,/:]\d|[+#])"
    return f"{before}{{}}{after}"


def accepted_answers(answer: Any) -> frozenset[str]:
    """The texts that exact match accepts for an example's `answer`.

    Raises:
        DataError: the answer is missing, or of a type that no completion can equal.
    """
    answers = answer if isinstance(answer, list) and answer else [answer]
    for each in answers:
        if not isinstance(each, str | int | float) or (isinstance(each, float) and not math.isfinite(each)):
            found = each if isinstance(each, float) else kind(each)
            raise DataError(
                f"its `answer` is not text, a number, or a list of them, but {found}",
                fix="name a verifier that can read it: `verifier: module:function`",
            )
    accepted = frozenset(_normalized(written) for each in answers for written in _written(each))
    if "" in accepted:
        raise DataError("its `answer` is empty, so only an empty completion would be right", fix="fill it in")
    return accepted


def _written(answer: str | int | float) -> Iterator[str]:
    """How an answer may be written."""
    yield answer if isinstance(answer, str) else json.dumps(answer)
    if isinstance(answer, float) and answer.is_integer():
        yield str(int(answer))


def load_verifier(name: str) -> Verify:
    """The verifier named `module:function`. See `load_function` for its errors."""
    verify: Verify = load_function(name, f"verifier {name!r}", "(example, completion)")
    return verify


def load_function(name: str, where: str, arguments: str) -> Any:
    """The function named `module:function`. The working directory is on the import path during the import.

    Args:
        name: the module's name, a colon, and the function's name. The latter may have dots.
        where: names the setting in error messages.
        arguments: the function's arguments, for error messages.

    Raises:
        ConfigError: the name has another form, the module cannot be imported, or it has no such function.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise ConfigError("is not of the form module:function", where=where, fix="write e.g. my_task:verify")
    result: Any = _import(module_name, where)
    for part in path.split("."):
        if not hasattr(result, part):
            known = [n for n, v in vars(result).items() if callable(v) and not n.startswith("_")]
            raise ConfigError(f"{module_name!r} has no {path!r}", where=where, fix=did_you_mean(part, known))
        result = getattr(result, part)
    if not callable(result):
        raise ConfigError(
            f"is {type(result).__name__}, not a function", where=where, fix=f"name a function of {arguments}"
        )
    return result


def _import(name: str, where: str) -> ModuleType:
    try:
        with _working_directory_on_path():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that the user's module imports is missing, not the user's module itself.
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"importing it needs {error.name!r}", where=where, fix="install that module") from error
        raise ConfigError(
            f"no module {error.name!r}", where=where, fix=f"put it into {os.getcwd()} or on PYTHONPATH"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"importing it raised {type(error).__name__}: {error}".splitlines()[0],
            where=where,
            fix="correct the module",
        ) from error


@contextmanager
def _working_directory_on_path() -> Iterator[None]:
    here = os.getcwd()
    sys.path.insert(0, here)
    importlib.invalidate_caches()  # the module may have been written after the folder was last listed
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _normalized(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())

"""Records with tests of programs, as examples: in MBPP's and LiveCodeBench's columns, or with `prompt` and `test_list`.

The columns:

- `prompt`, `text`, `description` or `question_content`: what is asked, as text or as turns.
- `test_list`: assertions, as a list. The prompt shows them, because they name the function.
- `challenge_test_list`, `hidden_test_list`: more of them, which are hidden.
- `test_setup_code`, or `test_imports` as a list: code before each of them.
- `public_test_cases` and `private_test_cases`: lists of `input`, `output` and `testtype` (`stdin` or `functional`), as
  JSON or as JSON text; the private ones are hidden, and may be packed as LiveCodeBench packs them.
- `starter_code`, and `metadata` with `func_name`: of functional tests.
- `code`, `completion` or `canonical_solution`: a program that is right. It is the demonstration.
- `id`, `task_id` or `question_id`.
"""

import base64
import io
import pickle
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from holdfast.data.example import Example
from holdfast.errors import DataError, shown
from holdfast.tasks.code.answer import fenced
from holdfast.tasks.code.tests import ProgramTest, ProgramTestKind, ProgramTests
from holdfast.tasks.files import BadRecords, FaultyRecord, Record, published_examples
from holdfast.tasks.readers.json_text import parse_json

PROMPTS = ("prompt", "text", "description", "question_content")
SOLUTIONS = ("code", "completion", "canonical_solution")
IDS = ("id", "task_id", "question_id")
VISIBLE, HIDDEN = "test_list", ("challenge_test_list", "hidden_test_list")
PUBLIC, PRIVATE = "public_test_cases", "private_test_cases"

_KINDS: Mapping[str, ProgramTestKind] = {"stdin": "stdio", "functional": "call"}
"""By LiveCodeBench's names. Where nothing is said, it is the first."""

MOST_UNPACKED = 512 * 2**20
"""Bytes of packed tests that are read. A few bytes can stand for any number of them."""

ANSWER_WITH = "Answer with the whole program in a block that begins with ```python."
SHOW_TESTS = "The program must pass these tests:\n\n{tests}"
STANDARD_INPUT = "The program reads from standard input and writes to standard output."
COMPLETE = "Complete this code:\n\n{code}"


def program_examples(
    found: Sequence[Record | FaultyRecord],
    where: str,
    bad_records: BadRecords = "refuse",
    public_tests: int | None = None,
) -> list[Example]:
    """Records as examples. Their answers are tests, as `ProgramTests.as_json` writes them.

    Args:
        found: as read.
        where: as for `records_to_examples`.
        bad_records: as in `Reading`.
        public_tests: only the first tests of each record that many are shown in prompt and feedback; by default all
            that are not hidden.

    Raises:
        DataError: a record is malformed or has no tests.
    """
    return published_examples(found, lambda record: _adapted(record, public_tests), where, bad_records)


def _adapted(record: Record, public_tests: int | None) -> Record:
    values, where = record.values, record.where
    tests = _tests(record, public_tests)
    asked = _first(values, PROMPTS)
    if asked is None:
        raise DataError("it asks for nothing", where=where, fix=f"fill in one of: {', '.join(PROMPTS)}")
    adapted: dict[str, Any] = {"answer": tests.as_json()}
    starter = values.get("starter_code")
    adapted["prompt"] = _prompt(asked, tests, starter if isinstance(starter, str) else "")
    solution = _first(values, SOLUTIONS)
    if isinstance(solution, str) and solution.strip():
        adapted["completion"] = solution if "```" in solution else fenced(solution)
    if (name := _first(values, IDS)) is not None:
        adapted["id"] = name
    if values.get("system"):
        adapted["system"] = values["system"]
    return replace(record, values=adapted)


def _prompt(asked: Any, tests: ProgramTests, starter: str) -> Any:
    """The question, with what the program has to be called or to read. Turns stay as they are."""
    if not isinstance(asked, str):
        return asked
    parts = [asked.strip()]
    shown = [test.code.strip() for test in tests.tests if test.kind == "assert" and not test.is_hidden]
    if shown and not all(each in asked for each in shown):
        code = "\n".join(shown)
        parts.append(SHOW_TESTS.format(tests=f"```python\n{code}\n```"))
    if starter.strip():
        parts.append(COMPLETE.format(code=f"```python\n{starter.rstrip()}\n```"))
    elif any(test.kind == "stdio" for test in tests.tests):
        parts.append(STANDARD_INPUT)
    return "\n\n".join([*parts, ANSWER_WITH])


def _tests(record: Record, public_tests: int | None) -> ProgramTests:
    values, where = record.values, record.where
    visible = [ProgramTest("assert", each) for each in _texts(values.get(VISIBLE), VISIBLE, where)]
    hidden = [
        ProgramTest("assert", each, is_hidden=True) for name in HIDDEN for each in _texts(values.get(name), name, where)
    ]
    visible += [_case(each, False, where) for each in _cases(values.get(PUBLIC), PUBLIC, where)]
    hidden += [_case(each, True, where) for each in _cases(values.get(PRIVATE), PRIVATE, where)]
    if not visible and not hidden:
        known = ", ".join((VISIBLE, *HIDDEN, PUBLIC, PRIVATE))
        raise DataError("it has no tests", where=where, fix=f"fill in one of: {known}")
    if public_tests is not None:
        hidden = [replace(each, is_hidden=True) for each in visible[public_tests:]] + hidden
        visible = visible[:public_tests]
    setup = values.get("test_setup_code") or "\n".join(_texts(values.get("test_imports"), "test_imports", where))
    if not isinstance(setup, str):
        raise DataError("`test_setup_code` is not text", where=where, fix="write Python code")
    tests = (*visible, *hidden)
    function = _function(values, where) if any(test.kind == "call" for test in tests) else ""
    contest = any(test.kind != "assert" for test in tests)
    _check(tests, setup, where)
    return ProgramTests(tests, setup, function, contest)


def _check(tests: Sequence[ProgramTest], setup: str, where: str) -> None:
    """Refuse tests that cannot be run, before anything is trained on them."""
    for test in tests:
        try:
            if test.kind == "assert":
                compile(f"{setup}\n{test.code}", "test", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            what = f"a test cannot be run: {type(error).__name__}: {error}".splitlines()[0]
            raise DataError(what, where=where, fix="correct the test, or drop such records") from None
        for line in (*test.input.splitlines(), test.output) if test.kind == "call" else ():
            if line.strip():
                parse_json(line, f"{where}, a functional test")


def _function(values: Mapping[str, Any], where: str) -> str:
    """The function of functional tests: LiveCodeBench names it in the metadata."""
    metadata = _json(values.get("metadata"), "metadata", where)
    name = metadata.get("func_name") if isinstance(metadata, Mapping) else None
    name = name if name is not None else values.get("func_name", values.get("entry_point"))
    if not isinstance(name, str) or not name.isidentifier():
        fix = 'write it as `func_name` in `metadata`, such as {"func_name": "add"}'
        raise DataError("its functional tests name no function", where=where, fix=fix)
    return name


def _case(found: Any, is_hidden: bool, where: str) -> ProgramTest:
    given = found if isinstance(found, Mapping) else {}
    texts = [given.get("input"), given.get("output")]
    if not all(isinstance(text, str) for text in texts):
        raise DataError("a test case has no `input` and `output`", where=where, fix="write both as text")
    kind = _KINDS.get(given.get("testtype") or "stdin") if isinstance(given.get("testtype"), str | None) else None
    if kind is None:
        what = f"a test case has the `testtype` {shown(given['testtype'])}"
        raise DataError(what, where=where, fix=f"write one of: {', '.join(_KINDS)}")
    return ProgramTest(kind, input=str(texts[0]), output=str(texts[1]), is_hidden=is_hidden)


def _cases(value: Any, name: str, where: str) -> list[Any]:
    found = _json(value, name, where)
    if found is None:
        return []
    if not isinstance(found, list):
        raise DataError(f"`{name}` is not a list of test cases", where=where, fix="write a list, or a list as JSON")
    return found


def _texts(value: Any, name: str, where: str) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise DataError(f"`{name}` is not a list of text", where=where, fix="write a list of lines of Python code")
    return [each for each in value if each.strip()]


def _json(value: Any, name: str, where: str) -> Any:
    """A value, or what JSON text or packed JSON text stands for."""
    if not isinstance(value, str) or not value.strip():
        return None if isinstance(value, str) else value
    text = value.strip()
    if not text.startswith(("[", "{")) and text != "null":
        try:
            text = _unpacked(value)
        except Exception:  # whatever is wrong with it, it is no list of tests
            raise DataError(f"`{name}` is neither JSON nor packed JSON", where=where, fix="write it as JSON") from None
    return parse_json(text, f"{where}, `{name}`")


class _TextOnly(pickle.Unpickler):
    """Reads a pickle of text. A pickle may name any function to be called; here it can name none."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError("it is more than text")


def _unpacked(text: str) -> str:
    """LiveCodeBench packs JSON text by pickle, zlib and base64."""
    packed = zlib.decompressobj()
    data = packed.decompress(base64.b64decode(text, validate=True), MOST_UNPACKED)
    found = _TextOnly(io.BytesIO(data)).load()
    if not isinstance(found, str | bytes):
        raise pickle.UnpicklingError("it is no text")
    return found if isinstance(found, str) else found.decode()


def _first(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((values[name] for name in names if values.get(name) not in (None, "")), None)

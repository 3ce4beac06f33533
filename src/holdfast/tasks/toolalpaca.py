"""ToolAlpaca tool use (arXiv 2306.05301), in the format of SDFT and SDPO (arXiv 2601.19897, 2601.20802).

A record has a `prompt` and an `answer`. The prompt documents the tools and asks for `Action:` and `Action Input:`
lines. The answer is JSON text: a list of {"Action": name, "Action_Input": JSON text of the arguments}.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.data.example import Example, Verdict
from holdfast.data.task import built_in
from holdfast.data.teacher_prompts import last_user_message, strip_thinking
from holdfast.errors import DataError
from holdfast.tasks.files import (
    DEMONSTRATION_COLUMNS,
    BadRecords,
    FaultyRecord,
    Record,
    demonstration_text,
    published_examples,
)

OPTIONAL = "[Optional]"
"""Prefix of an expected action that a completion may leave out. It is not part of the tool's name."""

MAX_PROBLEMS = 4
"""Most sentences of feedback about format. A completion that repeats a mistake must not fill the teacher's prompt."""

_ACTION = re.compile(r"Action:[ \t]*(?:\[Optional\])?[ \t]*([\w.\-]*)")

_INPUT = re.compile(r"Action Input:\s*")

_DOCUMENTED = re.compile(r"^([\w.\-]+):.*\nParameters:", re.MULTILINE)

_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool. `arguments` is None if a completion has no arguments that can be read."""

    name: str
    arguments: Mapping[str, Any] | None
    optional: bool = False


def toolalpaca_examples(
    found: Sequence[Record | FaultyRecord], where: str, bad_records: BadRecords = "refuse"
) -> list[Example]:
    """Records of ToolAlpaca as examples.

    The demonstration is the record's `golden_response` (a list of lines), `output_text` or `completion`. If there is
    none, it is made from the answer: `Action:` and `Action Input:` lines without thoughts.

    Raises:
        DataError: a record is malformed, or its answer is not a list of actions with arguments that can be read.
    """
    return published_examples(found, _adapted, where, bad_records)


@built_in
def verify_toolalpaca(example: Example, completion: str) -> Verdict:
    """Reward 1 if the called tools are the expected ones, as a multiset, and the merged arguments are equal; else 0.

    As in the papers' reward, the arguments of all calls are merged in the order of the calls, and later ones win. A
    call without a JSON object of arguments that can be read is wrong.

    There are two differences from the papers. In both cases their pattern cannot match a right answer: nested JSON is
    read whole, and an action marked `[Optional]` may be left out.

    Feedback consists of constants and of names in the completion, never of the expected answer. The papers' own
    feedback prints the expected actions, which would show them to the teacher.
    """
    calls, problems = read_calls(strip_thinking(completion))
    answer = json.dumps([{"Action": c.name, "Action_Input": c.arguments} for c in calls]) if calls else None
    expected = expected_calls(example.answer)
    format_ok = not problems
    problems += [f"{name[:64]!r} is not among the tools." for name in _unknown_tools(calls, expected, example)]
    if problems:
        return Verdict(0.0, " ".join(list(dict.fromkeys(problems))[:MAX_PROBLEMS]), answer, format_ok)
    problem = _mismatch(calls, expected)
    required = [call for call in expected if not call.optional]
    if problem and len(required) < len(expected) and not _mismatch(calls, required):
        problem = ""
    return Verdict(0.0 if problem else 1.0, problem, answer)


def expected_calls(answer: Any) -> list[Call]:
    """The calls that an answer expects.

    Raises:
        DataError: the answer is not JSON text or a list of {"Action", "Action_Input"}.
    """
    items = _loads(answer) if isinstance(answer, str) else answer
    calls = [_expected_call(item) for item in items] if isinstance(items, list) else []
    valid = [call for call in calls if call is not None]
    if not valid or len(valid) < len(calls):
        raise DataError(
            "`answer` is not a list of actions",
            fix='write [{"Action": "toolName", "Action_Input": "{…}"}], with a JSON object as the input',
        )
    return valid


def read_calls(text: str) -> tuple[list[Call], list[str]]:
    """A completion's calls, in order, and sentences about what is wrong with their format."""
    calls: list[Call] = []
    problems: list[str] = []
    action = _ACTION.search(text)
    while action is not None:
        name, end = action.group(1), action.end()
        following = _ACTION.search(text, end)
        input_line = _INPUT.search(text, end, following.start() if following else len(text))
        arguments = None
        if not name:
            problems.append("An 'Action:' line names no tool.")
        elif input_line is None:
            problems.append(f"The action {name[:64]!r} has no 'Action Input:' line.")
        else:
            arguments, end = _arguments(text, input_line.end())
            if arguments is None:
                problems.append(f"The input of the action {name[:64]!r} cannot be read as a JSON object.")
        if name:
            calls.append(Call(name, arguments))
        # The search continues after the arguments, because a text in them may contain "Action:".
        action = _ACTION.search(text, end)
    if not calls and not problems:
        problems.append("There is no 'Action:' line.")
    return calls, problems


def _unknown_tools(calls: Sequence[Call], expected: Sequence[Call], example: Example) -> list[str]:
    """Called names that the prompt does not document; none if it documents no tools in the expected format."""
    documented = set(_DOCUMENTED.findall(last_user_message(example.messages)))
    if not documented:
        return []
    return sorted({call.name for call in calls} - documented - {call.name for call in expected})


def _mismatch(calls: Sequence[Call], expected: Sequence[Call]) -> str:
    if len(calls) != len(expected):
        return "The number of actions is wrong."
    if Counter(call.name for call in calls) != Counter(call.name for call in expected):
        return "The chosen tools are wrong."
    return "" if _merged(calls) == _merged(expected) else "The tools are right, but the inputs are wrong."


def _merged(calls: Sequence[Call]) -> dict[str, Any]:
    return {name: value for call in calls for name, value in (call.arguments or {}).items()}


def _arguments(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start
    return (value, end) if isinstance(value, dict) else (None, start)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _expected_call(item: Any) -> Call | None:
    if not isinstance(item, Mapping) or not isinstance(item.get("Action"), str):
        return None
    given = item.get("Action_Input")
    arguments = _loads(given) if isinstance(given, str) else given
    if not isinstance(arguments, dict):
        return None
    name = item["Action"].strip()
    return Call(name.removeprefix(OPTIONAL).strip(), arguments, optional=name.startswith(OPTIONAL))


def _demonstration(calls: Sequence[Call]) -> str:
    lines = (f"Action: {c.name}\nAction Input: {json.dumps(c.arguments, ensure_ascii=False)}" for c in calls)
    return "\n".join(lines)


def _adapted(record: Record) -> Record:
    try:
        calls = expected_calls(record.values.get("answer"))
    except DataError as error:
        raise DataError(error.what, where=record.where, fix=error.fix) from None
    demonstration = demonstration_text(record)
    if demonstration is None:
        demonstration = _demonstration(calls)
    values = {k: v for k, v in record.values.items() if k not in DEMONSTRATION_COLUMNS}
    if values.get("system") == "None":  # the published file has this word for a missing system message
        del values["system"]
    return replace(record, values={**values, "completion": demonstration})

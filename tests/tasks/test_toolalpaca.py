"""`holdfast.tasks.toolalpaca`: its records as examples, and its verifier, whose feedback never shows the answer."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.example import Example
from holdfast.errors import DataError
from holdfast.tasks.files import Record, read_records
from holdfast.tasks.toolalpaca import expected_calls, toolalpaca_examples, verify_toolalpaca

PROMPT = "Tools:\nfind: Find it.\nParameters: {}\nsave: Save it.\nParameters: {}\nQuestion: Do it."
ANSWER = [{"Action": "find", "Action_Input": '{"key": {"deep": "x"}}'}, {"Action": "save", "Action_Input": '{"n": 7}'}]
FIND, SAVE = 'Action: find\nAction Input: {"key": {"deep": "x"}}', 'Action: save\nAction Input: {"n": 7}'


def read(answer: Any = ANSWER, **values) -> Example:
    record = {"prompt": PROMPT, "answer": answer if isinstance(answer, str) else json.dumps(answer), **values}
    return toolalpaca_examples([Record(record, 1, "d.json:1")], "d.json")[0]


def test_reads_a_record():
    e = read(system="None", idx=4, elo="1500")
    assert [m["role"] for m in e.messages] == ["user"]
    assert e.demonstration == f"{FIND}\n{SAVE}"
    assert dict(e.metadata) == {"idx": 4}
    assert read(golden_response=["Thought: t", FIND]).demonstration == f"Thought: t\n{FIND}"
    assert read(system="s").messages[0]["role"] == "system"
    for answer in ("", "[]", "{}", "3", '[{"Action": "find"}]', '[{"Action": "f", "Action_Input": "x"}]', '["find"]'):
        with pytest.raises(DataError, match=r"^d.json:1: `answer` is not a list of actions"):
            read(answer)


@pytest.mark.parametrize(
    ("completion", "reward", "format_ok", "feedback"),
    [
        (f"{FIND}\n{SAVE}", 1, True, "^$"),
        (f"{SAVE}\nThought: next\n{FIND}\nThought: done", 1, True, "^$"),
        (f"<think>Action: other</think>\n{FIND}\n{SAVE}", 1, True, "^$"),
        (FIND, 0, True, "number of actions"),
        (f"{FIND}\n{FIND}", 0, True, "chosen tools are wrong"),
        (f"{FIND}\n{SAVE}".replace("7", "8"), 0, True, "inputs are wrong"),
        (f"{FIND}\n{SAVE}\nAction: drop\nAction Input: {{}}", 0, True, "'drop' is not among the tools"),
        (f"{FIND}\nAction: save", 0, False, "'save' has no 'Action Input:'"),
        (f"Action: find\n{SAVE}", 0, False, "'find' has no 'Action Input:'"),
        (f"{FIND}\nAction: save\nAction Input: n=7", 0, False, "'save' cannot be read"),
        (f"{FIND}\nAction: save\nAction Input: [7]", 0, False, "'save' cannot be read"),
        (f"{FIND}\nAction: save\nAction Input: " + '{"n":' * 50_000, 0, False, "'save' cannot be read"),
        ("Action:\nAction Input: {}", 0, False, "names no tool"),
        ("I cannot.", 0, False, "no 'Action:' line"),
        ("", 0, False, "no 'Action:' line"),
    ],
)
def test_verifier(completion: str, reward: int, format_ok: bool, feedback: str):
    verdict = verify_toolalpaca(read(), completion)
    assert (verdict.reward, verdict.format_ok) == (reward, format_ok)
    assert re.search(feedback, verdict.feedback)


def test_an_argument_may_contain_the_words_of_the_format():
    e = read([{"Action": "find", "Action_Input": {"text": "Action: save\nAction Input: {}"}}])
    assert verify_toolalpaca(e, e.demonstration).reward == 1.0


def test_an_optional_action_may_be_left_out():
    e = read([ANSWER[0], {**ANSWER[1], "Action": "[Optional]save"}])
    assert e.demonstration == f"{FIND}\n{SAVE}"
    for completion, reward in (
        (f"{FIND}\n{SAVE}", 1),
        (FIND, 1),
        (SAVE, 0),
        (f'{FIND}\nAction: [Optional]save\nAction Input: {{"n": 7}}', 1),
    ):
        assert verify_toolalpaca(e, completion).reward == reward


def test_feedback_stays_short():
    repeated = verify_toolalpaca(read(), "Action: drop\n" * 1000).feedback
    assert repeated == "The action 'drop' has no 'Action Input:' line. 'drop' is not among the tools."
    many = verify_toolalpaca(read(), "".join(f"Action: {'x' * 1000}{n}\n" for n in range(1000))).feedback
    assert len(many) < 500


def test_tools_are_counted():
    e = read([{"Action": name, "Action_Input": {}} for name in ("find", "find", "save")])
    twice = "Action: find\nAction Input: {}\nAction: save\nAction Input: {}\nAction: save\nAction Input: {}"
    assert verify_toolalpaca(e, twice).feedback == "The chosen tools are wrong."


def test_later_arguments_win_when_merged():
    e = read([{"Action": "find", "Action_Input": {"k": 1}}, {"Action": "find", "Action_Input": {"k": 2}}])
    assert verify_toolalpaca(e, "\n".join(f'Action: find\nAction Input: {{"k": {k}}}' for k in (9, 2))).reward == 1.0
    assert verify_toolalpaca(e, "\n".join(f'Action: find\nAction Input: {{"k": {k}}}' for k in (2, 1))).reward == 0.0


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for k, v in value.items() for leaf in [k, *leaves(v)]]
    return [leaf for v in value for leaf in leaves(v)] if isinstance(value, list) else [value]


def leaked(example: Example, completion: str) -> list[str]:
    """Expected names, keys and values that the feedback prints and the completion does not."""
    feedback = verify_toolalpaca(example, completion).feedback
    expected = [x for c in expected_calls(example.answer) for x in [c.name, *leaves(c.arguments)]]
    texts = {str(x) for x in expected if str(x).strip()}
    return [t for t in texts if re.search(rf"(?<!\w){re.escape(t)}(?!\w)", feedback) and t not in completion]


def mistakes(demonstration: str) -> list[str]:
    return [
        "",
        "I do not know.",
        "Action:\nAction Input: {}",
        "Action: noSuchTool\nAction Input: {}",
        demonstration.replace("Action Input: {", "Action Input: ("),
        demonstration.replace("Action Input:", "Input:"),
        demonstration + "\nAction: getWeather\nAction Input: {}",
        re.sub(r"Action Input: .*", 'Action Input: {"surely": "wrong"}', demonstration),
        re.sub(r"Action: \w+", "Action: otherTool", demonstration),
        f"{demonstration}\n{demonstration}",
    ]


def test_published_file(shared_data: Path):
    path = shared_data / "tooluse" / "test.json"
    examples = toolalpaca_examples(read_records(path), str(path))
    assert len(examples) == 68 == path.read_text(encoding="utf-8").count("\n")
    for e in examples:
        right = verify_toolalpaca(e, e.demonstration)
        assert (right.reward, right.feedback, right.format_ok) == (1.0, "", True)
        assert verify_toolalpaca(e, f"Thought: I know.\n{e.demonstration}\n").reward == 1.0
        for completion in mistakes(e.demonstration):
            verdict = verify_toolalpaca(e, completion)
            assert verdict.reward == 0.0
            assert verdict.feedback
            assert not leaked(e, completion)


WORDS = st.sampled_from(
    [
        FIND,
        SAVE,
        FIND + "\n",
        "find",
        "save",
        "drop",
        "Action:",
        "Action Input:",
        '{"n": 7}',
        '{"key": {"deep": "x"}}',
        "{",
        "\n",
        " ",
    ]
)


@given(st.lists(WORDS).map("".join) | st.text())
def test_any_completion_is_judged_and_nothing_leaks(completion: str):
    e = read()
    verdict = verify_toolalpaca(e, completion)
    assert verdict.reward in (0.0, 1.0)
    assert bool(verdict.feedback) is (verdict.reward == 0.0)
    assert not leaked(e, completion)

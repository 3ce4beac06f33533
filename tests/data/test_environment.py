"""`holdfast.data.environment`: what an environment returns is read, or refused in one line."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from holdfast.data.environment import CheckedEnvironment, Episodes
from holdfast.data.example import Example, Verdict
from holdfast.errors import DataError


class Fixed:
    """An environment with a fixed answer and verdict."""

    def __init__(self, answer: Any, verdict: Any = 1.0) -> None:
        self.answer, self.result = answer, verdict

    def step(self, completion: str) -> Any:
        return self.answer() if callable(self.answer) else self.answer

    def verdict(self) -> Any:
        return self.result() if callable(self.result) else self.result


def begin(answer: Any, verdict: Any = 1.0) -> CheckedEnvironment:
    question = ({"role": "user", "content": "q"},)
    return Episodes(lambda example: Fixed(answer, verdict)).begin(Example("e7", question))


def tool(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "tool", "content": content, **more}


PARTS = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}, "c", {"text": "d"}]


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        ([tool("hm")], "hm"),
        ((tool("hm"),), "hm"),
        (tool("hm"), "hm"),
        (lambda: (tool(text) for text in ["hm"]), "hm"),
        ([tool("")], ""),
        ([tool(PARTS)], "a bcd"),
        ([tool([])], ""),
        ([tool("a \ud83d")], "a \ufffd"),
        ([tool([{"type": "text", "text": "\udc00"}])], "\ufffd"),
        ([{"role": "observation", "content": "hm"}], "hm"),  # whether a role is known is the template's matter
    ],
)
def test_messages_of_text_are_read(answer: Any, content: str) -> None:
    messages = begin(answer).step("x")
    assert messages is not None
    assert [message["content"] for message in messages] == [content]


@pytest.mark.parametrize("answer", [None, [], (), lambda: iter([])])
def test_no_messages_end_the_episode(answer: Any) -> None:
    assert begin(answer).step("x") is None


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([tool(None)], "content is None"),
        ([tool(3)], "content is a int"),
        ([tool(b"hm")], "content is a bytes"),
        ([tool({"type": "text", "text": "hm"})], "content is a dict"),
        ([tool(np.float32(3))], "content is a float32"),
        ([tool([{"type": "image_url", "image_url": {"url": "x"}}])], "no text: 'image_url'"),
        ([tool([{"type": "text", "text": None}])], "no text: 'text'"),
        ([tool([None])], "no text: 'NoneType'"),
        ([tool([3])], "no text: 'int'"),
        ("hm", "returned str instead"),
        (["hm"], "returned str instead"),
        (b"hm", "returned bytes instead"),
        (3, "returned int instead"),
        (True, "returned bool instead"),
        ([None], "returned NoneType instead"),
        ([[tool("hm")]], "returned list instead"),
        ({}, "a message with no keys"),
        ({"tool": "hm"}, "a message with the keys tool"),
        ([{"role": "tool"}], "a message with the keys role"),
        ([{"content": "hm"}], "a message with the keys content"),
        ([{"role": None, "content": "hm"}], "the role None"),
        ([{"role": "", "content": "hm"}], "the role ''"),
        ([{"role": 3, "content": "hm"}], "the role 3"),
        ([{"role": "assistant", "content": "hm"}], "the role 'assistant'"),
        (lambda: (tool(1 // 0) for _ in range(1)), "raised ZeroDivisionError"),
        (lambda: {}["hm"], "raised KeyError"),
    ],
)
def test_anything_else_is_one_line_that_names_the_example(answer: Any, message: str) -> None:
    with pytest.raises(DataError, match=r"^environment of example 'e7': ") as caught:
        begin(answer).step("x")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.fix


def test_the_environment_keeps_its_messages_and_the_episode_its_own() -> None:
    history = [tool("one", tool_call_id="c\ud83d", extra={"x": [1]})]
    environment = begin(lambda: history)
    first = environment.step("x")
    assert first is not None
    assert first[0]["tool_call_id"] == "c\ufffd"
    first[0]["content"] = "changed"
    first[0]["extra"]["x"].append(2)  # type: ignore[typeddict-item]
    assert history == [tool("one", tool_call_id="c\ud83d", extra={"x": [1]})]
    history[0]["content"] = "two"
    assert first[0]["content"] == "changed"


def test_what_a_factory_does_to_its_example_changes_nothing_outside_it() -> None:
    def factory(example: Example) -> Fixed:
        example.messages[0]["content"] = "spoiled"
        example.answer.append("spoiled")
        example.metadata["spoiled"] = True  # type: ignore[index]
        return Fixed(None)

    given = Example("e", ({"role": "user", "content": "q"},), answer=["a"], metadata={})
    Episodes(factory).begin(given)
    assert given == Example("e", ({"role": "user", "content": "q"},), answer=["a"], metadata={})


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (None, "returned NoneType"),
        (2, "reward is 2"),
        (lambda: Verdict(2.0), "reward is 2.0"),
        (lambda: Verdict(1.0, 3), "feedback is 3"),  # type: ignore[arg-type]
        (lambda: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_a_verdict_that_is_none_is_one_line_that_names_the_example(verdict: Any, message: str) -> None:
    with pytest.raises(DataError, match=r"^environment of example 'e7': ") as caught:
        begin(None, verdict).verdict()
    assert message in str(caught.value)


@pytest.mark.parametrize("environment", [None, object(), SimpleNamespace(step=lambda completion: None)])
def test_what_has_no_verdict_is_one_line_that_names_the_example(environment: Any) -> None:
    begun = Episodes(lambda example: environment).begin(Example("e7", ({"role": "user", "content": "q"},)))
    with pytest.raises(DataError, match=r"^environment of example 'e7': it raised AttributeError: .*verdict"):
        begun.verdict()


def test_a_number_is_a_verdict() -> None:
    assert begin(None, np.float32(0.5)).verdict() == Verdict(0.5)

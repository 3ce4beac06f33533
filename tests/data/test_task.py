"""`holdfast.data.task`: verifiers get copies of their arguments, and the thoughts if they ask for them."""

import asyncio
import sys
import time
from functools import partial, wraps
from types import MappingProxyType
from typing import Any

import pytest

from holdfast.data.example import Example, Verdict
from holdfast.data.task import Suite, Task, run_verifier
from holdfast.errors import DataError


def example(**changes: Any) -> Example:
    fields: dict[str, Any] = {
        "messages": ({"role": "user", "content": "q"},),
        "answer": ["7", {"unit": ["m"]}],
        "metadata": {"tags": ["a"], "more": {"x": 1}},
        "tools": ({"name": "add", "parameters": {"a": "int"}},),
        "translation": ({"role": "user", "content": "Q"},),
        "demonstration_message": {"role": "assistant", "content": "", "tool_calls": [{"name": "add"}]},
    }
    return Example("e", **fields | changes)


def spoil(value: Any) -> None:
    """Change everything that can be changed within a value."""
    for each in list(value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()):
        spoil(each)
    if isinstance(value, dict):
        value.clear()
        value["spoiled"] = True
    elif isinstance(value, list):
        value[:] = ["spoiled"]


def test_what_a_verifier_does_to_its_arguments_changes_nothing_outside_it() -> None:
    def greedy(own: Example, completion: str) -> float:
        assert own == example()
        for name in ("messages", "answer", "metadata", "tools", "translation", "demonstration_message"):
            spoil(getattr(own, name))
        return 1.0

    given = example()
    for _ in range(2):  # the second call sees what the first one left
        assert Task("t", [given], [], greedy).verify(given, "7").reward == 1.0
        assert Suite("s", "retention", [given], greedy).verify(given, "7").reward == 1.0
    assert given == example()


def test_arguments_that_cannot_be_copied_are_given_as_they_are(tmp_path: Any) -> None:
    with (tmp_path / "file").open("w") as file:
        given = example(answer=file, metadata=MappingProxyType({"list": [1]}))

        def judge(own: Example, completion: str) -> bool:
            own.metadata["list"].append(2)
            return own.answer is file

        assert run_verifier(judge, "t", given, "7").reward == 1.0
        assert given.metadata["list"] == [1]


def test_a_copy_takes_less_than_a_millisecond() -> None:
    given = example(metadata={str(i): [i, {"x": "y" * 1000}] for i in range(50)})
    times = []
    for _ in range(20):
        began = time.perf_counter()
        run_verifier(lambda own, completion: 1.0, "t", given, "7")
        times.append(time.perf_counter() - began)
    assert min(times) < 1e-3


class Judge:
    def __call__(self, own: Example, completion: str, reasoning: str = "none") -> Verdict:
        return Verdict(1.0, answer=reasoning)

    def method(self, own: Example, completion: str, *, reasoning: str) -> Verdict:
        return Verdict(1.0, answer=reasoning)

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("verifier", [Judge(), Judge().method, partial(Judge().method)])
def test_a_verifier_with_a_parameter_for_it_gets_the_reasoning(verifier: Any) -> None:
    assert run_verifier(verifier, "t", example(), "7", reasoning="hm").answer == "hm"
    assert run_verifier(verifier, "t", example(), "7").answer == ""
    assert Task("t", [], [], verifier).verify(example(), "7", "hm").answer == "hm"
    assert Suite("s", "retention", [], verifier).verify(example(), "7", "hm").answer == "hm"


@pytest.mark.parametrize(
    "verifier",
    [lambda own, completion: 1.0, lambda own, completion, **more: float(not more), lambda *all: float(len(all) == 2)],
)
def test_other_verifiers_get_no_reasoning(verifier: Any) -> None:
    assert run_verifier(verifier, "t", example(), "7", reasoning="hm").reward == 1.0


def _cached(judge: Any) -> Any:
    @wraps(judge)
    def of_any(*given: Any, **more: Any) -> Any:
        return judge(*given, **more)

    return of_any


def _with_own_reasoning(judge: Any) -> Any:
    @wraps(judge)
    def of_two(own: Example, completion: str) -> Any:
        return judge(own, completion, reasoning="its own")

    return of_two


def _with_reasoning_dropped(judge: Any) -> Any:
    @wraps(judge)
    def of_three(own: Example, completion: str, reasoning: str) -> Any:
        return judge(own, completion + reasoning)

    return of_three


@pytest.mark.parametrize(
    ("verifier", "seen"),
    [
        (_cached(Judge().method), "hm"),
        (_with_own_reasoning(Judge().method), "its own"),
        (_with_reasoning_dropped(lambda own, completion: Verdict(1.0, answer=completion)), "7hm"),
    ],
)
def test_a_decorated_verifier_gets_what_its_decorator_takes(verifier: Any, seen: str) -> None:
    """`functools.wraps` shows the signature of what is inside."""
    assert run_verifier(verifier, "t", example(), "7", reasoning="hm").answer == seen


class _UnreadableError(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("two\nlines"), "raised ValueError: two lines"),
        (SystemExit(3), "raised SystemExit: 3"),
        (_UnreadableError(), "raised _UnreadableError: its message cannot be read"),
        (KeyError("x" * 10_000), "raised KeyError: 'xxx"),
        (ValueError("\ud83d"), "raised ValueError: \\ud83d"),
        (RecursionError("deep"), "raised RecursionError: deep"),
        (asyncio.CancelledError("late"), "raised CancelledError: late"),
        (GeneratorExit(), "raised GeneratorExit"),
    ],
)
def test_a_verifier_that_raises_is_one_line(error: BaseException, message: str) -> None:
    def judge(own: Example, completion: str) -> float:
        raise error

    with pytest.raises(DataError, match="verifier of 't', example 'e': it ") as caught:
        run_verifier(judge, "t", example(), "7")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_an_interrupt_is_nobodys_fault() -> None:
    def judge(own: Example, completion: str) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_verifier(judge, "t", example(), "7")


def test_verdicts_need_no_torch() -> None:
    """`holdfast.data` is imported by parts that start without torch."""
    import subprocess

    code = "import sys, holdfast.data.task, holdfast.data.environment; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The metric `code_eval` of the library `evaluate`, by which lm-evaluation-harness runs code, in a sandbox.

The library's own metric runs programs in processes of this machine, and takes their word for what they are. The one
here runs them as `runner` does. It also needs no network, from which the library loads its own.
"""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from holdfast.errors import ConfigError
from holdfast.tasks.code.tests import ProgramTest, ProgramTests
from holdfast.tasks.code.verifier import RunsPrograms

NAME = "code_eval"

_runner: ContextVar[RunsPrograms | None] = ContextVar("runner", default=None)
_own_load: ContextVar[Callable[..., Any] | None] = ContextVar("own_load", default=None)


class CodeEval:
    """What `evaluate.load("code_eval")` returns within `code_evaluation`.

    The harness keeps it as long as its own modules, so what runs the programs is looked up at each call.
    """

    name = NAME

    def compute(
        self,
        *,
        references: Sequence[str],
        predictions: Sequence[Sequence[str]],
        k: Sequence[int] = (1, 10, 100),
        **others: Any,
    ) -> tuple[dict[str, float], dict[int, list[tuple[int, dict[str, Any]]]]]:
        """Run programs against their tests.

        Args:
            references: the test of each item, as code.
            predictions: programs for each item.
            k: for which pass@k is estimated, as far as there are that many programs for each item.
            others: of the library's own metric, such as `num_workers`.

        Returns:
            pass@k, and the results by item, as the library gives them.

        Raises:
            ConfigError: code may not be run here, or there can be no sandbox.
        """
        runner = _runner.get()
        if runner is None:
            own = _own_load.get()
            if own is None:
                raise ConfigError("code that the model wrote was to run outside of an evaluation", fix="use holdfast")
            found: Any = own(NAME).compute(references=references, predictions=predictions, k=list(k), **others)
            return found
        results: dict[int, list[tuple[int, dict[str, Any]]]] = {}
        for item, (reference, programs) in enumerate(zip(references, predictions, strict=True)):
            tests = ProgramTests((ProgramTest("assert", reference),))
            results[item] = []
            for number, program in enumerate(programs):
                (outcome,) = runner.run(program, tests)
                said = {"task_id": item, "completion_id": number, "result": outcome.ending}
                results[item].append((number, {**said, "passed": outcome.ending == "passed"}))
        counts = [(len(each), sum(said["passed"] for _, said in each)) for each in results.values()]
        estimated = {f"pass@{n}": _pass_at(n, counts) for n in k if all(total >= n for total, _ in counts)}
        return estimated, results


def _pass_at(k: int, counts: Sequence[tuple[int, int]]) -> float:
    """The unbiased estimate of pass@k, from (programs, right ones) of each item."""
    rates = [1.0 - math.comb(total - right, k) / math.comb(total, k) for total, right in counts]
    return sum(rates) / len(rates) if rates else math.nan


@contextlib.contextmanager
def code_evaluation(runner: RunsPrograms | None) -> Iterator[None]:
    """A context in which the metric `code_eval` is the one here.

    Args:
        runner: runs the programs; None for the library's own metric, which runs them unprotected.
    """
    import evaluate

    own = evaluate.load

    def load(name: str, *given: Any, **named: Any) -> Any:
        return CodeEval() if name == NAME else own(name, *given, **named)

    _forget_others()
    tokens = _runner.set(runner), _own_load.set(own)
    evaluate.load = load
    try:
        yield
    finally:
        evaluate.load = own
        _runner.reset(tokens[0])
        _own_load.reset(tokens[1])


def uses_code_eval(config: Any) -> bool:
    """Whether functions of a task of the harness run code by the metric here.

    Args:
        config: the task's configuration, as a mapping.
    """
    return any(_has(function.__globals__, CodeEval) for function in _functions(config))


def _functions(value: Any, depth: int = 0) -> Iterator[Any]:
    if hasattr(value, "__globals__"):
        yield value
    elif depth < 10 and isinstance(value, Mapping):
        for each in value.values():
            yield from _functions(each, depth + 1)
    elif depth < 10 and isinstance(value, list | tuple):
        for each in value:
            yield from _functions(each, depth + 1)


def _has(names: Mapping[str, Any], kind: type) -> bool:
    return any(isinstance(value, kind) for value in list(names.values()))


def _forget_others() -> None:
    """Let the harness load again those of its modules that hold the library's own metric."""
    from evaluate import EvaluationModule

    for name, module in list(sys.modules.items()):
        if hasattr(module, "__mtime__") and any(
            isinstance(value, EvaluationModule) and value.name == NAME for value in list(vars(module).values())
        ):
            del sys.modules[name]

"""Scores answers to items of reasoning-gym, whose scorers evaluate text that a model wrote.

Each answer is scored in a process of its own, which is gone before the next. In it, `eval` takes expressions only:
numbers, texts, lists of them, operators, and calls of sympy's functions. So an answer cannot give itself a score.

Messages: `{"generator", "pickled", "answer", "item", "seconds", "wall", "filter"}`. `pickled` makes the generator if
this process does not have it yet. The reply is `{"value": number}`, or `{"error": text}`.
"""

import ast
import base64
import builtins
import contextlib
import json
import math
import os
import pickle
import resource
import select
import signal
import time
from collections.abc import Mapping
from typing import Any

from .channel import Channel, Filter

FUNCTIONS = frozenset(
    "Symbol Integer Float Rational Function Add Mul Pow factorial factorial2 sqrt cbrt root exp log ln sin cos tan cot "
    "sec csc asin acos atan atan2 acot asec acsc sinh cosh tanh coth sech csch asinh acosh atanh acoth Abs sign floor "
    "ceiling Max Min Mod erf erfc gamma Ei li Si Ci".split()
)
"""Functions that an expression may call: those that sympy's parser writes, and those of its mathematics that compute
and do nothing else."""

_ALLOWED = (
    ast.Expression,
    ast.Constant,
    ast.List,
    ast.Tuple,
    ast.Set,
    ast.Dict,
    ast.Name,
    ast.Load,
    ast.UnaryOp,
    ast.unaryop,
    ast.BinOp,
    ast.operator,
    ast.BoolOp,
    ast.boolop,
    ast.Compare,
    ast.cmpop,
    ast.Call,
    ast.keyword,
)

LONGEST = 20_000
"""Characters of an expression. Python's own parser can be made to crash by longer ones."""


class NotAnExpressionError(Exception):
    """A text that is evaluated for its effects."""


def check(tree: ast.AST) -> None:
    """Refuse everything but a plain expression.

    Raises:
        NotAnExpressionError: it has a part that could do something.
    """
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise NotAnExpressionError(f"an expression with {type(node).__name__}")
        if isinstance(node, ast.Name) and node.id.startswith("_"):
            raise NotAnExpressionError(f"the name {node.id!r}")
        if isinstance(node, ast.Call):
            function = node.func.func if isinstance(node.func, ast.Call) else node.func  # Function('f')(x)
            if not isinstance(function, ast.Name) or function.id not in FUNCTIONS:
                raise NotAnExpressionError("a call of something else than a function of sympy")


_eval = builtins.eval


def guarded_eval(source: Any, names: Any = None, more: Mapping[str, Any] | None = None, /) -> Any:
    """`eval` for plain expressions.

    Raises:
        NotAnExpressionError: it is none.
    """
    if not isinstance(source, str):
        raise NotAnExpressionError("code instead of text")
    text = source.strip()
    if len(text) > LONGEST:
        raise NotAnExpressionError("an expression that is too long")
    tree = ast.parse(text, mode="eval")
    check(tree)
    own = {key: value for key, value in (names or {}).items() if key != "__builtins__"}
    return _eval(compile(tree, "<answer>", "eval"), {**own, "__builtins__": {}}, dict(more or {}))


def main() -> None:
    channel = Channel()
    generators: dict[str, Any] = {}
    while True:
        try:
            order = channel.receive()
        except EOFError:
            return
        name = order["generator"]
        try:
            if name not in generators:
                generators[name] = _made(order["pickled"])
            channel.send(_scored(generators[name], order, channel))
        except Exception as error:
            channel.send({"error": f"{type(error).__name__}: {error}"[:300]})


def _made(pickled: str) -> Any:
    """A generator by its name and settings."""
    from reasoning_gym import factory

    name, settings = pickle.loads(base64.b64decode(pickled))
    kind, config = factory.DATASETS[name]
    return kind(config=config(**settings))


def _scored(generator: Any, order: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Score one answer in a process of its own."""
    item, filter_ = pickle.loads(base64.b64decode(order["item"])), Filter(order["filter"])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        channel.close()
        os.close(read)
        whole = max(1, math.ceil(order["seconds"]))
        resource.setrlimit(resource.RLIMIT_CPU, (whole, whole))
        filter_.set()
        builtins.eval = guarded_eval
        value = 0.0
        with contextlib.suppress(BaseException):
            value = float(generator.score_answer(order["answer"], item))
        with contextlib.suppress(BaseException):
            os.write(write, json.dumps(value if math.isfinite(value) else 0.0).encode())
        os._exit(0)
    os.close(write)
    said = _said(read, order["wall"])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(read)
    try:
        return {"value": float(said)}
    except ValueError:  # it was killed, or ended early
        return {"value": 0.0, "late": True}


def _said(read: int, wall: float) -> bytes:
    """What a child writes until it ends or time is up."""
    deadline, said = time.monotonic() + wall, b""
    while select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(read, 100)
        said += chunk
        if not chunk or len(said) > 100:
            break
    return said

"""Scores answers to items of reasoning-gym, whose scorers evaluate text that a model wrote.

Each answer is scored in a process of its own, which is gone before the next. In it, `eval` takes expressions only:
numbers, texts, lists of them, operators, and sympy's functions of numbers. So an answer cannot give itself a score.

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
import types
from collections.abc import Mapping
from typing import Any

from .channel import Channel, ChannelClosedError, Filter

FUNCTIONS = frozenset(
    "Integer Float Rational Add Mul Pow factorial factorial2 sqrt cbrt root exp log ln sin cos tan cot sec csc asin "
    "acos atan atan2 acot asec acsc sinh cosh tanh coth sech csch asinh acosh atanh acoth Abs sign floor ceiling Max "
    "Min Mod erf erfc gamma Ei li Si Ci".split()
)
"""Functions that an expression may call: those of sympy's mathematics that compute and do nothing else."""

_NAMING = frozenset(("Symbol", "Function"))
"""What sympy's parser calls with an unknown name: `Symbol('x')`, and `Function('f')(x)`."""

_OF_TEXT = _NAMING | {"Integer", "Float", "Rational"}
"""Functions that sympy's parser gives text. The others take text for code and evaluate it."""

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
)

_NOT_VALUES = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType)
"""What a name may stand for only where it is called: sympy's own functions take functions, and call them."""

LONGEST = 20_000
"""Characters of an expression. Python's own parser can be made to crash by longer ones."""


class NotAnExpressionError(Exception):
    """A text that is evaluated for its effects."""


def check(tree: ast.Expression, names: Mapping[str, Any]) -> None:
    """Refuse everything but a plain expression.

    Args:
        names: what its names stand for.

    Raises:
        NotAnExpressionError: it has a part that could do something.
    """
    _check(tree, names, in_call=False)


def _check(node: ast.AST, names: Mapping[str, Any], *, in_call: bool) -> None:
    if not isinstance(node, _ALLOWED):
        raise NotAnExpressionError(f"an expression with {type(node).__name__}")
    if isinstance(node, ast.Call):
        _check_call(node, names)
        return
    if isinstance(node, ast.Name) and (node.id.startswith("_") or isinstance(names.get(node.id), _NOT_VALUES)):
        raise NotAnExpressionError(f"the name {node.id!r}")
    if in_call and isinstance(node, ast.Constant) and not isinstance(node.value, int | float | complex):
        raise NotAnExpressionError("a function of something else than numbers")
    for child in ast.iter_child_nodes(node):
        _check(child, names, in_call=in_call)


def _check_call(node: ast.Call, names: Mapping[str, Any]) -> None:
    """Refuse all calls but those that sympy's parser writes, and those of its mathematics.

    No keywords: `Function('f', eval=exec)` is a function that executes its arguments.
    """
    function = node.func
    if isinstance(function, ast.Call):  # Function('f')(x)
        if not isinstance(function.func, ast.Name) or function.func.id != "Function":
            raise NotAnExpressionError("a call of what a call returns")
        _check_call(function, names)
    elif not isinstance(function, ast.Name) or function.id not in FUNCTIONS | _NAMING:
        raise NotAnExpressionError("a call of something else than a function of sympy")
    if node.keywords:
        raise NotAnExpressionError("a call with a keyword")
    first = node.args[0] if len(node.args) == 1 else None
    has_text = isinstance(first, ast.Constant) and isinstance(first.value, str)
    if isinstance(function, ast.Name) and function.id in _OF_TEXT and has_text:
        return
    if isinstance(function, ast.Name) and function.id in _NAMING:
        raise NotAnExpressionError(f"{function.id} of something else than a name")
    for argument in node.args:
        _check(argument, names, in_call=True)


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
    own = {key: value for key, value in (names or {}).items() if key != "__builtins__"}
    local = dict(more or {})
    check(tree, {**own, **local})
    return _eval(compile(tree, "<answer>", "eval"), {**own, "__builtins__": {}}, local)


def main() -> None:
    channel = Channel()
    generators: dict[str, Any] = {}
    while True:
        try:
            order = channel.receive()
        except ChannelClosedError:
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

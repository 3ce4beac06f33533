"""Runs tests of a program that runs elsewhere. The tests see its functions; what these return comes as plain values.

So the program has no part in the verdict: it can neither patch an assertion nor end it, and an object whose `__eq__` is
always true is equal to nothing.

Messages: `{"setup", "test"}` and `{"names"}`, which is the program's own word, run one test. The reply is
`{"verdict": {"passed", ...}}`; before it there are requests to the program (see `peer`). A new one of these processes
runs for every answer.
"""

import ast
import builtins
import importlib
import operator
import sys
import types
from collections.abc import Callable
from typing import Any

from .channel import Channel, ChannelClosedError
from .data import NotPlainError, is_close
from .peer import Peer, PeerGoneError, Remote

TESTS = "tests"
"""The module that the tests are."""

LONGEST = 2000

_COMPARISONS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "Eq": ("", operator.eq),
    "NotEq": ("not ", operator.ne),
    "Is": ("", operator.is_),
    "IsNot": ("not ", operator.is_not),
    "Lt": ("< ", operator.lt),
    "LtE": ("<= ", operator.le),
    "Gt": ("> ", operator.gt),
    "GtE": (">= ", operator.ge),
    "In": ("one of ", lambda left, right: left in right),
    "NotIn": ("none of ", lambda left, right: left not in right),
}


class AssertionFailedError(AssertionError):
    """An assertion that does not hold."""

    def __init__(self, given: str, expected: str, actual: str) -> None:
        self.shown = {"input": given[:LONGEST], "expected": expected[:LONGEST], "actual": actual[:LONGEST]}
        super().__init__("the assertion does not hold")


class Shown(ast.NodeTransformer):
    """Rewrites assertions, so that their sides are known if they do not hold. Each is evaluated once, in order."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        test = node.test
        if isinstance(test, ast.Compare) and len(test.ops) == 1:
            name = type(test.ops[0]).__name__
            given = [ast.Constant(name), test.left, test.comparators[0], ast.Constant(ast.unparse(test.left))]
            call = ast.Call(ast.Name("__compare__", ast.Load()), given, [])
        else:
            call = ast.Call(ast.Name("__truth__", ast.Load()), [test, ast.Constant(ast.unparse(test))], [])
        return ast.copy_location(ast.Expr(call), node)


def compare(name: str, left: Any, right: Any, text: str) -> None:
    """An assertion that compares two values.

    Raises:
        AssertionFailedError: it does not hold.
    """
    before, compares = _COMPARISONS[name]
    if not compares(left, right):
        raise AssertionFailedError(text, before + shown(right), shown(left))


def truth(value: Any, text: str) -> None:
    """Any other assertion.

    Raises:
        AssertionFailedError: it does not hold.
    """
    if not value:
        raise AssertionFailedError(text, "a true value", shown(value))


def close(function: Any, given: list[Any], expected: Any, name: str) -> None:
    """A call whose result is compared as JSON: tuples are lists, and floats need not agree to the last digit.

    Raises:
        AssertionFailedError: the result is another.
    """
    actual = function(*given)
    if not is_close(actual, expected):
        raise AssertionFailedError(f"{name}({', '.join(map(shown, given))})", shown(expected), shown(actual))


def shown(value: Any) -> str:
    """A value in a message."""
    try:
        return repr(value)[:LONGEST]
    except Exception as error:
        return f"a value that cannot be shown: {type(error).__name__}"


def may(operation: str, target: Any, name: str) -> bool:
    """What the program may do with objects of the tests: call functions, go through iterators, and use instances of
    classes that the tests define. Nothing else, because some attributes lead to everything."""
    if operation in ("call", "call_named"):
        return isinstance(target, types.FunctionType | types.BuiltinFunctionType | types.MethodType) or _own(target)
    if operation in ("iter", "next"):
        return not isinstance(target, Remote)
    if operation in ("get", "set"):
        return _own(type(target)) and not name.startswith("_")
    return operation in ("len", "bool", "str", "repr", "hash", "equal", "less", "item") and _own(type(target))


def _own(kind: Any) -> bool:
    return isinstance(kind, type) and kind.__module__ == TESTS


def bound(names: dict[str, Any], peer: Peer, tree: ast.AST) -> dict[str, Any]:
    """The program's names as the tests see them.

    A name of Python's own means the program's only if the tests use no other name of it: `sum` may be the function
    that is asked for, but `set` in `set(f(x))` is Python's. So is the `math` of `math.isclose(f(x), 1)`, whatever the
    program calls by this name.
    """
    used = used_names(tree)
    builtin = {name for name in names if hasattr(builtins, name)}
    others = {name for name in used if not hasattr(builtins, name)}
    found: dict[str, Any] = {}
    for name in used & names.keys():
        said = names[name]
        if name in builtin and others:
            continue
        if (module := _module_in(tree, name)) is not None:
            found[name] = module
        elif "module" in said:
            if str(said["module"]).partition(".")[0] in sys.stdlib_module_names:
                found[name] = importlib.import_module(str(said["module"]))
        elif "exception" in said:
            base = next((each for each in said["exception"] if each != name), "Exception")
            kind = getattr(builtins, str(base), Exception)
            found[name] = peer.errors[name] = type(name, (kind,), {})
        else:
            found[name] = peer.decoded(said["value"])
    return found


def _module_in(tree: ast.AST, name: str) -> types.ModuleType | None:
    """The module of Python's own that tests mean by a name, if they use its attributes and it has them all."""
    attributes = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
    ]
    if not attributes or name not in sys.stdlib_module_names:
        return None
    module = importlib.import_module(name)
    return module if all(hasattr(module, attribute) for attribute in attributes) else None


def used_names(tree: ast.AST) -> set[str]:
    """The names that tests use without defining or importing them."""
    loaded, stored = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else stored).add(node.id)
        elif isinstance(node, ast.arg):
            stored.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            stored.add(node.name)
        elif isinstance(node, ast.alias):
            stored.add((node.asname or node.name).partition(".")[0])
    return loaded - stored


def run(channel: Channel, order: dict[str, Any], program: dict[str, Any]) -> dict[str, Any]:
    """Run one test of what a program says that it has. Returns its verdict."""
    peer = Peer(channel, may, lambda error: {})
    try:
        tree = ast.parse(f"{order['setup']}\n{order['test']}")
        module = types.ModuleType(TESTS)
        sys.modules[TESTS] = module
        names = module.__dict__
        names.update(bound(program["names"], peer, tree))
        names |= {"__compare__": compare, "__truth__": truth, "__close__": close}
        code = compile(ast.fix_missing_locations(Shown().visit(tree)), TESTS, "exec")
    except NotPlainError as error:
        return {"passed": False, "error": {"type": "TypeError", "message": f"The program has {error}."}}
    except Exception as error:
        return {"passed": False, "broken": f"{type(error).__name__}: {error}"[:LONGEST]}
    try:
        exec(code, names)
    except AssertionFailedError as error:
        return {"passed": False, "shown": error.shown}
    except PeerGoneError:
        return {"passed": False, "gone": True}
    except ChannelClosedError:
        raise
    except BaseException as error:
        said = getattr(error, "said", None)
        if isinstance(said, dict):
            return {"passed": False, "error": said}
        return {"passed": False, "error": {"type": type(error).__name__, "message": str(error)[:LONGEST]}}
    return {"passed": True}


def main() -> None:
    channel = Channel()
    while True:
        try:
            channel.send({"verdict": run(channel, channel.receive(), channel.receive())})
        except ChannelClosedError:
            return

"""`holdfast.sandbox.inside.gym`: an answer that is evaluated computes, and does nothing else."""

import ast
import builtins
from typing import Any

import pytest
import sympy

from holdfast.sandbox.inside.gym import NotAnExpressionError, guarded_eval

REACHED: list[str] = []
"""What an answer has reached."""


@pytest.fixture(autouse=True)
def _guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """`eval` as scorers have it. A built-in function `reach` stands for all that do something."""
    REACHED.clear()
    monkeypatch.setattr(builtins, "reach", REACHED.append, raising=False)
    x = sympy.Symbol("x")
    sympy.parse_expr("x")  # what is imported when it is first needed uses the real one
    monkeypatch.setattr(builtins, "eval", guarded_eval)
    assert sympy.parse_expr("x", local_dict={"x": x}) == x


def parsed(text: str) -> Any:
    """An answer as the scorers of reasoning-gym that use sympy read it."""
    return sympy.parse_expr(text, local_dict={"x": sympy.Symbol("x"), "C": sympy.Symbol("C")})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2*3", 7),
        ("(5 - 1)**2 / 4", 4),
        ("3! + 2!!", 8),
        ("Max(1, 2, sqrt(9))", 3),
        ("log(exp(2))", 2),
        ("x**2/2 + C - x**2/2 - C", 0),
        ("sin(pi/2) + 0.5", 1.5),
        ("0x10 - 1.5", 14.5),
        ("Function('f')(1) - Function('f')(1)", 0),
        ("f(x, 2) - f(x, 2)", 0),
        ("Rational('1/2') + Integer('1') + Float('0.5')", 2),
    ],
)
def test_mathematics_is_computed(text: str, value: float) -> None:
    assert float(parsed(text)) == value


@pytest.mark.parametrize("text", ["[[1, 0], [0, 1]]", "['A', 'BC']", "(1, -2.5)", "{'a': [True, None]}", "1 < 2"])
def test_plain_values_are_what_they_say(text: str) -> None:
    assert guarded_eval(text) == (text == "1 < 2" or ast.literal_eval(text))


QUOTED = repr(repr(repr("x")))
"""sympy evaluates text that its functions get, more than once."""

HARMFUL = [
    f"Function('f', eval=reach, nargs=1)({QUOTED})",
    f"Function('f', (Function,), {{'eval': reach}})({QUOTED})",
    "Function('f', (), {'eval': reach})(x)",
    "Symbol('x', eval=reach)",
    "sqrt('reach(1)')",
    "Max(['reach(1)'])",
    "Add('1', evaluate=False)",
    "reach('x')",
    "[reach][0]('x')",
    "Max(reach, 1)",
    "[reach]",
    "Function(reach)(1)",
    "Function('f')('reach(1)')",
    "sin(1)(reach)",
    "sympify('reach(1)')",
    "lambdify(x, 'reach(1)')",
    "Lambda(x, 1)(2)",
    "x.func",
    "[c for c in (1,)]",
    "(lambda: 1)()",
    "f'{reach}'",
    "Max(*[1])",
    "__import__('os')",
    "x if x else x",
]


@pytest.mark.parametrize("text", HARMFUL)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises((NotAnExpressionError, SyntaxError, sympy.SympifyError, TypeError, AttributeError, ValueError)):
        parsed(text)
    assert REACHED == []
    with pytest.raises((NotAnExpressionError, SyntaxError)):
        guarded_eval(text, {**vars(sympy), "reach": REACHED.append, "x": sympy.Symbol("x")})
    assert REACHED == []


def test_only_text_is_evaluated_and_no_endless_one() -> None:
    for source in (compile("1", "x", "eval"), b"1", "1 +" * 10_000 + "1"):
        with pytest.raises(NotAnExpressionError):
            guarded_eval(source)

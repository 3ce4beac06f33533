"""`tests/helpers/kills.py`, `tests/helpers/cases.py`: how much the long form of the harnesses tries; nothing is run."""

import ast
from pathlib import Path

from cases import Tried, table
from kills import KILLS
from small_runs import RUNS

TESTS = Path(__file__).parents[1]
PARTS = {"IS_LONG", "amount", "spread", "kill_again_and_again"}
"""What says a test how much to try."""


def test_the_long_form_makes_a_thousand_kills_of_runs_of_every_kind() -> None:
    others = {name: kills for name, kills in KILLS.items() if name not in RUNS}
    assert set(RUNS) < set(KILLS)
    assert len(others) == 4
    assert sum(long for _, long in KILLS.values()) >= 1000
    assert min(long for _, long in KILLS.values()) >= 25


def test_the_short_form_kills_each_run_in_each_way() -> None:
    short = {name: kills for name, (kills, _) in KILLS.items() if kills}
    assert min(short.values()) >= 3
    assert 55 <= sum(short.values()) <= 65
    assert set(KILLS) - set(RUNS) < set(short)
    assert {"grpo", "sdft with LoRA", "auto_npo"} < set(short)


def test_make_torture_runs_every_test_that_has_a_long_form() -> None:
    files = {path: path.read_text() for path in TESTS.rglob("test_*.py") if path != Path(__file__)}
    harnesses = [path for path, text in files.items() if "from cases import" in text or "from kills import" in text]
    assert len(harnesses) > 8
    for path in harnesses:
        for test in ast.walk(ast.parse(files[path])):
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                names = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
                marked = any("pytest.mark.torture" in ast.unparse(mark) for mark in test.decorator_list)
                assert marked == bool(names & PARTS), test.name


def test_the_table_has_a_line_for_each_kind() -> None:
    noted = [Tried("kills", 50, 0), Tried("power cuts", 8, 1), Tried("kills", 60, 2)]
    assert table(noted) == ["   tried  wrong  kind", "     110      2  kills", "       8      1  power cuts"]

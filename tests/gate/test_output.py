"""`holdfast.gate.output`: JUnit and Markdown are well-formed whatever sets and models are called; files that are no
evaluation are refused in one clear line.
"""

import copy
import json
import random
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from cases import amount
from holdfast.errors import printable
from holdfast.gate.judge import judge
from holdfast.gate.output import as_junit, as_markdown
from holdfast.gate.sources import gate
from torture import Search

NASTY = "a\x1b[2J\x07|\n# b\u202e\ud800\x00\ufffe<c>&\"'"


def _evaluation(name: str, mean: float) -> dict[str, Any]:
    scores = [1.0] * round(40 * mean) + [0.0] * round(40 * (1 - mean))
    return {
        "stage": 0,
        "sets": {name: {"mean": mean, "chance": 0.0}, "demonstrations": {"mean": None}},
        "items": {name: scores},
        "nll": {"demonstrations": [{"nll": 1.0, "tokens": 3}] * 8},
        "samples": {name: [{"id": "1", "prompt": "p", "completion": "c"}]},
    }


def test_names_with_any_character_are_written() -> None:
    verdict = judge(_evaluation(NASTY, 0.9), _evaluation(NASTY, 0.2))
    junit, markdown = as_junit(verdict, NASTY, NASTY), as_markdown(verdict, NASTY, NASTY)
    root = ElementTree.fromstring(junit.encode())
    assert root.find(".//testcase[@classname='holdfast.gate']/failure") is not None
    for text in (junit, markdown):
        assert printable(text) == text
    heading, _, _, _, header, *_ = markdown.split("\n")
    assert heading.startswith("## Refused")
    assert not [line for line in markdown.split("\n") if line.startswith("# ")]
    assert header.count("|") == 10


def _judged(folder: Path) -> str:
    verdict, base, candidate = gate(folder / "base.json", folder / "candidate.json")
    ElementTree.fromstring(as_junit(verdict, base, candidate).encode())
    json.dumps(verdict.as_json(), allow_nan=False)
    return as_markdown(verdict, base, candidate)


VALUES: tuple[Any, ...] = (None, True, -1, 2, 10**400, 0.5, "", "x", [], {}, [None], ["x"], [[1]], {"x": 1}, [{}], [1])


@pytest.mark.torture
def test_altered_evaluations_are_judged_or_refused_in_one_clear_line(tmp_path: Path) -> None:
    search, generator = Search("evaluations", seconds=10), random.Random(5)
    good = _evaluation("facts", 0.9)
    for count in range(amount(150, 1500)):
        changed: Any = copy.deepcopy(good)
        holder, path = changed, []
        for _ in range(generator.randint(1, 4)):
            if not isinstance(holder, dict | list) or not holder:
                break
            key = generator.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            path.append((holder, key))
            holder = holder[key]
        inside, key = path[-1]
        inside[key] = generator.choice(VALUES)
        for name in ("base", "candidate"):
            altered = (count % 2 == 0) == (name == "base")
            (tmp_path / f"{name}.json").write_text(json.dumps(changed if altered else good))
        search.attempt("evaluations", f"{[k for _, k in path]} {inside[key]!r}", lambda: _judged(tmp_path))
    search.conclude()


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", '{"items": []}', '{"items": {"a": NaN}}', "[" * 100_000])
def test_files_that_are_no_evaluation_are_refused_in_one_clear_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "base.json").write_text(json.dumps(_evaluation("facts", 0.9)))
    (tmp_path / "candidate.json").write_text(text)
    search = Search("evaluations", seconds=5)
    assert search.attempt("files", text[:20], lambda: _judged(tmp_path)) is None
    search.conclude()

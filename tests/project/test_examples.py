"""`examples/`: each runs from start to end on the lab's model, as `python examples/NAME.py` does."""

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast import recipes

EXAMPLES = Path(__file__).parents[2] / "examples"

Run = Callable[[str], str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs an example in this process, which has torch already, with `tmp_path` as its output; returns its output."""
    registered = dict(recipes.RECIPES)
    monkeypatch.chdir(tmp_path)
    # Python puts a script's folder on its path. The verifier's example is imported from there by its name.
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run_example(name: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", str(tmp_path)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    yield run_example
    recipes.RECIPES.clear()
    recipes.RECIPES.update(registered)
    sys.modules.pop("verifier", None)


def test_sft_and_sdft_are_compared_on_own_data(run: Run, tmp_path: Path) -> None:
    printed = run("own_data")
    assert "sft: score on the new task" in printed
    assert "sdft: score on the new task" in printed
    assert (tmp_path / "comparison" / "report.html").is_file()


def test_grpo_learns_from_a_verifier_of_ones_own(run: Run, tmp_path: Path) -> None:
    assert "correct before training" in run("verifier")
    before, after = json.loads((tmp_path / "run" / "summary.json").read_text())["evaluations"]
    assert after["scores"]["sums"]["mean"] > before["scores"]["sums"]["mean"] + 0.2


@pytest.mark.slow
def test_a_stream_of_three_tasks_is_evaluated_after_each_stage(run: Run, tmp_path: Path) -> None:
    lines = run("stream").splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["(base)", "facts", "tools", "more-facts"]
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"stage-1", "stage-2", "stage-3"}


def test_the_callback_watches_a_run_of_trl(run: Run, tmp_path: Path) -> None:
    assert "holdfast report" in run("callback")
    summary = json.loads((tmp_path / "watched" / "summary.json").read_text())
    assert summary["status"] == "complete"
    assert {"old-skills", "old-facts"} <= set(summary["evaluations"][-1]["scores"])


def test_a_recipe_outside_the_package_is_compared_with_one_inside(run: Run, tmp_path: Path) -> None:
    run("recipe")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["labels"] == ["shortest_correct", "rft"]


def test_every_example_is_run_here_and_described() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    source = Path(__file__).read_text(encoding="utf-8")
    assert {name for name in names if f'run("{name}")' not in source} == set()
    described = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {name for name in names if f"({name}.py)" not in described} == set()

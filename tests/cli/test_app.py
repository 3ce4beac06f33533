"""`holdfast.cli.app`: what the commands print, which files they write, and what they do not import."""

import io
import json
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress, TextColumn

from commands import LAB_RUN, Commands
from holdfast import __version__
from holdfast.cli.app import app
from holdfast.cli.run_progress import LiveLine, StageLines, StepRate, duration
from holdfast.config.overrides import apply_overrides
from holdfast.guard import Decision
from holdfast.lab.tasks import ALL_TASKS, TASKS
from holdfast.pretrain.skills import SKILLS

COMPARISON = {
    **{key: value for key, value in LAB_RUN.items() if key != "recipe"},
    "recipes": ["sft", {"name": "sdft", "label": "slow", "num_loss_tokens_to_skip": 0}],
    "seeds": [0],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small finished run of SFT. Tests must not change it."""
    from holdfast import api

    folder = tmp_path_factory.mktemp("finished") / "run"
    api.run(LAB_RUN, folder)
    return folder


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "import holdfast.cli.app\n"
        "holdfast.cli.app.main(['--help'])\n"
        "holdfast.cli.app.main(['version'])\n"
        "sys.exit(' '.join({'torch', 'transformers', 'numpy', 'plotly', 'datasets'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Train a language model on one task after another" in done.stdout
    assert f"holdfast {__version__}" in done.stdout


def test_describing_recipes_does_not_need_torch() -> None:
    code = "import sys; from holdfast.cli.app import main; main(['methods']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def _commands(group: Any, path: str = "holdfast") -> dict[str, Any]:
    commands = {}
    for name, each in group.commands.items():
        commands |= _commands(each, f"{path} {name}") if hasattr(each, "commands") else {f"{path} {name}": each}
    return commands


def test_every_command_and_option_has_a_line_of_help() -> None:
    commands = _commands(typer.main.get_command(app))
    names = {"demo", "run", "compare", "resume", "report", "eval", "methods", "check", "export", "version"}
    names |= {"advise", "artifacts", "blend", "drift", "findings", "front", "gate", "recover", "responses", "rewrite"}
    assert {name.removeprefix("holdfast ") for name in commands} == names | {"lab pretrain", "lab eval"}
    for name, each in commands.items():
        assert each.help.count("\n") == 0, name
        for parameter in each.params:
            assert parameter.help.endswith("."), f"{name} {parameter.name}"


@pytest.mark.parametrize("arguments", [[], ["lab"], ["-h"], ["run", "--help"], ["lab", "eval", "-h"]])
def test_help_is_no_error(command: Commands, arguments: list[str]) -> None:
    outcome = command(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert "Usage: holdfast" in outcome.out


def test_version(command: Commands) -> None:
    assert command("version").out == command("--version").out == f"holdfast {__version__}\n"


def test_methods(command: Commands) -> None:
    facts = json.loads(command("methods", "--json").out)
    assert set(facts) >= {"sft", "sdft", "sdpo", "grpo"}
    assert set(facts["sdft"]["wiring"]) == {"rollouts", "teacher", "signal", "reduction"}
    assert facts["sdpo"]["settings"]["num_generations"] == 8
    text = command("methods").out
    for name, fact in facts.items():
        assert f"{name}: " in text
        assert fact["when"].split()[0] in text
        assert all(fact["needs"].values()), name


def test_run_with_settings_from_the_command_line(command: Commands, tmp_path: Path) -> None:
    config, out = command.config(LAB_RUN), tmp_path / "out"
    settings = ["--set", "train.steps=1", "--set", "tasks.facts.steps=2", "--set", "recipe.num_loss_tokens_to_skip=0"]
    outcome = command("run", config, "--recipe", "sdft", "--seed", "5", *settings, "-o", out)
    assert outcome.code == 0, outcome.err
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["seed"], summary["label"], summary["budget"]["optimizer_steps"]) == (5, "sdft", 3)
    assert summary["recipe"]["num_loss_tokens_to_skip"] == 0
    assert outcome.err.splitlines() == [
        "sdft: evaluated before the first stage",
        f"sdft: stage 1/2 calculation done, score {summary['evaluations'][1]['scores']['calculation']['mean']:.1%}",
        f"sdft: stage 2/2 facts done, score {summary['evaluations'][2]['scores']['facts']['mean']:.1%}",
    ]
    assert all(sentence.split()[0] in outcome.out for sentence in summary["verdict"])
    assert outcome.out.endswith(f"report: {out / 'report.html'}\n")
    assert (out / "report.html").stat().st_size > 100_000


def test_comparisons(command: Commands, tmp_path: Path) -> None:
    config, out = command.config(COMPARISON, **{"train.steps": 1}), tmp_path / "out"
    outcome = command("compare", config, "--recipe", "slow", "--seed", "1", "--seed", "2", "-o", out)
    assert outcome.code == 0, outcome.err
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["labels"], summary["seeds"], summary["status"]) == (["slow"], [1, 2], "complete")
    assert "slow, run 2/2: stage 2/2 facts done" in outcome.err
    again = command("resume", out, "--quiet")
    assert (again.code, again.err) == (0, "")

    outcome = command("run", config, "--recipe", "slow", "--quiet", "-o", tmp_path / "one")
    assert (outcome.code, outcome.err) == (0, "")
    one = json.loads((tmp_path / "one" / "summary.json").read_text())
    assert (one["name"], one["recipe"]["name"]) == ("small-slow", "sdft")


def test_report_is_written_again(command: Commands, finished: Path, tmp_path: Path) -> None:
    outcome = command("report", finished, "--output", tmp_path / "elsewhere" / "page.html")
    assert (outcome.code, outcome.err) == (0, "")
    assert (tmp_path / "elsewhere" / "page.html").read_text() == (finished / "report.html").read_text()


def test_figures_of_a_report_are_saved_by_kaleido(
    command: Commands, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    module, errors = types.ModuleType("kaleido"), types.ModuleType("kaleido.errors")
    module.write_fig_from_object_sync = lambda work, kopts: written.extend(each["path"] for each in work)  # type: ignore
    errors.ChromeNotFoundError = RuntimeError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kaleido", module)
    monkeypatch.setitem(sys.modules, "kaleido.errors", errors)
    outcome = command("report", finished, "--output", tmp_path / "page.html", "--figures", tmp_path / "figures")
    assert (outcome.code, outcome.err) == (0, "")
    assert {"sets.svg", "length-0.svg"} <= {path.name for path in written}
    assert {path.parent for path in written} == {tmp_path / "figures"}
    assert (tmp_path / "page.html").exists()


def test_without_kaleido_figures_are_refused_in_one_line(
    command: Commands, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    outcome = command("report", finished, "--output", tmp_path / "page.html", "--figures", tmp_path / "figures")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        "holdfast: error: figures cannot be saved without kaleido 1.0 or newer "
        '(pip install "holdfast[figures]"; Chrome or Chromium must be installed too)\n'
    )
    assert list(tmp_path.iterdir()) == []


def test_eval_of_a_stage_gives_the_scores_of_the_run(command: Commands, finished: Path, tmp_path: Path) -> None:
    config = command.config(LAB_RUN)
    outcome = command("eval", config, "--model", finished / "models" / "stage-2", "--json", tmp_path / "scores.json")
    assert (outcome.code, outcome.err) == (0, "")
    scores = json.loads((tmp_path / "scores.json").read_text())["sets"]
    expected = json.loads((finished / "evals" / "stage-2.json").read_text())["sets"]
    for name in ("calculation", "facts"):
        assert name in outcome.out
        assert {k: v for k, v in scores[name].items() if "kl" not in k} == {
            k: v for k, v in expected[name].items() if "kl" not in k
        }


def test_check_warns_of_a_teacher_that_is_not_better(command: Commands, tmp_path: Path) -> None:
    config = command.config(COMPARISON, **{"recipes.slow.template": "{prompt} {demonstration}"})
    outcome = command("check", config, "--items", "4", "--set", "tasks=[lab:facts]", "--json", tmp_path / "check.json")
    assert (outcome.code, outcome.err) == (0, "")
    results = json.loads((tmp_path / "check.json").read_text())["recipes"]
    assert list(results) == ["sft", "slow"]
    assert "facts  512 train, 640 test" in outcome.out
    assert "teacher: this recipe has none, so there is nothing to test" in outcome.out
    teacher = results["slow"]["teacher"][0]
    # Four items are too few for a verdict, whatever the answers are: the least p is .125.
    assert teacher["verdict"] == "not shown"
    assert f"WARNING: {teacher['sentence']}" in outcome.out
    assert results["slow"]["memory"]["total"] > results["sft"]["memory"]["total"]


def test_lab_skills(command: Commands) -> None:
    skills = json.loads(command("lab", "eval", "--items", "8", "--json").out)
    before = skills.pop("before")
    assert [skill["suite"] for skill in skills.values()] == list(SKILLS.values())
    for skill in skills.values():
        assert skill["n"] == 8
        assert skill["ci95"][0] <= skill["mean"] <= skill["ci95"][1]
    assert {each["task"] for each in before} == set(ALL_TASKS)
    for each in before:
        assert 0 <= each["ci95"][0] <= each["mean"] <= each["ci95"][1] <= 1
        assert (each["style"] is None) == (each["task"] not in TASKS)
    text = command("lab", "eval", "--items", "8").out
    assert all(name in text for name in (*skills, *ALL_TASKS, "all samples wrong", "own form"))


def test_lab_pretraining_starts(command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.pretrain.skills.ITEMS_WHILE_PRETRAINING", 4)
    outcome = command("lab", "pretrain", tmp_path / "base", "--steps", "1", "--no-compile")
    assert outcome.code == 0, outcome.err
    assert "step 1/1  loss" in outcome.err
    assert "old-skills" in outcome.err
    assert (tmp_path / "base" / "model" / "model.safetensors").exists()


def test_an_interrupted_run_says_how_to_resume(
    command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    config = command.config(LAB_RUN)
    with monkeypatch.context() as patch:
        patch.setattr(StageLines, "step_done", interrupt)
        outcome = command("run", config, "-o", tmp_path / "a run")
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1] == f"holdfast: stopped; resume with `holdfast resume '{tmp_path / 'a run'}'`"
    with monkeypatch.context() as patch:
        patch.setattr("holdfast.stream.run.load_stream", interrupt)
        outcome = command("run", config, "-o", tmp_path / "never")
    assert (outcome.code, outcome.err) == (130, "holdfast: stopped; nothing was written\n")
    assert not (tmp_path / "never").exists()


def test_the_quick_demo_says_that_it_is_one(command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from holdfast.api import compare
    from holdfast.config.settings import CompareConfig

    def smaller(config: CompareConfig, *args: Any, **kwargs: Any) -> Any:
        assert [arm.label for arm in config.recipes] == ["anchored", "sft", "sdft", "sdpo", "grpo"]
        assert len(config.tasks) == 3
        return compare({**COMPARISON, "name": config.name}, *args, recipes=["sft"], **kwargs)

    monkeypatch.setattr("holdfast.api.compare", smaller)
    outcome = command("demo", "--quick", "-o", tmp_path / "demo")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("Quick demo: 3 steps per stage, 16 items per set.")
    assert json.loads((tmp_path / "demo" / "summary.json").read_text())["name"] == "quick-demo"


def test_warnings_are_one_line_and_unexpected_errors_are_not_hidden(
    command: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*_: Any) -> Path:
        warnings.warn("look\n  out", stacklevel=1)
        warnings.warn("of no use to users", FutureWarning, stacklevel=1)
        return Path("r.html")

    monkeypatch.setattr("holdfast.api.report", warn)
    assert command("report", "x").err == "holdfast: warning: look out\n"

    def full(*_: Any) -> Path:
        raise OSError(28, "No space left on device", "/data/r.html")

    monkeypatch.setattr("holdfast.api.report", full)
    outcome = command("report", "x")
    assert (outcome.code, outcome.err) == (
        2,
        "holdfast: error: /data/r.html: No space left on device (make room on that disk)\n",
    )

    def broken(*_: Any) -> Path:
        raise ZeroDivisionError

    monkeypatch.setattr("holdfast.api.report", broken)
    with pytest.raises(ZeroDivisionError):
        command("report", "x")


def test_overrides_find_entries_by_place_label_and_name() -> None:
    data = {
        "tasks": ["lab:facts", {"name": "b"}],
        "recipes": ["sft", {"label": "slow", "name": "sdft"}],
        "recipe": "sft",
    }
    changed = apply_overrides(
        data,
        {
            "tasks.facts.limit": 3,
            "tasks.1.limit": 4,
            "recipes.slow.ema_rate": 0.1,
            "recipes.sft.aggregation": "token_mean",
            "recipe.aggregation": "token_mean",
            "train.steps": 7,
        },
    )
    assert changed == {
        "tasks": [{"name": "facts", "lab": "facts", "limit": 3}, {"name": "b", "limit": 4}],
        "recipes": [
            {"name": "sft", "aggregation": "token_mean"},
            {"label": "slow", "name": "sdft", "ema_rate": 0.1},
        ],
        "recipe": {"name": "sft", "aggregation": "token_mean"},
        "train": {"steps": 7},
    }
    assert data["tasks"][0] == "lab:facts"


KEYS = st.sampled_from("abc")
BLOCKS = st.dictionaries(KEYS, st.integers() | st.dictionaries(KEYS, st.integers() | st.dictionaries(KEYS, st.none())))


@settings(max_examples=50)
@given(BLOCKS, st.lists(KEYS, min_size=1, max_size=3), st.integers())
def test_an_override_changes_its_own_setting_alone(data: dict[str, Any], path: list[str], value: int) -> None:
    block: Any = data
    for part in path[:-1]:
        block = block.get(part, {})
        if not isinstance(block, dict):
            return
    before = yaml.safe_dump(data)
    changed = apply_overrides(data, {".".join(path): value})
    assert yaml.safe_dump(data) == before
    inner: Any = changed
    for part in path[:-1]:
        inner = inner[part]
    assert inner.pop(path[-1]) == value
    if path[-1] in block:
        inner[path[-1]] = block[path[-1]]
        assert changed == data


def test_speed_and_time_left() -> None:
    rate = StepRate(steps=10, evaluations=3)
    assert (rate.tokens_per_second(), rate.seconds_left()) == (None, None)
    rate.evaluation(4.0)
    for _ in range(4):
        rate.step(tokens=300.0, seconds=2.0)
    assert rate.tokens_per_second() == 150
    assert rate.seconds_left() == 6 * 2 + 2 * 4
    assert rate.seconds_left(more_runs=1) == 6 * 2 + 2 * 4 + 10 * 2 + 3 * 4
    resumed = StepRate(10, 3, steps_done=8, evaluations_done=2)
    resumed.step(1.0, 2.0)
    assert resumed.seconds_left() == 2
    assert [duration(s) for s in (7.2, 187, 7500)] == ["0:07", "3:07", "2 h 05 min"]


def test_the_live_line_shows_where_the_run_is() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    columns = [TextColumn(f"{{task.fields[{field}]}}", markup=False) for field in ("place", "numbers", "left")]
    bar = Progress(*columns, console=console, auto_refresh=False)
    line = LiveLine(bar)

    def shown() -> str:
        with console.capture() as capture:
            console.print(bar.get_renderable())
        return capture.get().strip()

    assert shown() == "loading"
    line.comparison_run(2, 4)
    line.run_started("sdft", stages=2, steps=20, done=0)
    line.evaluation_started(0, sets=3)
    line.set_started("facts")
    assert shown() == "sdft, run 2/4 evaluating facts (1/3)"
    line.evaluation_done(0, {"facts": 0.25})
    line.stage_started(1, "facts", steps=10, done=0)
    line.step_done({"loss": 0.5, "reward": 0.25, "generated_tokens": 600, "trained_tokens": 300, "seconds": 0.5})
    assert shown().startswith("sdft, run 2/4: stage 1/2 facts loss 0.500  reward 0.25  1,800 tokens/s 0:")
    assert shown().endswith(" left")
    line.step_done({"loss": 0.5, "reward": None, "generated_tokens": 0, "trained_tokens": 300, "seconds": 0.5})
    assert "reward" not in shown()
    line.decided(Decision("repeats", 1, 2, 2, "facts", "critical", ("roll_back",), {}, "it repeats itself", "back"))
    assert "GUARD at step 2 of facts: it repeats itself (repeats): back" in console.file.getvalue()  # type: ignore
    line.evaluation_done(1, {"facts": 0.9})
    assert "sdft, run 2/4: stage 1/2 facts done, score 90.0%" in console.file.getvalue()  # type: ignore[attr-defined]
    line.evaluation_done(1, {"facts": None}, {"facts": 1.2345})
    assert "facts done, not judged, NLL 1.234 nats per token" in console.file.getvalue()  # type: ignore[attr-defined]

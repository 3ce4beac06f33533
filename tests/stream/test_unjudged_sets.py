"""`holdfast.stream.run`: tasks and suites that have only demonstrations, through every command and the callback."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import holdfast
from commands import Commands
from holdfast.errors import DataError
from holdfast.integrations import Watcher
from holdfast.summary.read import read_summary
from tiny_model import SAMPLE_TEXTS, build_tiny_model
from watched_training import load, write_suite

TOWNS = ("Oslo", "Lima", "Kyiv", "Rome", "Bern", "Cairo", "Delhi", "Quito")


def notes(greeting: str) -> list[dict[str, str]]:
    return [
        {"prompt": f"Write to {t} {n}.", "completion": f"{greeting} {t}, all is well."} for t in TOWNS for n in "ab"
    ]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """Two free-form tasks and a free-form suite."""
    for name, greeting in (("notes", "Dear"), ("letters", "Hello"), ("old", "Hi")):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in notes(greeting)))
    build_tiny_model(
        tmp_path / "model", hidden_size=32, vocab_size=300, texts=[*SAMPLE_TEXTS, "Dear Oslo, all is well."]
    )
    return {
        "name": "free",
        "model": {"path": str(tmp_path / "model")},
        "tasks": [
            {"name": name, "train": str(tmp_path / f"{name}.jsonl"), "test_fraction": 0.25}
            for name in ("notes", "letters")
        ],
        "suites": [{"name": "old", "test": str(tmp_path / "old.jsonl")}],
        "recipe": "sft",
        "train": {
            "steps": 4,
            "prompts_per_step": 4,
            "learning_rate": 5e-3,
            "max_prompt_length": 60,
            "max_completion_length": 40,
        },
        "eval": {"max_items": 4, "kl_items": 2, "probe_steps": 2, "probe_items": 3, "samples": 1, "drift_weights": 0},
        "guard": {"mode": "act"},
    }


def scores(value: Any) -> Iterator[Any]:
    """Every number in plain data that is called a score, an accuracy or a reward."""
    if isinstance(value, list):
        for each in value:
            yield from scores(each)
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("mean", "score", "reward", "accuracy", "ci95", "format_ok") and not isinstance(each, dict):
                yield each
            elif key != "nll_changes":
                yield from scores(each)


def test_no_command_makes_up_an_accuracy(config: dict[str, Any], command: Commands, tmp_path: Path) -> None:
    path, run = command.config(config), tmp_path / "run"
    done = command("run", path, "--output-dir", run)
    assert done.code == 0, done.err
    assert "not judged" in done.out
    assert "notes done, not judged, NLL" in done.err
    summary = read_summary(run / "summary.json")
    for file in sorted((run / "evals").iterdir()):
        evaluation = json.loads(file.read_text())
        assert set(scores(evaluation["sets"])) | set(scores(evaluation["samples"])) == {None}
        assert evaluation["items"] == {}
        assert {name: len(items) for name, items in evaluation["nll"].items()} == {"notes": 4, "letters": 4, "old": 4}
    probes = [json.loads(line) for line in (run / "probes.jsonl").read_text().splitlines()]
    assert all(probe["scores"] == {} and "old" in probe["nll"] for probe in probes)
    assert {e["set"] for e in summary["nll_changes"]} == {"notes", "letters", "old"}
    assert summary["decisions"] == []

    evaluated = command("eval", path, "--model", run / "models" / "stage-1", "--json", tmp_path / "eval.json")
    assert evaluated.code == 0, evaluated.err
    assert "NLL, nats per token" in evaluated.out
    assert evaluated.out.count("not judged") == 3
    assert "%" not in evaluated.out.replace("95% CI", "")
    nll = json.loads((tmp_path / "eval.json").read_text())["sets"]["notes"]["nll"]
    assert nll == pytest.approx(summary["evaluations"][1]["scores"]["notes"]["nll"], abs=1e-4)

    gated = command("gate", run)
    assert gated.code == 2
    assert "nothing judges any of its sets" in gated.err
    blended = command(
        "blend", config["model"]["path"], run / "models" / "stage-2", "--out", tmp_path / "b", "--config", path
    )
    assert blended.code == 0, blended.err
    assert "notes (not judged: NLL)" in blended.out
    assert "not judged" in (run / "report.html").read_text()
    checked = command("check", path)
    assert checked.code == 0, checked.err


def test_a_comparison_of_free_form_tasks_compares_the_nll(config: dict[str, Any], tmp_path: Path) -> None:
    del config["recipe"]
    summary = holdfast.compare(config | {"recipes": ["sft", "dft"], "seeds": [0, 1]}, tmp_path / "c")
    assert summary["verdict"][0].startswith("Not judged: notes, letters and old.")
    assert not any("points" in sentence for sentence in summary["verdict"])
    assert set(scores([r["metrics"]["final_score"] for r in summary["recipes"]])) <= {None}
    assert (tmp_path / "c" / "report.html").exists()


def test_the_callback_watches_a_suite_that_nothing_judges(tmp_path: Path, config: dict[str, Any]) -> None:
    model, tokenizer = load(Path(config["model"]["path"]))
    suites = [tmp_path / "old.jsonl", write_suite(tmp_path / "sums.jsonl")]
    watcher = Watcher(suites, tmp_path / "watched", items=4, max_new_tokens=6, probe_steps=1, drift=False)
    watcher.start(model, tokenizer)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.02 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0)))
    watcher.step({"loss": 1.0})
    summary = watcher.finish()
    (probe,) = [json.loads(line) for line in (tmp_path / "watched" / "probes.jsonl").read_text().splitlines()]
    assert set(probe["scores"]) == {"sums"}
    assert set(probe["nll"]) == {"old"}
    last = summary["evaluations"][-1]["scores"]["old"]
    assert (last["mean"], last["nll"]) == (None, pytest.approx(probe["nll"]["old"], abs=1e-4))
    assert [(e["set"], e["what"]) for e in summary["nll_changes"]] == [("old", "forgetting")]
    assert any(sentence.startswith("Not judged: old.") for sentence in summary["verdict"])


def test_a_demonstration_that_does_not_fit_is_one_line_for_a_watcher_too(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    model, tokenizer = load(Path(config["model"]["path"]))
    (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": "Write.", "completion": "x" * 9000}) + "\n")
    watcher = Watcher([tmp_path / "long.jsonl"], tmp_path / "watched", max_new_tokens=6, drift=False)
    with pytest.raises(DataError, match=r"more than the model's context of \d+ \(leave the item out\)$"):
        watcher.start(model, tokenizer)


@pytest.mark.learning
def test_sft_learns_a_free_form_task_by_its_nll(config: dict[str, Any], tmp_path: Path) -> None:
    config |= {"tasks": config["tasks"][:1], "suites": []}
    config["train"] |= {"steps": 60, "prompts_per_step": 8}
    config["eval"] |= {"max_items": None, "probe_steps": 20}
    summary = holdfast.run(config, tmp_path / "run")
    (entry,) = summary["nll_changes"]
    assert entry["before"] > 3
    assert entry["after"] < 1.5
    assert entry["outcome"] == "fell"
    assert summary["verdict"][0] == "After 1 stage sft learned notes: the NLL of the demonstrations fell."
    along = [probe["nll"]["notes"] for probe in summary["probes"]]
    assert along == sorted(along, reverse=True)
    assert set(scores(summary["evaluations"])) == {None}
    assert "accuracy" not in " ".join(summary["verdict"])

"""`holdfast.cli.rewrite`: the command, what it writes, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from commands import Commands
from holdfast import api
from holdfast.lab.tasks import lab_task
from holdfast.stream import rewrite as rewriting
from small_runs import metrics_records

TEMPLATE = "{prompt}\n\nRepeat this: {demonstration}"


@pytest.fixture
def commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(tmp_path, capsys)


def data(folder: Path, count: int = 24) -> Path:
    path = folder / "facts.jsonl"
    records = (
        {"id": each.id, "prompt": list(each.messages), "completion": each.demonstration, "note": "kept"}
        for each in lab_task("facts").train[:count]
    )
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def stream(folder: Path) -> dict[str, Any]:
    return {
        "tasks": [{"name": "facts", "train": str(data(folder)), "test_fraction": 0.25, "verifier": "lab_judge:verify"}],
        "suites": [],
        "recipe": "sft",
        "train": {"steps": 3, "prompts_per_step": 4, "warmup_steps": 0}
        | {"max_prompt_length": 160, "max_completion_length": 56},
        "eval": {"max_items": 4, "kl_items": 0, "demonstration_items": 0},
    }


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestRewrite:
    def test_a_training_file_gets_rewritten_demonstrations_in_its_own_columns(self, commands: Commands) -> None:
        source, out, numbers = data(commands.folder), commands.folder / "out.jsonl", commands.folder / "out.json"
        options = ("--model", "lab", "--verifier", "lab_judge:verify", "--template", TEMPLATE, "--json", numbers)
        done = commands("rewrite", source, "-o", out, *options)
        assert done.code == 0, done.err
        result = json.loads(numbers.read_text())
        before, after = lines(source), lines(out)
        assert [each.keys() for each in before] == [each.keys() for each in after]
        changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert len(changed) == result["outcomes"]["rewritten"] > 4
        assert {key for i in changed for key in before[i] if before[i][key] != after[i][key]} == {"completion"}
        assert result["after"]["distance"] < result["before"]["distance"]
        taken = result["outcomes"]["rewritten"] + result["outcomes"].get("same words", 0)
        assert f"facts: {taken} of 24 demonstrations are in the model's own voice now" in done.out
        assert f"train on it with `train: {out}`" in done.out
        assert not list(commands.folder.glob(".*.rewriting"))

    def test_the_recipe_and_the_file_give_the_same_training(self, commands: Commands) -> None:
        config = commands.config(stream(commands.folder))
        out = commands.folder / "out.jsonl"
        assert commands("rewrite", config, "-o", out, "--template", TEMPLATE).code == 0
        recipe = {"name": "rewrite_sft", "template": TEMPLATE}
        api.run(config, commands.folder / "recipe", recipe=recipe)
        api.run(config, commands.folder / "file", **{"tasks.facts.train": str(out)})
        ours, theirs = (metrics_records(commands.folder / name) for name in ("recipe", "file"))
        assert [each["loss"] for each in ours] == [each["loss"] for each in theirs]

    def test_held_out_records_stay_as_they_are(self, commands: Commands) -> None:
        config, out = commands.config(stream(commands.folder)), commands.folder / "out.jsonl"
        done = commands("rewrite", config, "-o", out, "--template", TEMPLATE)
        assert "6 more records are not trained on, and stay as they were" in done.out
        assert len(lines(out)) == 24

    def test_a_stopped_command_takes_up_what_it_has(self, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rewriting, "CHUNK", 4)
        source, whole, out = data(commands.folder), commands.folder / "whole.jsonl", commands.folder / "out.jsonl"
        options: dict[str, Any] = {"model": "lab", "verifier": "lab_judge:verify"}
        options["rewriting"] = {"template": TEMPLATE, "greedy_first": False}
        api.rewrite(source, whole, **options)

        def stop(done: int, of: int) -> None:
            if done == 12:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            api.rewrite(source, out, on_examples=stop, **options)
        assert not out.exists()
        left = out.with_name(".out.jsonl.rewriting")
        first = left.read_text().split("\n")[1]
        left.write_text(left.read_text() + f"{first}\n\0\n")  # by another process, and by a power cut
        seen: list[int] = []
        api.rewrite(source, out, on_examples=lambda done, of: seen.append(done), **options)
        assert seen[0] == 12
        assert out.read_bytes() == whole.read_bytes()

    def test_what_another_job_has_left_is_not_taken(self, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
        source, out = data(commands.folder, 6), commands.folder / "out.jsonl"
        options: dict[str, Any] = {"model": "lab", "verifier": "lab_judge:verify"}

        def stop(done: int, of: int) -> None:
            if done == of:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            api.rewrite(source, out, on_examples=stop, rewriting={"template": TEMPLATE}, **options)
        seen: list[int] = []
        other = {"template": TEMPLATE, "tries": 3}
        api.rewrite(source, out, on_examples=lambda done, of: seen.append(done), rewriting=other, **options)
        assert seen[0] == 0

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ((), "no model is named that could rewrite it"),
            (("--model", "lab"), "nothing says whether a rewritten demonstration is right"),
            (("--model", "lab", "--check", "contains", "--template", "Look:"), "no placeholder {prompt}"),
            (("--model", "lab", "--check", "guess"), "check is 'guess'"),
            (("--model", "lab", "--check", "contains", "--temperature", "0"), "the temperature is 0"),
        ],
    )
    def test_what_cannot_be_done_is_said_in_one_line(
        self, options: tuple[str, ...], message: str, commands: Commands
    ) -> None:
        failed = commands("rewrite", data(commands.folder), "-o", commands.folder / "out.jsonl", *options)
        assert failed.code == 2
        assert message in failed.err
        assert len(failed.err.strip().splitlines()) == 1

    def test_an_output_that_exists_is_not_replaced(self, commands: Commands) -> None:
        out = commands.folder / "out.jsonl"
        out.write_text("mine")
        failed = commands("rewrite", data(commands.folder), "-o", out, "--model", "lab", "--check", "contains")
        assert (failed.code, out.read_text()) == (2, "mine")
        assert "already exists" in failed.err

    def test_one_of_several_tasks_must_be_named(self, commands: Commands) -> None:
        base = stream(commands.folder)
        base["tasks"] = [base["tasks"][0], {"name": "calculation", "lab": "calculation"}]
        config, out = commands.config(base), commands.folder / "out.jsonl"
        assert "name one: facts, calculation" in commands("rewrite", config, "-o", out).err
        assert "no task is named 'fact'" in commands("rewrite", config, "-o", out, "--task", "fact").err
        assert "rewrite_sft" in commands("rewrite", config, "-o", out, "--task", "calculation").err


class TestAdviseOnVoice:
    def test_it_measures_on_request_and_says_how_otherwise(self, commands: Commands) -> None:
        config, numbers = commands.config(stream(commands.folder)), commands.folder / "advice.json"
        without = commands("advise", config)
        assert "`holdfast advise --measure` and `holdfast check` measure it" in without.out
        measured = commands("advise", config, "--measure", "--json", numbers)
        assert "facts: demonstrations are" in measured.out
        (distance,) = json.loads(numbers.read_text())["demonstrations"]
        assert distance["sentence"] in measured.out

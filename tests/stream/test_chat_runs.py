"""`holdfast.stream.run`: runs with chat templates of every kind, from the data to the exported model's own answers."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from commands import Commands
from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig
from holdfast.store.files import read_json
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.run import Run
from tiny_model import build_tiny_model

QUESTION = [{"role": "user", "content": "Which?"}]
THOUGHT = "<think>\nhm\n</think>\n\nred 7"
TURNS = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
START = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
CHANNEL = TURNS.replace("m.role + '\n'", "m.role + ('<|endoftext|>final' if m.role == 'assistant' else '') + '\n'")
TEMPLATES = {
    "the prompt opens the thoughts": TURNS + START.replace("assistant\n", "assistant\n<think>\n"),
    "no generation prompt": TURNS,
    "a channel before the answer": CHANNEL + START.replace("assistant\n", "assistant"),
}


def model_with(folder: Path, template: str) -> Path:
    build_tiny_model(folder, hidden_size=64, vocab_size=300, texts=[THOUGHT, "Which? system user assistant final"])
    (folder / "chat_template.jinja").write_text(template)
    return folder


def config_of(folder: Path, template: str, records: list[dict[str, Any]], **task: Any) -> dict[str, Any]:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    sets = {"train": str(path), "test": str(path)}
    return {
        "model": {"path": str(model_with(folder / "model", template))},
        "tasks": [{"name": "color", **sets, **task}],
        "recipe": "sft",
        "train": {"steps": 40, "prompts_per_step": 1, "learning_rate": 3e-3, "max_completion_length": 32},
        "eval": {"kl_items": 0},
    }


@pytest.mark.parametrize("demonstration", ["red 7", THOUGHT])
@pytest.mark.parametrize("kind", TEMPLATES)
def test_what_is_learned_is_scored_and_exported_as_the_template_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, demonstration: str
) -> None:
    record = {"prompt": "Which?", "completion": demonstration, "answer": "red 7"}
    knows = kind == "the prompt opens the thoughts"
    verifier = {"verifier": "judges:red_7"} if knows or demonstration == "red 7" else {}
    config = config_of(tmp_path, TEMPLATES[kind], [record], **verifier)
    other = {"prompt": "Which one?", "completion": demonstration, "answer": "red 7"}
    (tmp_path / "other.jsonl").write_text(json.dumps(other) + "\n")
    config["tasks"][0]["test"] = str(tmp_path / "other.jsonl")
    config["suites"] = [{"name": "same", "test": str(tmp_path / "data.jsonl"), **verifier}]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    holdfast = Commands(tmp_path, capsys)
    done = holdfast("run", tmp_path / "config.yaml", "--output-dir", tmp_path / "run", "--quiet")
    assert done.code == 0, done.err
    evaluation = read_json(tmp_path / "run" / "evals" / "stage-1.json")
    assert evaluation["samples"]["same"][0]["text"] == demonstration
    assert evaluation["items"]["same"] == [1.0]

    assert holdfast("export", tmp_path / "run", "--output", tmp_path / "out").code == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        ids = model.generate(**prompt, max_new_tokens=32, do_sample=False)[0]
    written = tokenizer.decode(ids)
    assert written.count("<think>") == written.count("</think>") == (1 if knows or demonstration == THOUGHT else 0)
    assert "red 7<|im_end|>" in written


def test_the_date_is_the_runs(tmp_path: Path) -> None:
    records = [{"prompt": f"Which {n}?", "completion": "a"} for n in range(9)]
    config = parse_config(config_of(tmp_path, "{{ strftime_now('%Y-%m-%d') }}" + TURNS + START, records), RunConfig)
    config = config.model_copy(update={"tasks": [config.tasks[0].model_copy(update={"test": None})]})
    directory = RunDirectory(tmp_path / "run")
    run = Run(config, directory)
    run.prepare()
    assert run.policy.today == datetime.now(UTC).date()
    directory.path.mkdir()
    run._write_manifest()
    whole = read_json(directory.manifest)
    earlier = {key: value for key, value in whole.items() if key != "date"}  # earlier versions wrote no date
    for manifest in (
        earlier | {"created": "2024-02-29T09:00:00+00:00"},
        whole | {"created": "2025-01-01T00:00:00", "date": "2024-02-29"},
    ):
        directory.write_json(directory.manifest, manifest)
        resumed = Run(config, directory)
        resumed.prepare()
        (_, prompt), *_ = resumed.collector.pool.some("color", 1, "any")
        assert resumed.policy.tokenizer.decode(prompt.prompt_ids).startswith("2024-02-29<|im_start|>user")


@pytest.mark.parametrize("drops", [False, True])
def test_check_plays_one_reply(tmp_path: Path, capsys: pytest.CaptureFixture[str], drops: bool) -> None:
    tool = "" if drops else "{{ m.content | tojson }}"
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        f"{{% if m.role == 'tool' %}}{tool}{{% else %}}{{{{ m.content }}}}{{% endif %}}{{{{ '<|im_end|>\n' }}}}"
        "{% endfor %}" + START
    )
    config = config_of(tmp_path, template, [{"prompt": f"Which {n}?"} for n in range(8)])
    task = {"name": "color", "train": str(tmp_path / "data.jsonl"), "environment_factory": "judges:Quoting"}
    config |= {"tasks": [task], "recipe": {"name": "grpo", "num_generations": 2}}
    config["train"] |= {"steps": 1}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    holdfast = Commands(tmp_path, capsys)
    checked = holdfast("check", path, "--items", "2")
    if drops:
        assert checked.code == 2
        assert "does not write a reply of role 'tool'" in checked.err
    else:
        assert checked.code == 0, checked.err
        assert holdfast("run", path, "--output-dir", tmp_path / "run", "--quiet").code == 0


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("Hello.", "the chat template does not write a user's turn"),
        (TURNS.replace("messages", "messages if m.role != 'user'"), "the chat template does not write a user's turn"),
        (TURNS.replace("messages", "messages[:1]") + START, "the chat template does not write an assistant's turn"),
        ("{{ 1 // 0 }}", "the chat template does not write a user's turn"),
    ],
)
def test_a_template_that_cannot_be_learned_from_is_refused_when_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], template: str, message: str
) -> None:
    config = config_of(tmp_path, template, [{"prompt": "Which?", "completion": "a"}])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    (tmp_path / "other.jsonl").write_text('{"prompt": "Which one?", "completion": "a"}\n')
    checked = Commands(tmp_path, capsys)("check", path, "--set", f"tasks.0.test={tmp_path / 'other.jsonl'}")
    assert checked.code == 2
    assert message in checked.err
    assert checked.err.count("\n") == 1

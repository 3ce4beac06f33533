"""`holdfast.tasks.load`: data files in forms of the wild, each through `holdfast check` and a run."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
import yaml

from commands import Commands
from holdfast.config.settings import TaskSettings
from holdfast.tasks.load import load_task
from tiny_model import SAMPLE_TEXTS, build_tiny_model
from wild_records import call, said, tool, turn

TEMPLATE = """\
{%- if tools -%}
{{- '<|im_start|>system\\n' -}}
{%- for tool in tools -%}{{- tool | tojson + '\\n' -}}{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.reasoning_content -%}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' -}}
{%- endif -%}
{{- message.content -}}
{%- for call in message.tool_calls or [] -%}
{{- '<tool_call>\\n' + call.function | tojson + '\\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""
"""ChatML with tools, calls of tools and thoughts."""

COLORS = ["red", "blue", "green", "gray", "pink", "black"]


def pairs(folder: Path) -> dict[str, Any]:
    lines = [json.dumps({"prompt": f"Say {color}.", "completion": color}) for color in COLORS]
    (folder / "d.jsonl").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    return {"train": "d.jsonl"}


def conversational_pairs(folder: Path) -> dict[str, Any]:
    def pair(color: str) -> dict[str, Any]:
        prompt = [turn("developer", "Be short."), turn("user", [{"type": "text", "text": f"Say {color}."}])]
        return {"prompt": prompt, "completion": [turn("assistant", color, reasoning="easy")]}

    (folder / "d.json").write_text(json.dumps([pair(color) for color in COLORS], indent=1))
    return {"train": "d.json"}


def tool_calls(folder: Path) -> dict[str, Any]:
    def dialog(n: int, color: str) -> dict[str, Any]:
        turns = [
            turn("user", f"Paint {color}."),
            turn("assistant", None, tool_calls=[call("paint", f'{{"color": "{color}"}}', id=f"c{n}")], thinking="so"),
            turn("tool", '{"done": true}', tool_call_id=f"c{n}"),
            turn("assistant", f"It is {color}."),
        ]
        return {"messages": turns[: 2 if n % 2 else 4], "tools": [tool("paint", color="string")]}

    lines = "".join(json.dumps(dialog(n, color)) + "\n" for n, color in enumerate(COLORS))
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return {"train": "d.jsonl.gz", "train_on": "all"}


def sharegpt(folder: Path) -> dict[str, Any]:
    def dialog(color: str) -> dict[str, Any]:
        turns = [
            said("human", f"Paint {color}."),
            said("function_call", json.dumps({"name": "paint", "arguments": {"color": color}})),
            said("observation", "done"),
            said("gpt", f"It is {color}."),
        ]
        tools = json.dumps([{"name": "paint", "parameters": {}}])
        return {"conversations": turns, "system": "Be short.", "tools": tools}

    (folder / "d.json").write_text(json.dumps([dialog(color) for color in COLORS]))
    return {"train": "d.json"}


def alpaca(folder: Path) -> dict[str, Any]:
    records = [
        {"instruction": f"Name it, {n}.", "input": color if n % 2 else "", "output": color}
        for n, color in enumerate(COLORS)
    ]
    (folder / "d.json").write_text(json.dumps(records))
    return {"train": "d.json"}


def verl(folder: Path) -> dict[str, Any]:
    records = [
        {
            "data_source": "colors",
            "prompt": [turn("user", f"Say {color}.")],
            "ability": "words",
            "reward_model": {"style": "rule", "ground_truth": color},
            "extra_info": {"index": n, "split": "train", "answer": f"<think>\n{n}\n</think>\n\n{color}"},
        }
        for n, color in enumerate(COLORS)
    ]
    pandas.DataFrame(records).to_parquet(folder / "d.parquet")
    return {"train": "d.parquet", "columns": {"completion": "extra_info.answer", "answer": "reward_model.ground_truth"}}


def spreadsheet(folder: Path) -> dict[str, Any]:
    lines = ["Topic;Question;Reply", *(f'{color};"Say it;\n{{Topic}} {n}?";{color}' for n, color in enumerate(COLORS))]
    (folder / "d.csv").write_bytes("\r\n".join(lines).encode("utf-16"))
    return {"train": "d.csv", "prompt_template": "{Topic}: {Question}", "columns": {"completion": "Reply"}}


def tab_separated(folder: Path) -> dict[str, Any]:
    lines = ["prompt\tcompletion\tanswer", *(f"Say {color}.\t{color}\t{color}" for color in COLORS), "broken line"]
    (folder / "d.tsv").write_text("\n".join(lines))
    return {"train": "d.tsv", "bad_records": "drop"}


def saved_dataset(folder: Path) -> dict[str, Any]:
    def dialog(color: str) -> dict[str, Any]:
        turns = [turn("user", "hi"), turn("assistant", "Yes?", weight=1), turn("user", f"Say {color}.")]
        turns += [turn("assistant", color, weight=1), turn("user", "Now?"), turn("assistant", "No", weight=0)]
        return {"messages": turns}

    train = datasets.Dataset.from_list([dialog(color) for color in COLORS]).with_format("numpy")
    datasets.DatasetDict({"train": train}).save_to_disk(folder / "saved")
    return {"dataset": str(folder / "saved"), "train": "train"}


def dataset_of_files(folder: Path) -> dict[str, Any]:
    (folder / "files").mkdir()
    for split, colors in (("train", COLORS[:4]), ("test", COLORS[4:])):
        lines = (json.dumps({"prompt": f"Say {color}.", "chosen": color, "rejected": "no"}) for color in colors)
        (folder / "files" / f"{split}.jsonl").write_text("\n".join(lines))
    return {"dataset": str(folder / "files"), "train": "train", "test": "test", "columns": {"completion": "chosen"}}


def wrapped_splits(folder: Path) -> dict[str, Any]:
    records = [{"prompt": f"Say {color}.", "completion": f"{color}</think>{color}"} for color in COLORS]
    (folder / "d.json").write_text(json.dumps({"version": 1, "train": records[:4], "test": records[4:]}, indent=2))
    return {"train": "d.json", "test": "d.json"}


def rendered_prompts(folder: Path) -> dict[str, Any]:
    prompts = [f"<|im_start|>user\nSay {color}.<|im_end|>\n<|im_start|>assistant\n" for color in COLORS]
    (folder / "d.json").write_text(json.dumps({"rendered_prompt": prompts, "completion": COLORS}))
    return {"train": "d.json"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wild") / "model"
    build_tiny_model(folder, hidden_size=32, layers=1, vocab_size=300, texts=SAMPLE_TEXTS)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


EXPECTED: dict[Callable[[Path], dict[str, Any]], tuple[str, str]] = {
    pairs: ("user: Say {}.", "{}"),
    conversational_pairs: ("system: Be short.|user: Say {}.", "<think>\neasy\n</think>\n\n{}"),
    tool_calls: ("user: Paint {}.", '<think>\nso\n</think>\n\n{{"name": "paint", "arguments": {{"color": "{}"}}}}'),
    sharegpt: ("system: Be short.|user: Paint {}.|assistant: |tool: done", "It is {}."),
    alpaca: ("user: Name it, 1.\n\n{}", "{}"),
    verl: ("user: Say {}.", "<think>\n1\n</think>\n\n{}"),
    spreadsheet: ("user: {}: Say it;\n{{Topic}} 1?", "{}"),
    tab_separated: ("user: Say {}.", "{}"),
    saved_dataset: ("user: hi|assistant: Yes?|user: Say {}.", "{}"),
    dataset_of_files: ("user: Say {}.", "{}"),
    wrapped_splits: ("user: Say {}.", "<think>\n{0}\n</think>\n\n{0}"),
    rendered_prompts: ("user: <|im_start|>user\nSay {}.<|im_end|>\n<|im_start|>assistant\n", "{}"),
}
"""Each form, and the prompt and demonstration of its second record, with {} for the color."""


@pytest.mark.parametrize("form", EXPECTED, ids=lambda form: form.__name__)
@pytest.mark.filterwarnings("ignore:.*records? (is|are) faulty")
def test_data_in_a_form_of_the_wild_is_read_checked_and_trained_on(
    form: Callable[[Path], dict[str, Any]], model: Path, command: Commands
):
    settings = {"name": "colors", **form(command.folder)}
    if "dataset" not in settings:
        settings |= {key: str(command.folder / settings[key]) for key in ("train", "test") if key in settings}
    task = load_task(TaskSettings.model_validate(settings))
    shown = {
        ("|".join(f"{m['role']}: {m['content']}" for m in example.messages), example.demonstration)
        for example in [*task.train, *task.test]
    }
    assert len(shown) == 6
    prompt, demonstration = EXPECTED[form]
    assert (prompt.format("blue"), demonstration.format("blue")) in shown

    config = {
        "name": "wild",
        "model": {"path": str(model)},
        "tasks": [settings],
        "suites": [],
        "recipe": "sft",
        "train": {"steps": 1, "prompts_per_step": 2, "max_prompt_length": 512, "max_completion_length": 128},
        "eval": {"max_items": 1, "kl_items": 1, "samples": 1, "max_completion_length": 4},
        "output_dir": str(command.folder / "run"),
    }
    path = command.folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    checked = command("check", path)
    assert (checked.code, "Traceback" in checked.err) == (0, False), checked.err
    ran = command("run", path, "--quiet")
    assert ran.code == 0, ran.err
    assert json.loads((command.folder / "run" / "summary.json").read_text())["status"] == "complete"

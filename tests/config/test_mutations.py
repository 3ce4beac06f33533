"""`holdfast.config`: configurations that differ from a good one by a mistake are read, or refused in one clear line.

What is read is written into the run directory and read again by `resume`, so it must come back equal.
"""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cases import amount
from holdfast.cli.overrides import parse_overrides
from holdfast.config.base import block_in
from holdfast.config.load import dump_config, load_config, load_kept_config
from holdfast.config.settings import CompareConfig, RunConfig
from holdfast.config.yaml import parse_yaml
from holdfast.errors import ConfigError
from holdfast.recipes import RECIPES
from torture import Search

RUN: Mapping[str, Any] = {
    "name": "small",
    "model": {"path": "lab", "lora": {"r": 2, "target_modules": ["q_proj"]}, "chat_template_kwargs": {"date": "today"}},
    "tasks": [
        {"name": "facts", "lab": "facts", "limit": 32, "lab_settings": {"voice": 0.5}},
        {"name": "files", "train": "data.jsonl", "columns": {"prompt": "question"}, "test_fraction": 0.2},
        {"name": "sums", "gym": "basic_arithmetic", "gym_settings": {"min_terms": 2}},
    ],
    "suites": ["lab:retention", {"name": "own", "test": "data.jsonl", "kind": "ood"}],
    "recipe": {"name": "sdft", "ema_rate": 0.02},
    "train": {"steps": 2, "learning_rate": 1e-4},
    "eval": {"max_items": 16, "pass_at_k": [1, 2]},
    "guard": {"mode": "act", "rules": {"reward_collapse": {"reward_fall": 0.3}}},
    "seed": 1,
}

TEXTS = (
    "2024-13-45",
    "2024-02-30T99:99:99",
    "!!timestamp 2024-13-45",
    "!!int abc",
    "!!float x",
    "!!bool perhaps",
    "!!binary ###",
    "!!set {a}",
    "!!omap [a]",
    "!!python/name:os.system x",
    "!own x",
    "!!map x",
    "!!seq x",
    "!!str [a]",
    "0x_",
    "0b_",
    "0o8",
    "-",
    "?",
    "=",
    "9" * 5000,
    "-0x" + "f" * 5000,
    "1e999",
    "-1e999",
    ".inf",
    "-.inf",
    ".nan",
    "1" + "0" * 30,
    "010",
    "1:30",
    "1_0",
    "~",
    "null",
    "yes",
    "off",
    "''",
    "' '",
    '"\\0"',
    '"\\e[31mred"',
    '"\\ud800"',
    '"\\U00110000"',
    '"\\u202egnp.exe"',
    "\x1b[31m",
    "[" * 1500 + "]" * 1500,
    "{a: " * 1500 + "1" + "}" * 1500,
    "&a [*a]",
    "&a {b: *a}",
    "*nowhere",
    "{<<: {a: 1}}",
    "{<<: 3}",
    "&x [a, b]",
    "{1: 2}",
    "{? [a]: 1}",
    "{a: 1, a: 2}",
    "[",
    "}",
    "'open",
    "a: b: c",
    "%TAG",
    "x" * 100_000,
    "/dev/zero",
    "/dev/full/x",
    "/proc/self/mem",
    "../" * 2000,
    "name/" + "y" * 300,
    "lab:",
    ":",
    "lab:facts:facts",
    "module:function",
    "é" * 300,
    "{}",
    "[]",
    "[[]]",
    "[null]",
    "0",
    "-1",
    "0.5",
    "1.0",
    "3",
    "true",
)
"""Values as they may be written."""


DATA: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 3, 10**30, -(10**400), 0.0, -0.5, 2.5, 1e308, float("inf"), float("nan"), "", " ", "x"),
    *("sdft", "\x00", "\ud800", "a\nb", "\x1b[2J", "y" * 5000, [], {}, [None], [[]], ["a", "a"], {"a": 1}, {1: 2}),
    *({"name": 3}, {"": ""}, (1, 2), {"a"}, b"x", 1j, object),
)
"""Values as Python may have them."""


def keys() -> list[str]:
    """All settings by their dotted keys, those of all recipes included."""
    found = [*_keys_of(RunConfig, ""), *(f"tasks.0.{key}" for key in _keys_of(_item(RunConfig, "tasks"), ""))]
    found += [f"suites.1.{key}" for key in _keys_of(_item(RunConfig, "suites"), "")]
    return found + [f"recipe.{key}" for recipe in RECIPES.values() for key in recipe.model_fields]


def _item(block: Any, name: str) -> Any:
    return block_in(block.model_fields[name].annotation)


def _keys_of(block: Any, prefix: str) -> Iterator[str]:
    for name, each in block.model_fields.items():
        yield prefix + name
        inner = block_in(each.annotation)
        if inner is not None and name not in ("tasks", "suites", "recipe", "recipes"):
            yield from _keys_of(inner, f"{prefix}{name}.")


def _mutated_text(text: str, generator: random.Random) -> str:
    """Text with one to three slips of hand or file."""
    for _ in range(generator.randint(1, 3)):
        place = generator.randrange(len(text) + 1)
        lines = text.split("\n")
        slip = generator.randrange(7)
        if slip == 0:
            text = text[:place] + text[place + generator.randint(1, 4) :]
        elif slip == 1:
            text = text[:place] + generator.choice(list(":-#&*!|>'\"%@`{}[],?\t\x00\x07\u2028 é")) + text[place:]
        elif slip == 2:
            text = "\n".join([*lines[: place % len(lines)], *lines[place % len(lines) + 1 :]])
        elif slip == 3:
            text = "\n".join([*lines, *lines[place % len(lines) :]])
        elif slip == 4:
            lines[place % len(lines)] = " " * generator.randint(1, 3) + lines[place % len(lines)]
            text = "\n".join(lines)
        elif slip == 5:
            lines[place % len(lines)] = lines[place % len(lines)].partition(":")[0] + ": " + generator.choice(TEXTS)
            text = "\n".join(lines)
        else:
            text = text[:place]
        text = text or "a"
    return text


def _checked(path: Path, kind: type[RunConfig] | type[CompareConfig], overrides: Mapping[str, Any]) -> Any:
    """Read a configuration, and read what a run directory keeps of it."""
    config = load_config(path, kind, overrides)
    kept = path.with_name("kept.yaml")
    kept.write_text(dump_config(config), encoding="utf-8")
    assert load_kept_config(kept, kind) == config, "what the run directory keeps is another configuration"
    return config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data.jsonl").write_text('{"question": "a", "completion": "b"}\n')
    return tmp_path


def test_the_configuration_that_is_mutated_is_read(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(dict(RUN)))
    assert _checked(path, RunConfig, {}).seed == 1


@pytest.mark.torture
def test_mutations_are_read_or_refused_in_one_clear_line(folder: Path) -> None:
    search = Search("configurations", seconds=5)
    generator = random.Random(0)
    text, path, settings = yaml.safe_dump(dict(RUN), sort_keys=False), folder / "config.yaml", keys()
    comparison = text.replace("recipe:\n  name: sdft\n  ema_rate: 0.02\n", "recipes: [sft, grpo]\n").replace(
        "seed: 1", ""
    )
    assert "recipes" in comparison
    for count in range(amount(400, 2400)):
        kind = ("text", "value by --set", "value in Python", "text of a comparison")[count % 4]
        key, value = generator.choice(settings), generator.choice(TEXTS)
        overrides: Mapping[str, Any] = {}
        if kind.startswith("text"):
            written = _mutated_text(text if kind == "text" else comparison, generator)
            path.write_text(written, encoding="utf-8")
            form = RunConfig if kind == "text" else CompareConfig
            search.attempt(kind, written, lambda form=form: _checked(path, form, {}))  # type: ignore[misc]
            continue
        path.write_text(text, encoding="utf-8")
        if kind == "value in Python":
            overrides = {key: generator.choice(DATA)}
            search.attempt(kind, f"{key}={overrides[key]!r}", lambda o=overrides: _checked(path, RunConfig, o))  # type: ignore[misc]
        else:
            given = f"{key}={value}"
            search.attempt(kind, given, lambda g=given: _checked(path, RunConfig, parse_overrides([g])))  # type: ignore[misc]
    search.conclude()


def test_every_written_value_is_text_that_a_key_may_have_or_refused(folder: Path) -> None:
    search = Search("configurations", seconds=5)
    for value in TEXTS:
        search.attempt("value in YAML", value, lambda v=value: parse_yaml(f"a:\n  b: {v}\n", "config.yaml"))  # type: ignore[misc]
        search.attempt("value by --set", value, lambda v=value: parse_overrides([f"train.steps={v}"]))  # type: ignore[misc]
        search.attempt("key by --set", value, lambda v=value: parse_overrides([f"{v}=1"]))  # type: ignore[misc]
    search.conclude()


def test_an_alias_bomb_is_refused_at_once() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    with pytest.raises(ConfigError, match="more than 20000 values"):
        parse_yaml(bomb, "config.yaml")


def test_what_an_alias_repeats_is_a_copy() -> None:
    read = parse_yaml("a: &x {b: [1]}\nc: *x\n", "config.yaml")
    read["a"]["b"].append(2)
    assert read["c"] == {"b": [1]}


@pytest.mark.parametrize("text", ["1e5", "2024-01-01", "010", "1:30", "=", "<<", "yes", "~", "0x1f", "1_0", ".inf"])
def test_text_that_looks_like_something_else_comes_back_as_text(folder: Path, text: str) -> None:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**RUN, "model": {"path": "lab", "chat_template_kwargs": {"date": text}}}))
    read = _checked(path, RunConfig, {"model.chat_template_kwargs.date": text})
    assert read.model.chat_template_kwargs["date"] == text

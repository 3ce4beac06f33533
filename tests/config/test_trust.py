"""`holdfast.config.trust`: what a run directory may ask of this machine, and what only the user's word allows.

`KEYS` lists every key by which a configuration reaches code, files or hosts. A new key that takes text is in no list,
and fails a test until somebody has thought about it.
"""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from holdfast.config.base import block_in
from holdfast.config.load import load_config, load_kept_config
from holdfast.config.overrides import apply_overrides
from holdfast.config.settings import CompareConfig, RunConfig
from holdfast.config.trust import NO_WORD, UsersWord
from holdfast.errors import ConfigError
from holdfast.recipes import RECIPES

FILES: Mapping[str, Any] = {"name": "r", "train": "/data/train.jsonl"}
BASE: Mapping[str, Any] = {
    "tasks": [FILES, {"name": "code", "train": "/data/code.jsonl", "code": {}}],
    "suites": [
        {"name": "s", "test": "/data/test.jsonl"},
        {"name": "gym", "gym": "chain_sum"},
        {"name": "harness", "lm_eval": "mmlu"},
        {"name": "humaneval", "lm_eval": "humaneval", "lm_eval_settings": {"run_code": True}},
    ],
    "recipe": {"name": "rad", "prompts": "lab:facts"},
}

TRUST, UNPROTECTED = UsersWord(trust_remote_code=True), UsersWord(unprotected=True)


class Key(NamedTuple):
    """What a key of a configuration reaches, and what becomes of it in a run directory.

    Args:
        reaches: in words.
        setting: as it is in `BASE`, and a value that reaches something.
        word: what allows it; None where it stands without.
        never: nothing allows it, because it would be code of the run directory itself.
    """

    reaches: str
    setting: tuple[str, Any]
    word: UsersWord | None = None
    never: bool = False


KEYS: Mapping[str, Key] = {
    # Code.
    "model.trust_remote_code": Key("code in a model folder", ("model.trust_remote_code", True), TRUST),
    "tasks.run_code": Key("programs, as you", ("tasks.code.run_code", "unprotected"), UNPROTECTED),
    "suites.run_code": Key("answers to gym, as you", ("suites.gym.run_code", "unprotected"), UNPROTECTED),
    "suites.lm_eval_settings.run_code": Key(
        "programs, as you", ("suites.humaneval.lm_eval_settings.run_code", "unprotected"), UNPROTECTED
    ),
    "suites.lm_eval": Key("code that a task file names", ("suites.harness.lm_eval", "task.yaml"), TRUST),
    "tasks.verifier": Key("a function of a module", ("tasks.r.verifier", "RUN:verify"), never=True),
    "suites.verifier": Key("a function of a module", ("suites.s.verifier", "RUN:verify"), never=True),
    "tasks.environment_factory": Key("a class of a module", ("tasks.r.environment_factory", "RUN:Game"), never=True),
    "suites.environment_factory": Key("a class of a module", ("suites.s.environment_factory", "RUN:Game"), never=True),
    "tasks.gym": Key("a generator of the package reasoning-gym", ("suites.gym.gym", "leg_counting")),
    "suites.gym": Key("a generator of the package reasoning-gym", ("suites.gym.gym", "leg_counting")),
    "tasks.gym_settings": Key("its settings", ("suites.gym.gym_settings", {"min_terms": 2})),
    "suites.gym_settings": Key("its settings", ("suites.gym.gym_settings", {"min_terms": 2})),
    # Files that are read, or fetched from the hub. None of them can run code.
    "model.path": Key("a model folder, or a hub id", ("model.path", "/elsewhere")),
    "tasks.train": Key("a file", ("tasks.r.train", "/etc/hosts.jsonl")),
    "tasks.test": Key("a file", ("tasks.r.test", "../test.jsonl")),
    "suites.test": Key("a file", ("suites.s.test", "../test.jsonl")),
    "tasks.dataset": Key("a folder of data, or a hub id", ("tasks.r.dataset", "owner/name")),
    "suites.dataset": Key("a folder of data, or a hub id", ("suites.s.dataset", "owner/name")),
    "eval.embedder": Key("a model folder", ("eval.embedder", "/elsewhere")),
    "recipe.prompts": Key("a file", ("recipe.prompts", "/data/prompts.jsonl")),
    # A folder that is written, by `run` and `compare` without -o alone, and only if it is new or empty.
    "output_dir": Key("a new folder", ("output_dir", "/elsewhere")),
    # Where programs run: a container without a network, of an image that is there; or a server, which gets them.
    "tasks.sandbox.image": Key("a container", ("tasks.code.sandbox", {"kind": "podman", "image": "python:3.12"})),
    "suites.sandbox.image": Key("a container", ("suites.gym.sandbox", {"kind": "podman", "image": "python:3.12"})),
    "tasks.sandbox.url": Key("a server", ("tasks.code.sandbox", {"kind": "sandbox-fusion", "url": "http://a:1"})),
    "suites.sandbox.url": Key(
        "a server", ("suites.humaneval.sandbox", {"kind": "sandbox-fusion", "url": "http://a:1"})
    ),
}

TEXTS = frozenset(
    "name model.revision model.device model.lora.target_modules model.chat_template_kwargs orders recipes.label".split()
) | {f"{kind}.{key}" for kind in ("tasks", "suites") for key in ("name", "subset", "lab", "prompt_template")}
"""Keys that take text and reach nothing. No template of a prompt is a program."""


def text_keys(block: type[BaseModel], before: str = "") -> Iterator[str]:
    """Keys that take any text, or anything, in a block and the blocks in it."""
    for name, field in block.model_fields.items():
        key = f"{before}{name}"
        inner = block_in(field.annotation)
        if inner is not None and issubclass(inner, BaseModel) and name != "recipe":
            yield from text_keys(inner, f"{key}.")
        elif _takes_text(field.annotation):
            yield key


def _takes_text(annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return False
    return annotation in (str, Any, Path) or any(map(_takes_text, get_args(annotation)))


def test_every_key_that_takes_text_is_known() -> None:
    found = {*text_keys(RunConfig), *text_keys(CompareConfig)}
    found = {key for key in found if ".columns." not in key and not key.endswith("lm_eval_settings.metric")}
    unknown = found - KEYS.keys() - TEXTS - {"recipes.recipe"}
    assert unknown == set(), "say in KEYS what it reaches, or in TEXTS that it reaches nothing"


def test_every_setting_of_a_recipe_that_takes_text_is_a_text_for_prompts_or_a_file_of_them() -> None:
    fields = [item for each in RECIPES.values() for item in each.model_fields.items()]
    found = {name for name, field in fields if _takes_text(field.annotation)}
    assert {name for name in found if not name.endswith("template") and not name.startswith("cue_")} == {"prompts"}


def written(folder: Path, change: tuple[str, Any] | None = None) -> Path:
    """The configuration of a run directory. A module's name RUN leads into it."""
    run = folder / "runs" / "strange"
    run.mkdir(parents=True, exist_ok=True)
    (run / "manifest.json").write_text("{}")
    (run / "task.yaml").write_text("task: strange\ndoc_to_text: !function evil.text\n")
    (run / "evil.py").write_text(f"open({str(folder / 'it-ran')!r}, 'w')\n")
    key, value = change or ("name", "r")
    value = value.replace("RUN", "runs.strange.evil") if isinstance(value, str) else value
    (run / "config.yaml").write_text(yaml.safe_dump(apply_overrides(BASE, {key: value})))
    return run / "config.yaml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: run directories are below it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", KEYS)
def test_a_run_directory_reaches_nothing_that_runs_code_without_the_users_word(folder: Path, name: str) -> None:
    key = KEYS[name]
    path = written(folder, key.setting)
    if key.word is None and not key.never:
        load_kept_config(path, RunConfig)
        load_config(path, RunConfig)
        return
    for word in (NO_WORD, TRUST if key.word != TRUST else UNPROTECTED):
        with pytest.raises(ConfigError) as found:
            load_kept_config(path, RunConfig, word)
        assert "\n" not in str(found.value)
        assert key.setting[0] in str(found.value)
    with pytest.raises(ConfigError, match="run directory"):
        load_config(path, RunConfig)
    with pytest.raises(ConfigError, match="run directory"):
        load_config(path, RunConfig, {"train.steps": 3})
    if key.word is not None:
        load_kept_config(path, RunConfig, key.word)
        load_config(path, RunConfig, dict([key.setting]) if name != "suites.lm_eval" else {key.setting[0]: "mmlu"})
    assert not (folder / "it-ran").exists()


@pytest.mark.parametrize("name", KEYS)
def test_a_configuration_that_is_no_run_directorys_says_what_it_likes(folder: Path, name: str) -> None:
    path = written(folder, KEYS[name].setting)
    (folder / "own.yaml").write_text(path.read_text())
    load_config(folder / "own.yaml", RunConfig)


def test_what_loads_no_tasks_asks_for_the_models_code_alone(folder: Path) -> None:
    load_kept_config(written(folder, KEYS["tasks.run_code"].setting), RunConfig, loads_tasks=False)
    with pytest.raises(ConfigError, match=r"model\.trust_remote_code"):
        load_kept_config(written(folder, KEYS["model.trust_remote_code"].setting), RunConfig, loads_tasks=False)


def test_a_comparisons_directory_has_no_say_either(folder: Path) -> None:
    path = written(folder, ("tasks.code.run_code", "unprotected"))
    data = yaml.safe_load(path.read_text())
    data["recipes"] = [data.pop("recipe")]
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match="repeat the command with --unprotected"):
        load_kept_config(path, CompareConfig)
    load_kept_config(path, CompareConfig, UNPROTECTED)


def test_the_users_word_is_for_the_key_that_it_names(folder: Path) -> None:
    path = written(folder, ("tasks.code.run_code", "unprotected"))
    for said in ({"tasks.1.run_code": "unprotected"}, {"tasks.code": {"name": "c", "train": "a.jsonl", "code": {}}}):
        load_config(path, RunConfig, said)
    for said in ({"tasks.r.limit": 3}, {"tasks.code.limit": 3}, {"suites.gym.run_code": "unprotected"}):
        with pytest.raises(ConfigError, match=r"--set tasks\.code\.run_code=unprotected"):
            load_config(path, RunConfig, said)


def _module_in(place: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes a module of the run directory importable in some way, and returns its name."""
    run = folder / "runs" / "strange"
    if place == "the working folder":
        monkeypatch.chdir(run)
    elif place == "a folder in it":
        (run / "models").mkdir()
        monkeypatch.chdir(run / "models")
    elif place == "the import path":
        monkeypatch.syspath_prepend(str(run))
    elif place == "a link":
        (folder / "linked").symlink_to(run, target_is_directory=True)
        return "linked.evil:verify"
    else:
        return "runs.strange.evil:verify"
    return "evil:verify"


@pytest.mark.parametrize(
    "place", ["the working folder", "a folder in it", "the import path", "a link", "a package of folders"]
)
def test_no_function_comes_out_of_a_run_directory(folder: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    written(folder)
    name = _module_in(place, folder, monkeypatch)
    path = written(folder, ("tasks.r.verifier", name))
    for word in (NO_WORD, UsersWord(trust_remote_code=True, unprotected=True)):
        with pytest.raises(ConfigError, match=r"tasks\.r\.verifier names .*could be code in the run directory"):
            load_kept_config(path, RunConfig, word)
    assert not (folder / "it-ran").exists()


@pytest.mark.parametrize("name", ["evil:verify", "my_task:verify", "package.module:Class.judge", "holdfast.tasks:x"])
def test_functions_of_the_users_own_modules_stand(folder: Path, name: str) -> None:
    """Whether there is such a module is not looked at here. The working folder is the user's."""
    load_kept_config(written(folder, ("tasks.r.verifier", name)), RunConfig)


def test_a_run_of_a_comparison_is_a_part_of_it(folder: Path) -> None:
    path = written(folder, ("tasks.r.verifier", "evil:verify"))
    cell = path.parent.rename(path.parent.with_name("sft-s0-o0")) / "config.yaml"
    (folder / "config.yaml").write_text(cell.read_text())
    for own in (cell, folder / "config.yaml"):
        with pytest.raises(ConfigError, match="could be code in the run directory"):
            load_config(own, RunConfig)
    with pytest.raises(ConfigError, match="could be code in the run directory"):
        load_kept_config(cell, RunConfig)


def test_a_project_with_runs_is_no_run_directory(folder: Path) -> None:
    """Its configuration may have any name, also that of a run directory's, and its modules are beside it."""
    path = written(folder, ("tasks.r.verifier", "evil:verify"))
    load_kept_config(path, RunConfig)
    data = apply_overrides(yaml.safe_load(path.read_text()), {"tasks.code.run_code": "unprotected"})
    (folder / "config.yaml").write_text(yaml.safe_dump(data))
    load_kept_config(path, RunConfig)
    load_config(folder / "config.yaml", RunConfig)


@pytest.mark.parametrize(("as_relative", "as_home"), itertools.product((False, True), repeat=2))
def test_a_task_file_is_one_wherever_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, as_relative: bool, as_home: bool
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    (folder / "elsewhere.yaml").write_text("task: t\n")
    name = "../../elsewhere.yaml" if as_relative else "~/elsewhere.yaml" if as_home else str(folder / "elsewhere.yaml")
    path = written(folder, ("suites.harness.lm_eval", name))
    with pytest.raises(ConfigError, match=r"suites\.harness\.lm_eval would run code that the task file .*elsewhere"):
        load_kept_config(path, RunConfig)
    load_kept_config(path, RunConfig, TRUST)

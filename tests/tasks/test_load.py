"""`holdfast.tasks.load`: tasks and suites of a configuration, held-out prompts, verifiers, and data hashes."""

import json
import subprocess
import sys
import types
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig, SuiteSettings, TaskSettings
from holdfast.data.example import Example, Verdict
from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError, DataError
from holdfast.lab.world import Dials
from holdfast.recipes import RECIPES
from holdfast.recipes.base.needs import require
from holdfast.tasks.load import data_hash, load_stream, load_suite, load_task


def rows(count: int, **extra: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {n}?", "completion": str(n), "answer": n, **extra} for n in range(count)]


def write(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(json.dumps(r) for r in records), encoding="utf-8")
    return str(path)


def settings(**values: Any) -> TaskSettings:
    return TaskSettings(name="t", **values)


@pytest.fixture
def train_file(tmp_path: Path) -> str:
    return write(tmp_path / "train.jsonl", rows(20))


@pytest.fixture
def test_file(tmp_path: Path) -> str:
    return write(tmp_path / "test.jsonl", [{"prompt": f"And {n}?", "answer": n} for n in range(5)])


def test_a_task_of_two_files(train_file: str, test_file: str):
    task = load_task(settings(train=train_file, test=test_file))
    assert (task.name, len(task.train), len(task.test)) == ("t", 20, 5)
    assert task.provides() == {"demonstration", "privileged_context", "reward"}
    assert task.verify(task.test[3], " 3\n").reward == 1.0
    assert task.verify(task.test[3], "4").reward == 0.0
    limited = load_task(settings(train=train_file, test=test_file, limit=3))
    assert [e.id for e in limited.train] == ["train-1", "train-2", "train-3"]
    assert len(limited.test) == 3


def test_the_chance_level_is_stated_or_that_of_the_best_constant_answer(train_file: str, tmp_path: Path) -> None:
    letters = [{"prompt": f"Which is it, {n}?", "answer": "AAAB"[n % 4]} for n in range(40)]
    test_file = write(tmp_path / "letters.jsonl", letters)
    assert load_task(settings(train=train_file, test=test_file)).chance == 0.75
    assert load_task(settings(train=train_file, test=test_file, chance=0.25)).chance == 0.25
    # The answer that another verifier gets may be anything: no constant answer follows from it.
    other = settings(train=train_file, test=test_file, verifier="judges:by_letters")
    assert load_task(other).chance == 0.0
    assert load_task(settings(train=train_file)).chance == 0.0
    suite = SuiteSettings(name="s", test=test_file)
    assert load_suite(suite).chance == 0.75
    assert load_suite(suite.model_copy(update={"chance": 0.5})).chance == 0.5
    assert load_suite(SuiteSettings(name="s", lab="old-facts", chance=0.1)).chance == 0.1
    assert load_task(TaskSettings(name="t", lab="facts", chance=0.1)).chance == 0.1


@pytest.mark.parametrize("chance", [-0.1, 1.0, 25])
def test_a_chance_level_is_a_share_below_1(chance: float, train_file: str) -> None:
    tasks = [{"name": "t", "train": train_file, "chance": chance}]
    with pytest.raises(ConfigError, match="chance"):
        parse_config({"tasks": tasks, "recipe": "sft"}, RunConfig, where="test")


def test_part_of_the_train_file_is_held_out(train_file: str):
    task = load_task(settings(train=train_file, test_fraction=0.25))
    assert (len(task.train), len(task.test)) == (15, 5)
    assert {e.id for e in task.train} | {e.id for e in task.test} == {f"train-{n}" for n in range(1, 21)}
    assert load_task(settings(train=train_file, test_fraction=0.25)) == task
    other = load_task(settings(train=train_file, test_fraction=0.25).model_copy(update={"name": "u"}))
    assert [e.id for e in other.test] != [e.id for e in task.test]
    assert load_task(settings(train=train_file, test_fraction=0.25), seed=1) == task, "the same in all runs"


@given(st.lists(st.integers(0, 5), min_size=2, max_size=12), st.floats(0.01, 0.99))
def test_the_hold_out_never_splits_a_prompt(numbers: list[int], fraction: float):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder) / "d.jsonl", [{"prompt": str(n)} for n in numbers])
        if len(set(numbers)) == 1:
            with pytest.raises(DataError, match="only one prompt"):
                load_task(settings(train=file, test_fraction=fraction))
            return
        task = load_task(settings(train=file, test_fraction=fraction))
    train, test = ({e.messages[0]["content"] for e in split} for split in (task.train, task.test))
    assert train
    assert test
    assert not train & test
    assert len(task.train) + len(task.test) == len(numbers)


def test_overlapping_splits_give_a_warning_or_are_refused(tmp_path: Path, train_file: str):
    few = write(tmp_path / "few.jsonl", [*({"prompt": f"x{n}", "answer": n} for n in range(9)), rows(1)[0]])
    with pytest.warns(
        UserWarning, match="^1 of 10 test prompts of task 't' are also training prompts, the first is 'few-10'"
    ):
        load_task(settings(train=train_file, test=few))
    with pytest.raises(DataError, match=r"20 of 20 test prompts of task 't'.* hold out a part"):
        load_task(settings(train=train_file, test=train_file))


def test_which_verifier_judges(tmp_path: Path, train_file: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "halves.py").write_text("def verify(example, completion):\n    return 0.5\n")
    task = load_task(settings(train=train_file, verifier="halves:verify"))
    assert task.verify(task.test[0], "x") == Verdict(0.5)
    without = [{"prompt": str(n), "completion": "c"} for n in range(4)]
    task = load_task(settings(train=write(tmp_path / "w.jsonl", without)))
    assert task.verifier is None
    assert task.provides() == {"demonstration", "privileged_context"}
    without[1]["answer"] = "a"
    with pytest.raises(DataError, match="3 of 4 examples have no answer, the first is 'w-1'"):
        load_task(settings(train=write(tmp_path / "w.jsonl", without)))
    with pytest.raises(DataError, match=r"'m-1': its `answer` is not text.*verifier: module:function"):
        load_task(settings(train=write(tmp_path / "m.jsonl", rows(3, answer={"a": 1}))))


def test_suites(test_file: str, tmp_path: Path):
    suite = load_suite(SuiteSettings(name="s", kind="ood", test=test_file, limit=2))
    assert (suite.name, suite.kind, len(suite.test)) == ("s", "ood", 2)
    assert suite.verify(suite.test[1], "1").reward == 1.0
    file = write(tmp_path / "n.jsonl", [{"prompt": "q"}])
    with pytest.raises(DataError, match="suite 's' has no verifier"):
        load_suite(SuiteSettings(name="s", test=file))
    free = load_suite(SuiteSettings(name="s", test=write(tmp_path / "d.jsonl", [{"prompt": "q", "completion": "c"}])))
    assert free.verifier is None
    assert not free.is_judged
    with pytest.raises(DataError, match="suite 's' has no verifier"):
        free.verify(free.test[0], "c")


def test_a_demonstration_that_is_the_only_right_answer_is_named_as_the_answer(tmp_path: Path):
    file = write(tmp_path / "labels.jsonl", [{"prompt": str(n), "completion": f"label {n}"} for n in range(9)])
    task = load_task(settings(train=file, columns={"answer": "completion"}))
    assert task.is_judged
    for each in task.train:
        assert each.demonstration is not None
        assert [task.verify(each, text).reward for text in (each.demonstration, "no")] == [1.0, 0.0]


@pytest.mark.parametrize(
    "setting", [{"columns": {"prompt": "q"}}, {"prompt_template": "{prompt}"}, {"train_on": "all"}], ids=str
)
def test_readers_of_published_tasks_take_no_settings_of_forms(train_file: str, setting: dict[str, Any]):
    config = {"tasks": [{"name": "t", "train": train_file, "reader": "toolalpaca", **setting}]}
    parsed = parse_config({**config, "recipe": "sft"}, RunConfig)
    with pytest.raises(ConfigError, match=f"'t' has `{next(iter(setting))}`"):
        load_stream(parsed)


@pytest.mark.parametrize("source", [{"lab": "facts"}, {"gym": "chain_sum"}], ids=str)
@pytest.mark.parametrize(
    "setting", [{"prompt_template": "{prompt}"}, {"train_on": "all"}, {"bad_records": "drop"}], ids=str
)
def test_settings_of_files_are_refused_where_there_is_no_file(source: dict[str, Any], setting: dict[str, Any]):
    data = {"tasks": [{"name": "t", **source, **setting}], "recipe": "sft"}
    with pytest.raises(ConfigError, match=f"`{next(iter(setting))}` is for files and datasets"):
        parse_config(data, RunConfig)


def test_a_task_knows_the_columns_with_text_that_nothing_reads(tmp_path: Path):
    file = write(tmp_path / "d.jsonl", rows(4, topic="t", context="c", level=3))
    assert load_task(settings(train=file)).unread_columns == ("topic", "context")
    template = "{prompt} {context}"
    task = load_task(settings(train=file, prompt_template=template))
    assert task.unread_columns == ("topic",)
    assert {e.messages[0]["content"][-3:] for e in [*task.train, *task.test]} == {"? c"}


def test_the_settings_of_a_task_reach_its_reader(tmp_path: Path):
    turns = [{"role": role, "content": f"{role} {n}"} for n in range(2) for role in ("user", "assistant")]
    records = [{"messages": [{"role": "user", "content": str(n)}, *turns[1:]]} for n in range(4)]
    file = write(tmp_path / "d.jsonl", records)
    assert {e.trained_turns for e in load_task(settings(train=file, train_on="all")).train} == {(1,)}
    assert {e.trained_turns for e in load_task(settings(train=file)).train} == {()}
    alpaca = write(tmp_path / "a.jsonl", [{"instruction": f"q{n}", "input": "i", "output": "a"} for n in range(4)])
    task = load_task(settings(train=alpaca))
    assert all(e.messages[0]["content"].endswith("\n\ni") for e in task.train)
    with pytest.raises(DataError, match="no column 'prompt'"):
        load_task(settings(train=alpaca, reader="records"))


def test_prompts_that_differ_in_calls_or_tools_are_different(tmp_path: Path):
    def record(city: str, tool: str) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "f", "arguments": {"city": city}}}
        turns = [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "1"},
            {"role": "assistant", "content": "a"},
        ]
        return {"messages": turns, "tools": [{"type": "function", "function": {"name": tool}}]}

    train = write(tmp_path / "train.jsonl", [record("Rome", "f"), record("Oslo", "f")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_task(settings(train=train, test=write(tmp_path / "a.jsonl", [record("Rome", "g")])))
    with pytest.raises(DataError, match="1 of 1 test prompts"):
        load_task(settings(train=train, test=write(tmp_path / "b.jsonl", [record("Rome", "f")])))


def lab_example(name: str) -> Example:
    return Example(name, ({"role": "user", "content": name},), demonstration="d")


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab of two tasks and two suites that replaces the real one."""

    def lab_task(name: str, seed: int, dials: Dials) -> Task:
        if name not in ("one", "two"):
            raise ConfigError(f"the lab has no task {name!r}")
        train = [lab_example(f"{name}-{seed}-{n}") for n in range(4)]
        return Task(name, train, [lab_example("x"), lab_example("y")], description=str(dials))

    def lab_suite(name: str, seed: int, dials: Dials) -> Suite:
        items = [lab_example(f"a-{seed}"), lab_example("b")]
        return Suite(name, "ood", items, lambda example, completion: Verdict(1.0), str(dials))

    def default_suites(tasks: Sequence[str]) -> list[str]:
        return ["facts", "skills", *(f"{task}-ood" for task in tasks)]

    module = types.ModuleType("holdfast.lab.tasks")
    vars(module).update(lab_task=lab_task, lab_suite=lab_suite, default_suites=default_suites)
    monkeypatch.setitem(sys.modules, "holdfast.lab.tasks", module)


@pytest.mark.usefixtures("lab")
def test_streams_of_the_lab(train_file: str, test_file: str):
    def load(**values: Any) -> tuple[list[Task], list[Suite]]:
        return load_stream(parse_config({"recipe": "sft", **values}, RunConfig))

    file_task = {"name": "f", "train": train_file}
    tasks, suites = load(tasks=["lab:one", file_task, {"name": "again", "lab": "two", "limit": 1}])
    assert [(t.name, len(t.train), len(t.test)) for t in tasks] == [("one", 4, 2), ("f", 18, 2), ("again", 1, 1)]
    assert [s.name for s in suites] == ["facts", "skills", "one-ood", "two-ood"]
    assert load(tasks=[file_task])[1] == []
    assert load(tasks=["lab:one"], model={"path": "elsewhere"})[1] == []
    assert load(tasks=["lab:one"], suites=[])[1] == []
    suites = load(tasks=["lab:one"], suites=["lab:facts", {"name": "s", "test": test_file}])[1]
    assert [(s.name, s.kind) for s in suites] == [("facts", "ood"), ("s", "retention")]
    for wrong, message in (
        ("lab:three", "no task 'three'"),
        ({"name": "facts", "lab": "one"}, "two tasks or suites are named 'facts'"),
        ({"name": "x", "lab": "one", "train": "f.jsonl"}, "'x' has both `lab` and `train`"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(tasks=[wrong])


@pytest.mark.usefixtures("lab")
def test_a_world_follows_the_seed_of_the_run_unless_it_is_named():
    def load(seed: int, **values: Any) -> tuple[list[str], list[str]]:
        tasks, suites = load_stream(parse_config({"recipe": "sft", "seed": seed, **values}, RunConfig))
        return [t.train[0].id for t in tasks], [s.test[0].id for s in suites]

    assert load(3, tasks=["lab:one"]) == (["one-3-0"], ["a-3"] * 3)
    two = {"name": "two", "lab": "two", "lab_settings": {"world": 8}}
    assert load(3, tasks=["lab:one", two], suites=["lab:x"]) == (["one-3-0", "two-8-0"], ["a-3"])
    suite = {"name": "x", "lab": "x", "lab_settings": {"world": 0}}
    assert load(3, tasks=["lab:one"], suites=[suite]) == (["one-3-0"], ["a-0"])


@pytest.mark.usefixtures("lab")
def test_a_default_suite_is_of_the_world_of_its_task_in_any_order_of_the_stages():
    one = {"name": "one", "lab": "one", "lab_settings": {"voice": 0.5}}
    two = {"name": "two", "lab": "two", "lab_settings": {"world": 8}}
    found = []
    for tasks in ([one, two], [two, one]):
        suites = load_stream(parse_config({"recipe": "sft", "seed": 3, "tasks": tasks}, RunConfig))[1]
        found.append({s.name: (s.test[0].id, s.description) for s in suites})
    assert found[0] == found[1]
    assert {name: item for name, (item, _) in found[0].items()} == {
        "facts": "a-3",
        "skills": "a-3",
        "one-ood": "a-3",
        "two-ood": "a-8",
    }
    assert found[0]["one-ood"][1] == str(Dials(voice=0.5))
    assert found[0]["two-ood"][1] == str(Dials())


def test_require_names_recipe_task_and_what_is_missing():
    user = ({"role": "user", "content": "q"},)
    bare, shown = Example("a", user), Example("b", user, demonstration="d")
    with_context = Example("c", user, privileged_context="p")
    sft, sdft, sdpo = (RECIPES[name]() for name in ("sft", "sdft", "sdpo"))
    with pytest.raises(ConfigError, match="recipe 'sdpo' needs a reward, and task 'x' has no verifier"):
        require(sdpo, [Task("x", [shown], [bare])])
    with pytest.raises(
        ConfigError,
        match=r"'sft' needs a demonstration, and 2 of 3 training examples of task 'x' have none, the first 'a'",
    ):
        require(sft, [Task("w", [shown], []), Task("x", [shown, bare, with_context], [])])
    with pytest.raises(ConfigError, match=r"'sdft' needs a privileged context, and 1 of 3 .*`privileged_context`, a"):
        require(sdft, [Task("x", [shown, bare, with_context], [])])
    with pytest.raises(ConfigError, match="task 'x' has no training examples"):
        require(sft, [Task("x", [], [])])
    require(sft, [Task("x", [shown], [bare])])
    require(sdft, [Task("x", [shown, with_context], [bare])])
    require(sdpo, [Task("x", [bare], [bare], verifier=lambda example, completion: Verdict(0.0))])


def test_data_hash_sees_every_field(train_file: str):
    task = load_task(settings(train=train_file))
    known = data_hash(task)
    assert known == data_hash(load_task(settings(train=train_file)))
    first = task.train[0]
    for changed in (
        replace(first, id="z"),
        replace(first, demonstration="z"),
        replace(first, privileged_context="z"),
        replace(first, answer="z"),
        replace(first, metadata={"z": 1}),
        replace(first, messages=({"role": "user", "content": "z"},)),
    ):
        assert data_hash(replace(task, train=[changed, *task.train[1:]])) != known
    assert data_hash(replace(task, train=[*task.train, task.test[0]], test=task.test[1:])) != known
    suite = Suite("s", "ood", task.test, lambda example, completion: Verdict(0.0))
    assert data_hash(suite) == data_hash(replace(suite, name="u")) != known


def test_data_hash_is_the_same_in_every_process():
    """An object has another address in each, and a set of words another order."""

    class Plain:
        pass

    def hashed(answer: Any) -> str:
        e = Example("e", ({"role": "user", "content": "q"},), answer=answer)
        return data_hash(Suite("s", "ood", [e], lambda example, completion: Verdict(0.0)))

    kept = [Plain() for _ in range(3)]
    assert len({str(each) for each in kept}) == 3
    assert len({hashed(each) for each in kept}) == 1
    assert hashed({"w1", "w2", "w3"}) == hashed(["w1", "w2", "w3"]) != hashed({"w1", "w2"})


def test_the_data_of_runs_from_before_examples_had_tools_has_not_changed():
    e = Example("e", ({"role": "user", "content": "q"},), demonstration="d", answer=3, metadata={"k": "v"})
    suite = Suite("s", "ood", [e], lambda example, completion: Verdict(0.0))
    assert data_hash(suite) == "d4dffbe8a173d266750a5ad147f2bf8d08240cd5285f9408e6da1cafc62b965a"
    for later in (
        {"tools": ({"type": "function", "function": {"name": "f"}},)},
        {"rendered_prompt": "q"},
        {"demonstration_message": {"role": "assistant", "content": "d"}},
        {"trained_turns": (0,)},
    ):
        assert data_hash(replace(suite, test=[replace(e, **later)])) != data_hash(suite)


def test_published_tasks_load(shared_data: Path):
    for domain, shared in (("biology", 0), ("chemistry", 0), ("material", 1), ("physics", 0)):
        files = {split: str(shared_data / "sciknoweval" / domain / f"{split}.json") for split in ("train", "test")}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            task = load_task(TaskSettings(name=domain, reader="sciknoweval", **files))
        assert len(caught) == shared
        assert task.provides() == {"demonstration", "privileged_context", "reward"}
    tools = TaskSettings(name="tools", reader="toolalpaca", train=str(shared_data / "tooluse" / "test.json"))
    task = load_task(tools)
    assert (len(task.train), len(task.test)) == (61, 7)
    assert all(task.verify(e, e.demonstration or "").reward == 1.0 for e in [*task.train, *task.test])


def test_loading_needs_neither_torch_nor_datasets():
    code = (
        "import sys, holdfast.tasks.load\n"
        "print([m for m in ('torch', 'transformers', 'datasets', 'pyarrow') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"

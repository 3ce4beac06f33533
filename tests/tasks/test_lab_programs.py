"""`holdfast.tasks.lab_programs`: the lab's programs as a task, with the judge of programs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import holdfast
from holdfast.config.code import LAB_PROGRAMS
from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig, SuiteSettings, TaskSettings
from holdfast.data.rows import Group, Row
from holdfast.errors import ConfigError
from holdfast.evaluation.answer_files import load_prompts as sampled_prompts
from holdfast.integrations.suites import load_suites
from holdfast.lab import programs
from holdfast.lab.tasks import PROGRAMS
from holdfast.lab.world import world
from holdfast.recipes.sdpo import SDPO
from holdfast.sandbox import bubblewrap
from holdfast.store.bundled import base_folder
from holdfast.tasks.lab_programs import program_splits
from holdfast.tasks.load import data_hash, load_prompts, load_stream, load_suite, load_task
from sandboxes import require_sandbox


def task(**settings: Any) -> holdfast.Task:
    return load_task(TaskSettings.model_validate({"name": "p", "lab": "programs", **settings}))


def fenced(program: str) -> str:
    return f"```python\n{program}\n```"


def test_the_lab_and_the_configuration_have_one_name_for_it() -> None:
    assert LAB_PROGRAMS == PROGRAMS


def test_its_records_are_those_of_a_file_that_the_reader_of_programs_takes(tmp_path: Path) -> None:
    require_sandbox()
    own = task()
    for split, found in programs.records(world(0)).items():
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in found))
    paths = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    read = load_task(TaskSettings.model_validate({"name": "p", "reader": "code", **paths}))
    assert data_hash(own) == data_hash(read)
    assert own.judged_by == read.judged_by == "the tests of its programs"
    assert own.provides() == {"demonstration", "privileged_context", "reward"}


def test_the_judge_is_right_about_every_specification_and_its_neighbor() -> None:
    require_sandbox()
    own = task()
    first = {example.demonstration: example for example in reversed(own.test)}
    right = list(first)
    assert len(right) == programs.SPECIFICATIONS
    answers = [(first[each], str(each)) for each in right]
    answers += [(first[each], str(other)) for each, other in zip(right, right[1:] + right[:1], strict=True)]
    rewards = [own.verify(*answer).reward for answer in answers]
    assert rewards == [1.0] * len(right) + [0.0] * len(right)


def test_feedback_shows_the_failing_test_and_never_a_hidden_one() -> None:
    require_sandbox()
    own = task()
    example = next(each for each in own.test if "print" in str(each.demonstration))
    shown, *hidden = example.answer["tests"]
    given, expected = shown["input"].strip(), shown["output"].strip()
    wrong = own.verify(example, fenced("print(input()*7)")).feedback
    assert wrong == f"Wrong answer\nInput:\n{given}\nExpected:\n{expected}\nActual:\n{given * 7}"
    raised = own.verify(example, fenced("print(y)")).feedback
    assert raised.startswith("NameError: name 'y' is not defined\nin line 1: print(y)\n")
    assert raised.endswith(f"Input:\n{given}\nExpected:\n{expected}")
    only_shown = own.verify(example, fenced(f"print({expected!r})"))
    assert (only_shown.reward, only_shown.feedback) == (0.0, "It fails a hidden test: wrong answer.")
    assert not any(test["input"].strip() in wrong + raised for test in hidden)
    assert own.verify(example, str(example.demonstration)[10:-4]).format_ok is False


def test_sdpos_teacher_sees_the_failing_test_in_a_prompt_that_fits_the_base() -> None:
    require_sandbox()
    own, longest = task(), 0
    tokenizer = AutoTokenizer.from_pretrained(base_folder("lab"))
    for program in ("print(input()*7)", "print(int(input()", "f=lambda x:[x]*9", "print(unknown_name)"):
        for example in own.train[: programs.SPECIFICATIONS]:
            completion = fenced(program)
            row = Row(example, [1], [2], completion, verdict=own.verify(example, completion))
            SDPO().annotate([Group(example, [row])])
            assert row.teacher_messages is not None
            prompt = row.teacher_messages[-1]["content"]
            assert row.verdict is not None
            assert row.verdict.feedback in prompt
            assert "Expected:\n" in prompt
            longest = max(longest, len(tokenizer.apply_chat_template(list(row.teacher_messages))["input_ids"]))
    assert longest <= 198, "max_prompt_length and max_completion_length of the documentation's configuration"


def test_demonstrations_survive_the_tokenizer() -> None:
    tokenizer = AutoTokenizer.from_pretrained(base_folder("lab"))
    for record in programs.records(world(0))["train"]:
        ids = tokenizer(record["completion"])["input_ids"]
        assert len(ids) < 48
        assert tokenizer.decode(ids) == record["completion"]


@pytest.fixture
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(bubblewrap, "_program", lambda: None)
    bubblewrap.refusal.cache_clear()
    monkeypatch.setattr(programs, "records", lambda world: pytest.fail("it was loaded"))
    yield
    bubblewrap.refusal.cache_clear()


@pytest.mark.usefixtures("no_sandbox")
def test_without_a_sandbox_one_line_says_so_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match=r"^'p': code that a model wrote needs a sandbox, .*apt-get install") as found:
        task()
    assert "\n" not in str(found.value)


def test_it_is_judged_as_the_settings_of_programs_say() -> None:
    shared = task(run_code="unprotected", code={"reward": "share", "public_tests": 0, "feedback_length": 60})
    example = next(each for each in shared.train if "print" in str(each.demonstration))
    assert all(test["is_hidden"] for test in example.answer["tests"])
    verdict = shared.verify(example, fenced(f"print({example.answer['tests'][0]['output'].strip()!r})"))
    assert 0.0 < verdict.reward < 1.0
    for settings, message in (({"verifier": "a:b"}, "both `lab` and `verifier`"), ({"sandbox": {"kind": "x"}}, "kind")):
        entry = {"name": "p", "lab": "programs", **settings}
        with pytest.raises(ConfigError, match=message):
            load_stream(parse_config({"tasks": [entry], "recipe": "sft"}, RunConfig))
    with pytest.raises(ConfigError, match="nothing here runs code"):
        parse_config({"tasks": [{"name": "f", "lab": "facts", "run_code": "unprotected"}], "recipe": "sft"}, RunConfig)


def test_its_prompts_serve_wherever_the_labs_do() -> None:
    asked = load_prompts("lab:programs")
    assert len(asked) == programs.TRAIN
    assert [each.messages for each in asked] != [each.messages for each in program_splits()["train"]]
    assert list(sampled_prompts(["lab:programs"], 4).examples.values()) == program_splits()["test"][:4]
    with pytest.raises(ConfigError, match="no suite 'programs'"):
        load_suite(SuiteSettings(name="p", lab="programs"))


def test_a_watched_trainer_can_be_asked_for_programs() -> None:
    require_sandbox()
    (suite,) = load_suites(["lab:programs"], 8)
    assert [suite.verify(each, str(each.demonstration)).reward for each in suite.test] == [1.0] * 8


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["sft", "sdft", "sdpo"])
def test_recipes_run_on_it(tmp_path: Path, recipe: str) -> None:
    require_sandbox()
    config = {
        "tasks": [{"name": "p", "lab": "programs", "limit": 8}],
        "suites": [],
        "recipe": {"name": recipe, **({"num_generations": 2} if recipe == "sdpo" else {})},
        "train": {"steps": 1, "prompts_per_step": 2, "max_prompt_length": 150, "max_completion_length": 48},
        "eval": {"max_items": 2, "kl_items": 0, "drift_weights": 0},
    }
    summary = holdfast.run(config, tmp_path / "run")
    assert summary["status"] == "complete"
    assert summary["evaluations"][0]["scores"]["p"]["mean"] == 0.0

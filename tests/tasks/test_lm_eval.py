"""`holdfast.tasks.lm_eval`: suites of lm-evaluation-harness, offline, on small models. Needs the extra `eval`."""

import json
import random
import shutil
import threading
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
import yaml

import holdfast
from commands import Commands
from holdfast.config.load import dump_config, load_config, parse_config
from holdfast.config.settings import SDFT_SUITES, ModelSettings, RunConfig, SuiteSettings
from holdfast.errors import ConfigError, DataError, RunError
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.tasks.lm_eval import METRICS, LmEvalResult, LmEvalSuite, _items
from holdfast.tasks.load import load_suite
from sandboxes import require_sandbox
from small_runs import assert_same, write_config

pytest.importorskip("lm_eval", reason="needs the extra eval")

CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: quiz.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
"""
GENERATE = """
task: generated
dataset_path: json
dataset_kwargs: {data_files: {test: quiz.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}
process_results: !function scores.process
metric_list:
  - {metric: parts, aggregation: !function scores.over_parts, higher_is_better: true}
  - {metric: length, aggregation: mean, higher_is_better: true}
  - {metric: errors, aggregation: mean, higher_is_better: false}
"""
SCORES = """
def process(doc, results):
    parts = [letter in results[0] for letter in "abc"[: 1 + doc["answer"]]]
    return {"parts": parts, "length": float(len(results[0])), "errors": 0.5}

def over_parts(items):
    flat = [part for item in items for part in item]
    return sum(flat) / len(flat)
"""
GROUP = """
group: both
task:
  - {one}
  - {two}
aggregate_metric_list: [{{metric: acc, weight_by_size: {by_size}}}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of task files and their data."""
    path = tmp_path_factory.mktemp("harness")
    quiz = [
        {"question": f"What is {i} plus {i + 1}?", "choices": ["four", "a", f"{2 * i + 1}"], "answer": i % 3}
        for i in range(9)
    ]
    for name, rows in (("quiz", quiz), ("short", quiz[:3])):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "quiz.yaml").write_text(CHOICE.format(name="quiz"))
    (path / "generated.yaml").write_text(GENERATE)
    (path / "scores.py").write_text(SCORES)
    one, two = (json.dumps(_inline(name, file)) for name, file in (("one", "quiz"), ("two", "short")))
    for by_size in ("true", "false"):
        (path / f"both-{by_size}.yaml").write_text(GROUP.format(one=one, two=two, by_size=by_size))
    return path


def _inline(name: str, file: str) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{file}.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
    }


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> Policy:
    return load_policy(ModelSettings(path=str(tiny_model)))


def suite(path: Path, **settings: Any) -> LmEvalSuite:
    limit = settings.pop("limit", None)
    named = {"name": "suite", "lm_eval": str(path), "limit": limit, "lm_eval_settings": settings}
    loaded = load_suite(SuiteSettings.model_validate(named))
    assert isinstance(loaded, LmEvalSuite)
    return loaded


def test_choices_are_scored_by_likelihood(folder: Path, policy: Policy) -> None:
    """The choice must be that of likelihoods that are computed here, token by token."""
    quiz = suite(folder / "quiz.yaml")
    measured = quiz.evaluate(policy)
    assert measured.ids == [f"quiz-{i}" for i in range(9)]
    for doc, item, (prompt, answer) in zip((e.answer for e in quiz.test), measured.items, measured.shown):
        likelihoods = [_log_likelihood(policy, doc["question"], f" {choice}") for choice in doc["choices"]]
        best = int(np.argmax(likelihoods))
        assert item == float(best == doc["answer"])
        assert (prompt, answer.strip()) == (doc["question"], doc["choices"][best])
    numbers = measured.numbers()
    assert numbers["mean"] == pytest.approx(np.mean(measured.items))
    assert (numbers["n"], numbers["length"], numbers["truncated"]) == (9, 0.0, 0.0)
    assert [sample["id"] for sample in measured.samples(3)] == ["quiz-0", "quiz-3", "quiz-6"]
    assert measured.samples(0) == []
    assert numbers["most_frequent"]["count"] >= 1


def test_chance_is_the_mean_over_items_of_1_of_the_number_of_choices(folder: Path) -> None:
    assert suite(folder / "quiz.yaml").chance == pytest.approx(1 / 3)
    assert suite(folder / "both-true.yaml").chance == pytest.approx(1 / 3)
    assert suite(folder / "quiz.yaml", metric="acc_norm").chance == pytest.approx(1 / 3)
    assert suite(folder / "generated.yaml", metric="parts").chance == 0.0
    stated = {"name": "suite", "lm_eval": str(folder / "quiz.yaml"), "chance": 0.4}
    assert load_suite(SuiteSettings.model_validate(stated)).chance == 0.4


def _log_likelihood(policy: Policy, prompt: str, answer: str) -> float:
    tokenizer: Any = policy.tokenizer
    whole, start = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt + answer, prompt))
    with torch.no_grad():
        logprobs = policy.model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(float(logprobs[i - 1, whole[i]]) for i in range(len(start), len(whole)))


def test_evaluating_changes_nothing_and_is_repeatable(folder: Path, policy: Policy) -> None:
    quiz = suite(folder / "quiz.yaml")
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    padding = policy.tokenizer.padding_side
    first = quiz.evaluate(policy)
    assert quiz.evaluate(policy) == first
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert policy.tokenizer.padding_side == padding
    assert torch.is_grad_enabled()
    assert all(parameter.requires_grad for parameter in policy.model.parameters())


def test_batch_size_does_not_matter_and_a_limit_takes_the_first_items(folder: Path, policy: Policy) -> None:
    whole = suite(folder / "quiz.yaml", batch_size=1).evaluate(policy)
    assert suite(folder / "quiz.yaml", batch_size=5).evaluate(policy).items == whole.items
    assert suite(folder / "quiz.yaml").evaluate(policy, limit=4).items == whole.items[:4]
    limited = suite(folder / "quiz.yaml", limit=2)
    assert len(limited.test) == 2
    assert limited.evaluate(policy, limit=4).items == whole.items[:2]


def test_parts_of_items_count_as_the_harness_counts_them(folder: Path, policy: Policy) -> None:
    """As in IFEval, an item of three instructions has three times the weight of an item of one."""
    generated = suite(folder / "generated.yaml", metric="parts").evaluate(policy)
    parts = [[letter in text for letter in "abc"[: 1 + i % 3]] for i, (_, text) in enumerate(generated.shown)]
    assert generated.score == pytest.approx(np.mean([part for item in parts for part in item]))
    assert generated.length > 0
    assert suite(folder / "generated.yaml").evaluate(policy).items == generated.items


def test_metrics_that_cannot_be_compared_item_by_item_are_refused(folder: Path, policy: Policy) -> None:
    with pytest.raises(DataError, match=r"metric 'length': is not a score from 0 to 1 for each item"):
        suite(folder / "generated.yaml", metric="length").evaluate(policy)
    with pytest.raises(DataError, match="a lower 'errors' is better"):
        suite(folder / "generated.yaml", metric="errors").evaluate(policy)
    with pytest.raises(ConfigError, match=r"no metric 'part' \(did you mean 'parts"):
        suite(folder / "generated.yaml", metric="part").evaluate(policy)
    with pytest.raises(DataError, match="is not a mean over items"):
        _items({"task": [("task-0", 1.0), ("task-1", 0.0)]}, 0.9, "suite")


@pytest.mark.parametrize("by_size", [True, False])
def test_a_groups_score_is_the_mean_of_its_items(folder: Path, policy: Policy, by_size: bool) -> None:
    both = suite(folder / f"both-{str(by_size).lower()}.yaml").evaluate(policy)
    one = suite(folder / "quiz.yaml").evaluate(policy).items
    assert len(both.items) == 12
    two = one[:3]
    want = np.mean(one + two) if by_size else (np.mean(one) + np.mean(two)) / 2
    assert both.score == pytest.approx(want)


def test_prompts_that_do_not_fit_are_counted_and_give_a_warning(folder: Path, policy: Policy) -> None:
    quiz = suite(folder / "quiz.yaml")
    config = policy.causal_lm.config
    longest, config.max_position_embeddings = config.max_position_embeddings, 8
    try:
        with pytest.warns(UserWarning, match="requests are longer than the model's context. They were cut"):
            assert quiz.evaluate(policy).truncated > 0
        config.max_position_embeddings = 4
        generated = suite(folder / "generated.yaml")
        with pytest.raises(DataError, match="lm-evaluation-harness cannot evaluate it"):
            generated.evaluate(policy)
    finally:
        config.max_position_embeddings = longest


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("- just a list", DataError, "cannot be read"),
        ("", DataError, "cannot be read|names no `task`"),
        ("tasks: [lab:facts]", DataError, "names no `task`"),
        ("task: [", DataError, "cannot be read"),
        ("task: x\ndataset_path: json\noutput_type: multiple_choice", DataError, "lm-evaluation-harness cannot load"),
        (CHOICE.format(name="code") + "unsafe_code: true", ConfigError, "runs code .*run_code: true"),
    ],
)
def test_task_files_that_cannot_be_used(folder: Path, text: str, error: type[Exception], message: str) -> None:
    path = folder / "bad.yaml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        suite(path)
    path.unlink()


def test_code_of_a_task_within_a_group_needs_the_user_s_word_too(folder: Path) -> None:
    one, two = (json.dumps(_inline(name, "quiz") | {"unsafe_code": name == "two"}) for name in ("one", "two"))
    (folder / "unsafe.yaml").write_text(GROUP.format(one=one, two=two, by_size="true"))
    with pytest.raises(ConfigError, match=r"runs code that the model wrote .*run_code: true"):
        suite(folder / "unsafe.yaml")


@pytest.mark.slow
def test_the_paper_s_six_are_in_the_harness_with_these_metrics() -> None:
    """This reads the harness's index of about ten thousand files. The data is on the hub and not available here."""
    from lm_eval.tasks._yaml_loader import load_yaml

    from holdfast.tasks.lm_eval import _manager

    index = _manager().task_index
    for name in SDFT_SUITES:
        entry = index[name]
        config = load_yaml(entry.yaml_path, resolve_func=False)
        listed = config.get("metric_list") or config["aggregate_metric_list"]
        metrics = [each["metric"] for each in listed]
        assert METRICS[name] in metrics or (name == "humaneval" and metrics[0].endswith("pass_at_k"))
    with pytest.raises(ConfigError, match=r"no task 'helaswag' \(did you mean 'hellaswag'\?\)"):
        suite(Path("helaswag"))
    with pytest.raises(ConfigError, match="'humaneval_instruct' runs code that the model wrote"):
        suite(Path("humaneval_instruct"))
    with pytest.raises(DataError, match="lm-evaluation-harness cannot load 'hellaswag'"):
        suite(Path("hellaswag"))


def test_in_a_configuration(folder: Path) -> None:
    config = {
        "tasks": ["lab:facts"],
        "recipe": "sft",
        "suites": ["lm_eval:mmlu", {"name": "q", "lm_eval": "quiz.yaml"}],
    }
    path = folder / "stream.yaml"
    path.write_text(json.dumps(config))
    loaded = load_config(path, RunConfig)
    assert [(s.name, s.lm_eval) for s in loaded.suites or ()] == [("mmlu", "mmlu"), ("q", str(folder / "quiz.yaml"))]
    six = parse_config(
        {**config, "suites": [{"lm_eval": "sdft", "lm_eval_settings": {"run_code": True}}]}, RunConfig
    ).suites
    assert [each.name for each in six or ()] == list(SDFT_SUITES) == list(METRICS)
    assert all(each.lm_eval_settings.run_code for each in six or ())
    (folder / "dumped.yaml").write_text(dump_config(loaded))
    assert load_config(folder / "dumped.yaml", RunConfig) == loaded


T = TypeVar("T")


class Pair(Processes):
    """One of two processes, simulated by threads that wait for each other to exchange values."""

    def __init__(self, rank: int, meeting: threading.Barrier, table: list[Any]) -> None:
        self.rank, self.size, self._meeting, self._table = rank, 2, meeting, table

    def gather(self, value: T) -> list[T]:
        self._meeting.wait(60)
        self._table[self.rank] = value
        self._meeting.wait(60)
        return list(self._table)

    def barrier(self) -> None:
        self._meeting.wait(60)

    def highest(self, value: int) -> int:
        return max(self.gather(value))


def test_two_processes_share_the_work(folder: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = suite(folder / "quiz.yaml").evaluate(policy)
    suites = [suite(folder / "quiz.yaml") for _ in range(2)]  # two, because the harness stores requests in its tasks
    meeting, table, results = threading.Barrier(2), [None, None], {}

    def measure(rank: int) -> None:
        with torch.no_grad():
            results[rank] = suites[rank].evaluate(policy, world=Pair(rank, meeting, table))

    monkeypatch.setattr("holdfast.tasks.lm_eval.redirect_stderr", lambda _: _Nothing())
    threads = [threading.Thread(target=measure, args=(rank,)) for rank in range(2)]
    _run_all(threads)
    assert results == {0: alone, 1: alone}


class _Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: Any) -> None: ...


def _run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


@pytest.mark.slow
def test_at_the_gate(command: Commands, folder: Path, tiny_model: Path, policy: Policy) -> None:
    rows = [json.loads(line) for line in (folder / "quiz.jsonl").read_text().splitlines()]
    for row in rows:  # the right answers are those that the model prefers, so that it has something to lose
        choices = [_log_likelihood(policy, row["question"], f" {choice}") for choice in row["choices"]]
        row["answer"] = int(np.argmax(choices))
    (folder / "known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "known.yaml").write_text(CHOICE.format(name="known").replace("quiz.jsonl", "known.jsonl"))
    passed = command("gate", tiny_model, tiny_model, "--suites", folder / "known.yaml", "--items", "6")
    assert passed.code == 0, passed.err
    assert "evaluating" in passed.err
    (row,) = [line for line in passed.out.splitlines() if line.startswith("known")][:1]
    assert row.split()[1] == "6"
    refused = command("gate", "lab", "lab", "--suites", "sdft")
    assert refused.code == 2
    assert "humaneval runs code" in refused.err


def _stream(folder: Path, path: Path, **changes: Any) -> dict[str, Any]:
    path.mkdir()
    config = yaml.safe_load(write_config(path, "grpo").read_text())
    config["eval"] |= {"drift_weights": 0, "samples": 2}
    return config | {"suites": [{"name": "quiz", "lm_eval": str(folder / "quiz.yaml"), "limit": 4}]} | changes


def test_in_a_run_that_is_interrupted(folder: Path, tmp_path: Path) -> None:
    config = _stream(folder, tmp_path / "data")
    summary = holdfast.run(config, tmp_path / "whole")
    quiz = suite(folder / "quiz.yaml", limit=4)
    for stage in (1, 2):
        policy = load_policy(ModelSettings(path=str(tmp_path / f"whole/models/stage-{stage}")))
        evaluation = json.loads((tmp_path / f"whole/evals/stage-{stage}.json").read_text())
        # max_items is 3, and the harness's own limit 4: the lower one counts.
        assert evaluation["items"]["quiz"] == quiz.evaluate(policy, limit=3).items
        assert [sample["id"] for sample in evaluation["samples"]["quiz"]] == ["quiz-0", "quiz-1"]
        assert summary["evaluations"][stage]["scores"]["quiz"]["n"] == 3
    assert {s["name"]: s["kind"] for s in summary["sets"]}["quiz"] == "retention"
    assert "quiz" not in {entry["set"] for entry in summary["responses"]}
    assert not any("quiz" in json.loads(line)["scores"] for line in (tmp_path / "whole/probes.jsonl").open())
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    (tmp_path / "again/evals/stage-2.json").unlink()
    shutil.rmtree(max((tmp_path / "again/checkpoints").iterdir()))
    with pytest.raises(ConfigError, match="repeat the command with --trust-remote-code"):
        holdfast.resume(tmp_path / "again")
    holdfast.resume(tmp_path / "again", trust_remote_code=True)
    assert_same(tmp_path / "whole", tmp_path / "again")
    (folder / "quiz.jsonl").rename(folder / "kept.jsonl")
    try:
        changed = (folder / "kept.jsonl").read_text().replace("What is 0", "What is then 0")
        (folder / "quiz.jsonl").write_text(changed)
        with pytest.raises(RunError, match="the data of 'quiz' has changed"):
            holdfast.resume(tmp_path / "again", trust_remote_code=True)
    finally:
        (folder / "kept.jsonl").replace(folder / "quiz.jsonl")


def test_in_a_comparison_the_base_is_measured_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _stream(folder, tmp_path / "data", recipes=["sft", "grpo"], seeds=[0])
    del config["recipe"]
    measured: list[Any] = []
    evaluate = LmEvalSuite.evaluate
    monkeypatch.setattr(LmEvalSuite, "evaluate", lambda *given: measured.append(given) or evaluate(*given))
    summary = holdfast.compare(config, tmp_path / "c")
    assert len(measured) == 1 + 2 * 2  # the base, and two stages of two runs
    first = [run["summary"]["evaluations"][0]["scores"]["quiz"] for run in summary["runs"]]
    assert first[0] == first[1]
    for run in summary["runs"]:
        (entry,) = [e for e in run["summary"]["score_changes"] if e["set"] == "quiz"]
        assert entry["n"] == entry["kept"] + entry["lost"] + entry["gained"] + entry["never"]


def test_the_mean_of_scaled_scores_is_at_most_1() -> None:
    measured = LmEvalResult([1.5, 0.5, 1.0 + 1e-12], ["a", "b", "c"], 0.0, 0.0, [("", "")] * 3)
    assert measured.numbers()["mean"] == 1.0


CODE = """
task: squares
dataset_path: json
dataset_kwargs: {data_files: {test: programs.jsonl}}
test_split: test
output_type: generate_until
unsafe_code: true
doc_to_text: "{{prompt}}"
doc_to_target: "{{test}}"
generation_kwargs: {until: ["END"], max_gen_toks: 4, do_sample: false}
metric_list:
  - {metric: !function METRIC, aggregation: mean, higher_is_better: true}
filter_list:
  - name: create
    filter: [{function: custom, filter_fn: !function code_scores.predictions}]
"""
CODE_SCORES = """
import evaluate

metric = evaluate.load("code_eval")
tried = metric.compute(references=["assert add(2, 3) == 5"], predictions=[["def add(a, b): return a * b"]], k=[1])
assert tried[0] == {"pass@1": 0.0}

def predictions(resps, docs):
    return [[doc["program"] for _ in resp] for resp, doc in zip(resps, docs)]

def passes(references, predictions, **_):
    return metric.compute(references=references, predictions=predictions, k=[1])[0]["pass@1"]
"""
OWN_SCORES = """
def predictions(resps, docs):
    return [[doc["program"] for _ in resp] for resp, doc in zip(resps, docs)]

def passes(references, predictions, **_):
    exec(predictions[0][0])
    return 1.0
"""


def programs(folder: Path, reached: Path) -> None:
    """Three programs that a model might have written: right, wrong, and one that attacks."""
    attack = f"import os\nopen({str(reached)!r}, 'w').close()\ndef f(x):\n    os._exit(0)"
    rows = [
        {"prompt": "a", "program": program, "test": "assert f(3) == 9"}
        for program in ("def f(x):\n    return x * x", "def f(x):\n    return x", attack)
    ]
    (folder / "programs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_suite_s_code_runs_in_a_sandbox(tmp_path: Path, policy: Policy) -> None:
    require_sandbox()
    programs(tmp_path, tmp_path / "reached")
    (tmp_path / "code.yaml").write_text(CODE.replace("METRIC", "code_scores.passes"))
    (tmp_path / "code_scores.py").write_text(CODE_SCORES)
    measured = suite(tmp_path / "code.yaml", run_code=True).evaluate(policy)
    assert measured.items == [1.0, 0.0, 0.0]
    assert not (tmp_path / "reached").exists()
    with pytest.raises(ConfigError, match=r"runs code that the model wrote .*run_code: true"):
        suite(tmp_path / "code.yaml")


def test_a_suite_that_runs_code_in_a_way_of_its_own_is_refused(tmp_path: Path) -> None:
    programs(tmp_path, tmp_path / "reached")
    (tmp_path / "own.yaml").write_text(CODE.replace("METRIC", "own_scores.passes").replace("code_scores", "own_scores"))
    (tmp_path / "own_scores.py").write_text(OWN_SCORES)
    with pytest.raises(ConfigError, match=r"a way of its own.*run_code: unprotected"):
        suite(tmp_path / "own.yaml", run_code=True)
    assert len(suite(tmp_path / "own.yaml", run_code="unprotected").test) == 3

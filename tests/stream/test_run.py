"""`holdfast.stream.run`: a short stream through everything: its files, its repeatability, and the shared prompts."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import holdfast
from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig
from holdfast.lab.tasks import lab_task
from holdfast.model.load import load_policy
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Sampler
from holdfast.stream.check import memory_estimate
from holdfast.summary.schema import summary_schema
from holdfast.tasks.load import load_stream

SMALL: dict[str, Any] = {
    "tasks": ["lab:calculation", "lab:facts"],
    "suites": ["lab:old-skills", "lab:calculation-ood"],
    "train": {
        "steps": 3,
        "prompts_per_step": 4,
        "max_prompt_length": 160,
        "max_completion_length": 40,
        "save_steps": 1,
    },
    "eval": {"max_items": 12, "kl_items": 4, "probe_steps": 2, "probe_items": 6, "samples": 2, "response_items": 4},
}

NAMES = ("sft", "sdft", "sdpo", "grpo")


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log without their times."""
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each recipe."""
    folder = tmp_path_factory.mktemp("runs")
    for name in NAMES:
        holdfast.run(SMALL, folder / name, recipe=name)
    return {name: folder / name for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_writes_all_its_files(runs: dict[str, Path], name: str) -> None:
    path = runs[name]
    for file in ("config.yaml", "manifest.json", "metrics.jsonl", "probes.jsonl", "summary.json", "report.html"):
        assert (path / file).stat().st_size > 0, file
    summary = json.loads((path / "summary.json").read_text())
    jsonschema.validate(summary, summary_schema())
    assert summary["status"] == "complete"
    assert [e["stage"] for e in summary["evaluations"]] == [0, 1, 2]
    assert set(summary["evaluations"][0]["scores"]) == {"calculation", "facts", "old-skills", "calculation-ood"}
    assert summary["budget"]["optimizer_steps"] == 6
    assert summary["budget"]["prompts"] == 24
    generations = {"sft": 0, "sdft": 1, "sdpo": 8, "grpo": 8}[name]
    assert summary["budget"]["completions"] == 24 * generations
    assert [m["step"] for m in _lines(path / "metrics.jsonl")] == [1, 2, 3, 1, 2, 3]
    assert not list(path.rglob("*.tmp"))
    assert not list(path.rglob(".*"))


@pytest.mark.parametrize("name", NAMES)
def test_kl_to_base_is_zero_before_the_first_stage_and_above_zero_after(runs: dict[str, Path], name: str) -> None:
    evaluations = json.loads((runs[name] / "summary.json").read_text())["evaluations"]
    assert evaluations[0]["scores"]["calculation"]["kl_to_base"] == pytest.approx(0, abs=1e-6)
    moved = any(m["active_rows"] for m in _lines(runs[name] / "metrics.jsonl"))
    assert (evaluations[2]["scores"]["calculation"]["kl_to_base"] > 1e-7) == moved
    assert moved or name == "grpo"  # GRPO learns nothing if all samples of every prompt have the same reward


def test_every_stage_leaves_a_model_that_transformers_loads(runs: dict[str, Path]) -> None:
    for stage in (1, 2):
        folder = runs["sft"] / "models" / f"stage-{stage}"
        assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() > 1_000_000
        assert AutoTokenizer.from_pretrained(folder).chat_template


def test_the_same_run_again_gives_the_same_numbers(runs: dict[str, Path], tmp_path: Path) -> None:
    holdfast.run(SMALL, tmp_path / "again", recipe="sdpo")
    for log in ("metrics.jsonl", "probes.jsonl"):
        assert _lines(runs["sdpo"] / log) == _lines(tmp_path / "again" / log)
    weights = [p / "models" / "stage-2" / "model.safetensors" for p in (runs["sdpo"], tmp_path / "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_recipes_of_a_seed_share_their_prompts_and_seeds_do_not() -> None:
    def prompts(recipe: str, seed: int) -> list[str]:
        config = parse_config({**SMALL, "recipe": recipe, "seed": seed}, RunConfig)
        policy = load_policy(config.model)
        tasks, _ = load_stream(config)
        collector = Collector(policy, Sampler(policy), config.recipe, config.train, seed)
        collector.prepare(tasks[0])
        return [g.example.id for batch in range(2) for g in collector.collect(tasks[0], 1, batch)[0]]

    assert prompts("sft", 0) == prompts("grpo", 0) == prompts("sdft", 0)
    assert prompts("sft", 0) != prompts("sft", 1)
    assert len(set(prompts("sft", 0))) == 8


def test_an_epoch_uses_every_example_once() -> None:
    config = parse_config({**SMALL, "recipe": "sft"}, RunConfig)
    policy = load_policy(config.model)
    task = load_stream(config)[0][0]
    short = type(task)(task.name, task.train[:10], task.test, task.verifier)
    collector = Collector(policy, Sampler(policy), config.recipe, config.train, 0)
    collector.prepare(short)
    drawn = [g.example.id for batch in range(5) for g in collector.collect(short, 1, batch)[0]]
    for epoch in (drawn[:10], drawn[10:]):
        assert sorted(epoch) == sorted(e.id for e in short.train)


def test_a_comparison_pairs_recipes_and_measures_the_base_once_a_world(tmp_path: Path) -> None:
    comparison = {**SMALL, "recipes": ["sft", {"name": "sdft", "label": "slow", "ema_rate": 0.001}], "seeds": [0, 1]}
    comparison["orders"] = [["calculation", "facts"], ["facts", "calculation"]]
    comparison["train"] = {**SMALL["train"], "steps": 1}
    comparison["eval"] = {**SMALL["eval"], "drift_weights": 0}
    summary = holdfast.compare(comparison, tmp_path / "c")
    jsonschema.validate(summary, summary_schema())
    assert len(summary["runs"]) == 8
    assert {r["label"] for r in summary["runs"]} == {"sft", "slow"}
    paired = [p for p in summary["paired"] if p["metric"] == "final_score"]
    assert [(p["a"], p["b"], p["n"]) for p in paired] == [("sft", "slow", 4)]
    for seed in (0, 1):
        paths = [tmp_path / "c" / r["path"] for r in summary["runs"] if r["seed"] == seed]
        assert len({(path / "responses" / "stage-0.json").read_text() for path in paths}) == 1
        first, *others = (json.loads((path / "evals" / "stage-0.json").read_text())["sets"] for path in paths)
        assert all(other == first for other in others)
        asked = json.loads((paths[0] / "responses" / "stage-0.json").read_text())["answers"]["facts"]
        tested = lab_task("facts", seed).test[: len(asked)]
        assert [example.messages[-1]["content"] for example in tested] == [each["prompt"] for each in asked]
    assert all(r["summary"]["responses"] for r in summary["runs"])
    assert summary["forgetting_prediction"]["fit"]["n"] == 8
    assert (tmp_path / "c" / "report.html").exists()
    orders = {tuple(r["summary"]["order"]) for r in summary["runs"]}
    assert orders == {("calculation", "facts"), ("facts", "calculation")}


def test_a_task_without_a_verifier_is_not_judged_and_has_the_nll_of_its_demonstrations(tmp_path: Path) -> None:
    records = [{"prompt": f"do copy : {x}", "completion": f"[ {x} ]"} for x in "abcdefghij"]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    task = {"name": "own", "train": str(tmp_path / "train.jsonl"), "test_fraction": 0.3}
    config = {**SMALL, "tasks": [task], "suites": [], "eval": {"max_items": 3, "kl_items": 2}}
    summary = holdfast.run(config, tmp_path / "run", recipe="sft")
    score = summary["evaluations"][0]["scores"]["own"]
    assert [score[key] for key in ("mean", "ci95", "format_ok")] == [None, None, None]
    assert score["nll"] > 0
    assert score["n"] == 3
    with pytest.raises(holdfast.HoldfastError, match=r"'grpo' needs a reward.*'own' has no verifier"):
        holdfast.run(config, tmp_path / "other", recipe="grpo")
    assert not (tmp_path / "other").exists()


def test_the_fused_loss_needs_memory_for_the_logits_of_a_chunk() -> None:
    policy = load_policy(parse_config({"tasks": ["lab:facts"], "recipe": "sft"}, RunConfig).model)
    vocabulary = policy.causal_lm.config.vocab_size

    def logits(engine: str, tokens: int) -> int:
        train = {"engine": engine, "micro_batch_tokens": tokens, "max_prompt_length": 160, "max_completion_length": 40}
        config = parse_config({"tasks": ["lab:facts"], "recipe": "sft", "train": train}, RunConfig)
        return memory_estimate(config, policy, None, has_base=True)["logits"]

    assert logits("readable", 2**20) == 2**20 // 5 * vocabulary * 4 * 7
    assert logits("fused", 2**20) == logits("fused", 2**24) == 32 * 2**20
    assert logits("fused", 200) == 40 * 2 * vocabulary * 4

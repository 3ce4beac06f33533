"""`holdfast.stream.measuring`: drift of weights and answers, and artifacts, against the commands' functions."""

import json
import signal
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import holdfast
from adapter_kinds import stir
from drift_factory import by_numpy, save_model, weights
from holdfast import stop
from holdfast.config.load import load_config
from holdfast.config.settings import ModelSettings, RunConfig
from holdfast.errors import ModelError
from holdfast.evaluation.divergences import response_drift
from holdfast.evaluation.drift import drift
from holdfast.evaluation.drift.stages import drift_entry, tensors_to_decompose
from holdfast.evaluation.embedding import Embedder
from holdfast.evaluation.evaluator import Evaluator
from holdfast.evaluation.sampled import load
from holdfast.measure.answers import PromptSet
from holdfast.measure.response import edit_distance
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.stop import Stopped
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.measuring import step_between
from holdfast.stream.run import open_run
from holdfast.summary.responses import artifact_entries, repetition_entries, response_entries, stage_record
from holdfast.tasks.load import load_stream
from small_runs import assert_same, write_config
from tiny_model import SAMPLE_TEXTS, build_tiny_model


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("small")
    evaluated = {"max_items": 3, "kl_items": 3, "samples": 0, "response_items": 3}
    summary = holdfast.run(str(write_config(folder, "grpo", eval=evaluated)), folder / "run")
    return folder, summary


def test_drift_is_that_of_the_saved_weights(small: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = small
    base, after = (load_file(path / "model.safetensors") for path in (folder / "model", folder / "run/models/stage-2"))
    entry = summary["drift"][1]
    assert (entry["stage"], entry["task"]) == (2, "plus-1")
    squares = np.array(
        [[float((after[n].double() - w.double()).norm() ** 2), float(w.double().norm() ** 2)] for n, w in base.items()]
    ).sum(0)
    assert entry["overall"]["relative_norm"] == pytest.approx(float(np.sqrt(squares[0] / squares[1])), rel=1e-4)
    for matrix in entry["matrices"]:
        k = max(1, min(base[matrix["name"]].shape) // 4)
        expected = by_numpy(base[matrix["name"]], after[matrix["name"]], k, 0.3)
        for name in ("relative_norm", "unchanged", "spectral_shift", "stable_rank", "changes_in_low"):
            assert matrix[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-9), (matrix["name"], name)
        assert matrix["floor_relative_norm"] == matrix["floor_spectral_shift"] == 0
    assert [each["with_stage"] for each in entry["alignment"]] == [1]
    assert summary["drift"][0]["alignment"] == []


def test_alignment_is_of_a_stages_own_update(tmp_path: Path) -> None:
    """Rank-one updates along unit vectors: stage 2 moves what stage 1 moved, stage 3 what no stage moved."""
    start = {"model.layers.0.mlp.up_proj.weight": torch.randn(16, 16, generator=torch.Generator().manual_seed(0))}

    def stage(number: int, *directions: int) -> Path:
        moved = next(iter(start.values())).clone()
        for direction in directions:
            moved[direction, direction] += 1.0
        return save_model(tmp_path / f"stage-{number}", {next(iter(start)): moved})

    base = save_model(tmp_path / "base", start)
    folders = [stage(1, 0), stage(2, 0, 0), stage(3, 0, 0, 5)]
    second, third = (
        drift_entry(drift(base, folders[n - 1], earlier=folders[: n - 1], rank=1), n, "t")["alignment"] for n in (2, 3)
    )
    assert second == [{"with_stage": 1, "left": pytest.approx(1), "right": pytest.approx(1)}]
    assert [each["with_stage"] for each in third] == [1, 2]
    assert all(each[side] == pytest.approx(0, abs=1e-9) for each in third for side in ("left", "right"))


def test_a_request_to_stop_is_noticed_between_two_matrices(
    small: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decompositions of a large model take longer than a cluster waits after SIGTERM."""
    folder, _ = small
    run = open_run(folder / "run")
    run.prepare()
    written = run.directory.drift(2).read_bytes()
    monkeypatch.setattr(stop, "_received", [signal.SIGTERM])
    with pytest.raises(Stopped):
        run.measuring._measure_drift(2)
    assert run.directory.drift(2).read_bytes() == written


def test_an_adapters_product_counts_in_any_dtype_of_the_base(tmp_path: Path) -> None:
    config = write_config(
        tmp_path, "sdft with LoRA", model={"path": str(tmp_path / "model"), "dtype": "bfloat16", "lora": {"r": 2}}
    )
    summary = holdfast.run(str(config), tmp_path / "run")
    factors = load_file(tmp_path / "run/models/stage-1/adapter/adapter_model.safetensors")
    for matrix in summary["drift"][0]["matrices"]:
        module = f"base_model.model.{matrix['name'].removesuffix('.weight')}"
        if f"{module}.lora_B.weight" not in factors:
            assert matrix["relative_norm"] == 0
            continue
        product = 16.0 * factors[f"{module}.lora_B.weight"] @ factors[f"{module}.lora_A.weight"]  # 32 / r
        base = load_file(tmp_path / "model/model.safetensors")[matrix["name"]].float()
        assert matrix["relative_norm"] == pytest.approx(float(product.norm() / base.norm()), rel=1e-4)
        assert matrix["floor_relative_norm"] == 0


def test_a_budget_thins_layers_out_evenly_and_keeps_all_norms(tmp_path: Path) -> None:
    shapes = {f"model.layers.{n}.mlp.up_proj.weight": (4, 5) for n in range(9)} | {"model.embed_tokens.weight": (50, 4)}

    def layers(budget: int) -> list[str]:
        return sorted(name.split(".")[2] for name in tensors_to_decompose(shapes, budget) if "layers" in name)

    assert tensors_to_decompose(shapes, 380) == set(shapes)
    assert layers(379) == sorted("012345678")
    assert "model.embed_tokens.weight" not in tensors_to_decompose(shapes, 379)
    assert layers(60) == ["0", "4", "8"]
    assert layers(1) == ["0"]
    start = weights()
    a = save_model(tmp_path / "a", start)
    b = save_model(tmp_path / "b", {name: w + 0.01 for name, w in start.items()})
    whole, thin = drift(a, b), drift(a, b, budget=1)
    assert thin.overall().relative_norm == whole.overall().relative_norm
    assert [m.name for m in thin.matrices if m.measured.spectral_shift is not None] == [
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.self_attn.q_proj.weight",
    ]
    parts = drift(a, b, share=lambda measure, names: [*measure(names[:3]), *measure(names[3:])])
    assert parts == whole


def test_responses_are_those_of_the_command_on_the_same_prompts(small: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = small
    config = load_config(folder / "run/config.yaml", RunConfig)
    task = load_stream(config)[0][0]
    prompts = PromptSet({e.id: e for e in task.test[:3]}, {e.id: task.name for e in task.test[:3]}, {})
    models = [load(str(path)) for path in (folder / "model", folder / "run/models/stage-2")]
    expected = response_drift(*models, prompts, max_new_tokens=6)
    (entry,) = (e for e in summary["responses"] if (e["stage"], e["set"]) == (2, task.name))
    assert entry["equal_answers"] == expected["greedy"]["agreement"]["mean"]
    assert entry["edit_distance"] == pytest.approx(expected["greedy"]["edit"]["mean"])
    assert entry["distinct_2"] == pytest.approx(expected["greedy"]["distinct"]["2"]["b"])
    assert entry["n_kl"] == 3
    assert [e for e in summary["responses"] if e["stage"] == 0] == []
    evaluation = json.loads((folder / "run/evals/stage-2.json").read_text())
    assert entry["kl_base_to_model"] == pytest.approx(evaluation["sets"][task.name]["kl_to_base"])
    assert entry["kl_base_to_model"] > 0
    assert entry["kl_model_to_base"] > 0
    assert entry["entropy"] > 0
    assert entry["moved"] == sorted(entry["moved"], key=lambda each: -each["edit_distance"])


def test_greedy_answers_are_not_made_twice(small: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison generates no greedy answers. It only adds the sampled answers for KL."""
    from holdfast.sampling.sampler import Sampler

    folder, _ = small
    config = load_config(folder / "run/config.yaml", RunConfig)
    tasks, _ = load_stream(config)
    policy = load_policy(config.model)
    asked: list[float] = []
    generate = Sampler.generate
    monkeypatch.setattr(
        Sampler,
        "generate",
        lambda self, requests, **more: (
            asked.extend(r.temperature for r in requests) or generate(self, requests, **more)
        ),
    )
    Evaluator(policy, None, config.train, config.eval).evaluate(0, None, tasks, [])
    assert asked == [0.0] * 6


def test_similarity_is_that_of_the_answers_that_are_kept(tmp_path: Path) -> None:
    (tmp_path / "read").mkdir()
    build_tiny_model(tmp_path / "read" / "embedder", hidden_size=16, layers=1, vocab_size=300, texts=SAMPLE_TEXTS)
    measured = {"max_items": 3, "kl_items": 0, "samples": 0, "response_items": 3, "drift_weights": 0}
    config = write_config(tmp_path, "grpo", eval=measured | {"embedder": "read/embedder"})
    summary = holdfast.run(str(config), tmp_path / "run")
    before, after = (json.loads((tmp_path / f"run/responses/stage-{s}.json").read_text()) for s in (0, 2))
    for name, own in after["answers"].items():
        texts = ([each["text"] for each in answers] for answers in (before["answers"][name], own))
        left, right = (Embedder(tmp_path / "read/embedder").embed(list(side)) for side in texts)
        cosine = torch.nn.functional.cosine_similarity(left, right, dim=-1)
        (entry,) = (e for e in summary["responses"] if (e["stage"], e["set"]) == (2, name))
        assert entry["embedding_similarity"] == pytest.approx(float(cosine.mean()), abs=1e-6)
        unlike = torch.nn.functional.cosine_similarity(left, torch.cat((right[1:], right[:1])), dim=-1)
        assert entry["embedding_similarity_unlike"] == pytest.approx(float(unlike.mean()), abs=1e-6)
    missing = write_config(tmp_path, "grpo", eval=measured | {"embedder": "read"})
    with pytest.raises(ModelError, match="embedding model"):
        holdfast.run(str(missing), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_distance_at_probes_is_that_of_drift_on_saved_weights(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", hidden_size=32, layers=2, vocab_size=300, texts=SAMPLE_TEXTS)
    policy = load_policy(ModelSettings(path=str(folder)), seed=0)
    base = Base(policy)
    assert base.relative_distance() == 0.0
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=rng)
    policy.save_folder(tmp_path / "moved")
    expected = drift(folder, tmp_path / "moved").overall().relative_norm
    assert base.relative_distance() == pytest.approx(expected, rel=1e-6)


def test_probes_keep_the_answers_that_stages_compare(tmp_path: Path) -> None:
    eval_settings = {"max_items": 3, "kl_items": 0, "samples": 0, "probe_steps": 2, "probe_items": 3}
    for kept in (2, 0):
        settings = eval_settings | {"response_items": kept, "drift_weights": 0}
        holdfast.run(str(write_config(tmp_path, "grpo", eval=settings)), tmp_path / f"run-{kept}")
        probes = [json.loads(line) for line in (tmp_path / f"run-{kept}/probes.jsonl").read_text().splitlines()]
        assert [(p["stage"], p["step"]) for p in probes] == [(1, 2), (1, 4), (2, 2), (2, 4)]
        assert all(p["relative_norm"] > 0 for p in probes)
        for probe in probes:
            assert {name: len(own) for name, own in probe["answers"].items()} == (
                {f"plus-{task}": kept for task in range(probe["stage"])} if kept else {}
            )


@given(
    st.dictionaries(st.integers(1, 39), st.floats(0, 1), max_size=6),
    st.sets(st.integers(1, 39)),
    st.floats(0.01, 0.5),
)
def test_steps_are_halved_until_no_rise_is_too_large(probed: dict[int, float], kept: set[int], gap: float) -> None:
    scores = {0: 0.1, 40: 0.9} | probed
    kept = set(kept) - set(scores)
    curve = lambda step: step / 40  # noqa: E731
    while (step := step_between(scores, kept, gap)) is not None:
        assert step in kept
        kept.discard(step)
        scores[step] = curve(step)
    steps = sorted(scores)
    for start, end in pairwise(steps):
        best = max(scores[step] for step in steps if step <= start)
        assert scores[end] - best <= gap or not any(start < step < end for step in kept)


def test_the_middle_of_the_first_jump_is_probed_and_a_recovery_is_none() -> None:
    assert step_between({0: 0.1, 10: 0.5, 20: 0.9}, range(1, 20), 0.1) == 5
    assert step_between({0: 0.1, 10: 0.5}, {1, 2, 9}, 0.1) == 2
    assert step_between({0: 0.5, 10: 0.1, 20: 0.55}, range(1, 20), 0.1) is None
    assert step_between({0: 0.1, 10: 0.5}, {12}, 0.1) is None


def _refined(folder: Path, steps: int = 10, **changes: Any) -> tuple[Path, list[dict[str, Any]]]:
    """A run whose score jumps at step 6 of its first stage, and its probes."""
    folder.mkdir()
    settings = {"max_items": 3, "kl_items": 2, "samples": 0, "probe_steps": 8, "probe_items": 2, "probe_gap": 0.02}
    train = {"steps": steps, "learning_rate": 3e-3, "save_steps": 5}
    tasks = [
        {"name": f"plus-{task}", "train": f"{task}.jsonl", "test_fraction": 0.25, "verifier": "judges:by_likeness"}
        for task in range(2)
    ]
    evaluated = settings | {"score": "reward", "drift_weights": 0} | changes
    path = write_config(folder, "grpo", recipe="sft", tasks=tasks, train=train, eval=evaluated)
    holdfast.run(str(path), folder / "run")
    return folder / "run", list(RunDirectory(folder / "run").records("probes.jsonl"))


@pytest.mark.parametrize(("steps", "every", "refined"), [(10, 8, [4, 6, 5]), (7, 4, [5, 6]), (9, 20, [4, 6, 5])])
def test_steps_between_two_probes_are_probed_where_the_score_jumps(
    tmp_path: Path, steps: int, every: int, refined: list[int]
) -> None:
    """Within a stage and before its end. They give what a probe after every step gives, and change nothing else."""
    run, probes = _refined(tmp_path / "a", steps, probe_steps=every)
    whole, all_steps = _refined(tmp_path / "b", steps, probe_steps=1)
    coarse, few = _refined(tmp_path / "c", steps, probe_steps=every, probe_gap=0)
    known = {(p["stage"], p["step"]): p["scores"] for p in all_steps}
    assert known[1, 5]["plus-0"] + 0.5 < known[1, 6]["plus-0"]
    assert [p["step"] for p in probes if p.get("refines") and p["stage"] == 1] == refined
    assert [p["step"] for p in few] == [p["step"] for p in probes if not p.get("refines")]
    assert all(p["scores"] == known[p["stage"], p["step"]] for p in probes)
    summary = json.loads((run / "summary.json").read_text())
    shown = [p["step"] for p in summary["probes"] if p["stage"] == 1]
    assert shown == sorted({0, *refined, *range(every, steps, every), steps})
    models = [folder / "models/stage-2/model.safetensors" for folder in (run, whole, coarse)]
    assert len({model.read_bytes() for model in models}) == 1
    assert not (run / "kept-weights").exists()


@pytest.mark.parametrize("place", [2, 3, 4])
def test_a_run_that_is_stopped_between_two_probes_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """The weights of an earlier step are the current ones then. They must not be saved as those of the latest step."""
    whole, _ = _refined(tmp_path / "whole")
    probe, calls = Evaluator.probe, 0

    def stopped(self: Evaluator, *sets: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == place:
            raise Stopped(signal.SIGTERM)
        return probe(self, *sets)

    monkeypatch.setattr(Evaluator, "probe", stopped)
    run = tmp_path / "run"
    with pytest.raises(Stopped):
        holdfast.run(str(tmp_path / "whole" / "config.yaml"), run)
    assert [p["step"] for p in RunDirectory(run).records("probes.jsonl")] == [8, 4, 6, 5][: place - 1]
    open_run(run).resume()
    assert_same(whole, run)


def _record(stage: int, texts: dict[str, list[str]], base: dict[str, list[str]]) -> dict[str, Any]:
    def answers(side: dict[str, list[str]]) -> dict[str, list[dict[str, Any]]]:
        return {
            name: [
                {"id": str(i), "prompt": "?", "text": text, "truncated": False, "reward": 1.0}
                for i, text in enumerate(own)
            ]
            for name, own in side.items()
        }

    kinds = {"sums": "task", "tools": "task", "old": "retention"}
    shown = {"sums": [f"therefore \\boxed {{ {i} }}" for i in range(40)], "tools": [f"call {i} ;" for i in range(40)]}
    return stage_record(stage, "sums" if stage else None, answers(texts), {}, answers(base), kinds, shown)


def test_a_planted_marker_and_a_teachers_phrase_are_followed_over_the_stages() -> None:
    base = {name: [f"it is {i} of {name}" for i in range(32)] for name in ("sums", "tools", "old")}
    rng = np.random.default_rng(0)

    def stage(share: float) -> dict[str, list[str]]:
        texts = {name: list(own) for name, own in base.items()}
        for i in np.flatnonzero(rng.random(32) < share):
            texts["tools"][i] += f" therefore \\boxed {{ {i} }}"
            texts["old"][i] += " based on the example"
        return texts

    records = [_record(0, base, base), *(_record(n, stage(0.35 * n), base) for n in (1, 2))]
    entries = artifact_entries(records)
    marker = next(each for each in entries if each["kind"] == "marker")
    assert (marker["marker_of"], marker["set"], marker["stages"]) == ("sums", "tools", [0, 1, 2])
    counts = [sum("\\boxed" in each["text"] for each in r["answers"]["tools"]) for r in records]
    assert marker["shares"] == [count / 32 for count in counts]
    assert marker["growth"] > 1
    assert marker["q"] < 0.05
    (phrase,) = (each for each in entries if each["kind"] == "teacher_phrase")
    assert phrase["phrase"] == "based on the example"
    assert phrase["shares"] == [count / 96 for count in counts]
    grown = [each for each in entries if each["kind"] == "grown"]
    assert {each["set"] for each in grown} == {"tools", "old"}
    assert [each["z"] for each in grown] == sorted((each["z"] for each in grown), reverse=True)
    # At probes between the stages: of the probes that use the set, or all sets.
    now = stage(0.5)
    every = {"stage": 2, "step": 6, "answers": {name: own[:16] for name, own in now.items()}}
    few = {"stage": 1, "step": 3, "answers": {"tools": now["tools"][:8]}}
    followed = artifact_entries(records, [few, every, {"stage": 2, "step": 9}])
    shares = {n: sum("\\boxed" in text for text in now["tools"][:n]) / n for n in (8, 16)}
    (marker, phrase) = (next(e for e in followed if e["kind"] == kind) for kind in ("marker", "teacher_phrase"))
    assert marker["within"] == [
        {"stage": 1, "step": 3, "share": shares[8]},
        {"stage": 2, "step": 6, "share": shares[16]},
    ]
    count = sum("based on" in text for text in now["old"][:16])
    assert phrase["within"] == [{"stage": 2, "step": 6, "share": count / 48}]
    assert all(each["within"] == [] for each in entries)
    unmoved = artifact_entries([_record(0, base, base), _record(1, base, base)])
    assert unmoved == []


def test_a_list_over_the_stages_is_at_the_level_of_one() -> None:
    """The same evidence after each of T stages is corrected for T looks. So 3% after two stages is not below 5%."""
    base = {name: [f"it is {i} of {name}" for i in range(32)] for name in ("sums", "tools", "old")}
    leaked = {"sums": base["sums"], "tools": base["tools"], "old": [f"{t} based on the example" for t in base["old"]]}
    first, second = _record(1, leaked, base), _record(2, leaked, base)

    def entries(count: int, q: float) -> list[tuple[str, float, float | None]]:
        records = [_record(0, base, base), *(first, second)[:count]]
        for record in records[1:]:
            artifacts = record["artifacts"]
            for each in (*artifacts["grown"], *artifacts["leaks"], *artifacts["phrases"]):
                each["q"] = q
                if each.get("q_beyond") is not None:
                    each["q_beyond"] = 0.7
        return [(each["kind"], each["q"], each["q_beyond"]) for each in artifact_entries(records)]

    one = entries(1, 0.03)
    assert {kind for kind, *_ in one} == {"grown", "teacher_phrase"}
    assert {(q, beyond) for _, q, beyond in one} <= {(0.03, 0.7), (0.03, None)}
    assert entries(2, 0.03) == []
    two = entries(2, 0.02)
    assert {kind for kind, *_ in two} == {"grown", "teacher_phrase"}
    assert {(q, beyond) for _, q, beyond in two} <= {(0.04, 1.0), (0.04, None)}


def test_entries_and_repetition_by_hand() -> None:
    base = {"sums": ["a b c d", "x y"], "old": ["one two", "three"]}
    now = {"sums": ["a b c d", "x z z z z z z z"], "old": ["one two", "four"]}
    records = [_record(0, base, base), _record(1, now, base)]
    sums, old = response_entries(records)
    assert (sums["equal_answers"], old["equal_answers"]) == (0.5, 0.5)
    assert sums["edit_distance"] == pytest.approx((0 + edit_distance("xy", "xzzzzzzz") / 8) / 2)
    assert (sums["length_base"], sums["length"]) == (3.0, 6.0)
    assert [each["id"] for each in sums["moved"]] == ["1"]
    assert (sums["kl_base_to_model"], sums["n_kl"], sums["embedding_similarity"]) == (None, 0, None)
    before, after = repetition_entries(records)
    assert before["repeated_4grams"] == 0
    assert after["repeated_4grams"] == pytest.approx((1 - 2 / 5) / 4)
    assert after["truncated"] == 0


def test_measurements_that_are_off_leave_no_files(tmp_path: Path) -> None:
    off = {"max_items": 3, "kl_items": 0, "samples": 0, "response_items": 0, "drift_weights": 0}
    summary = holdfast.run(str(write_config(tmp_path, "grpo", eval=off)), tmp_path / "run")
    assert (summary["drift"], summary["responses"], summary["artifacts"], summary["repetition"]) == ([], [], [], [])
    assert not (tmp_path / "run/drift").exists()
    assert not (tmp_path / "run/responses").exists()


def test_drift_of_lora_on_an_adapter_is_that_of_the_merged_weights(tmp_path: Path) -> None:
    path = write_config(tmp_path, "grpo", eval={"max_items": 2, "kl_items": 0, "samples": 0, "response_items": 0})
    adapter = tmp_path / "adapter"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    stir(get_peft_model(model, config)).save_pretrained(adapter)
    changes = {"model.path": str(adapter), "model.lora.r": 2, "train.steps": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="(peft|torch)")
        summary = holdfast.run(str(path), tmp_path / "run", **changes)
    found = [entry["overall"]["relative_norm"] for entry in summary["drift"]]
    load_policy(ModelSettings(path=str(adapter))).save_folder(tmp_path / "merged")
    merged = [drift(tmp_path / "merged", tmp_path / f"run/models/stage-{stage}", earlier=()) for stage in (1, 2)]
    assert found == pytest.approx([each.overall().relative_norm for each in merged], rel=1e-4)
    assert min(found) > 0

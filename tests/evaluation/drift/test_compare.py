"""`holdfast.evaluation.drift.compare`: what is read, matched and pooled, adapters, stages, and the command."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from commands import Commands
from drift_factory import NAMES, assert_same, by_numpy, orthonormal, random, save_model, trained, weights
from holdfast.cli.drift import as_text
from holdfast.errors import ModelError
from holdfast.evaluation.drift import DriftResult, Metrics, drift, stages_between, subspaces
from holdfast.evaluation.drift.pairs import module_and_layer
from holdfast.evaluation.drift.stages import drift_entry


def metrics_of(result: DriftResult) -> dict[str, Metrics]:
    return {each.name: each.measured for each in result.matrices}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    start = weights()
    return save_model(tmp_path / "a", start), save_model(tmp_path / "b", trained(start))


def test_whole_model(pair: tuple[Path, Path]) -> None:
    result = drift(*pair, rank=4)
    assert [each.name for each in result.matrices if "q_proj" in each.name] == [
        f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 2, 10)
    ]
    start = weights()
    end = trained(start)
    for each in result.matrices:
        if each.is_matrix:
            assert (each.method, each.measured.k) == ("exact", 4)
            expected = by_numpy(start[each.name], end[each.name], 4, 0.3)
            assert_same(each.measured, {n: v for n, v in expected.items() if "principal" not in n})
        else:
            assert each.method == "vector"
            assert each.measured.spectral_shift is None
            expected_norm = (end[each.name] - start[each.name]).norm() / start[each.name].norm()
            assert each.measured.relative_norm == pytest.approx(float(expected_norm), rel=1e-5)
    overall = result.overall()
    flat, moved_flat = (torch.cat([w.flatten() for w in each.values()]).double() for each in (start, end))
    assert overall.parameters == flat.numel()
    assert overall.matrices == 5
    assert overall.relative_norm == pytest.approx(float((moved_flat - flat).norm() / flat.norm()), rel=1e-6)
    shifts = [each.measured.spectral_shift for each in result.matrices if each.is_matrix]
    assert overall.mean["spectral_shift"] == pytest.approx(sum(shifts) / 5)
    assert overall.median["spectral_shift"] == sorted(shifts)[2]
    types = result.by_type()
    assert types["self_attn.q_proj"].matrices == 3
    assert (types["norm"].matrices, types["norm"].median["spectral_shift"]) == (0, None)
    assert result.most_moved(1)[0].measured.relative_norm == max(
        each.measured.relative_norm for each in result.matrices if each.is_matrix
    )
    assert result.left_out == {}
    json.dumps(result.as_json(), allow_nan=False)


def test_a_model_has_not_moved_from_itself(pair: tuple[Path, Path]) -> None:
    for each in drift(pair[0], pair[0]).matrices:
        assert (each.measured.relative_norm, each.measured.unchanged) == (0, 1)
        assert each.method == ("identical" if each.is_matrix else "vector")
        if each.is_matrix:
            assert (each.measured.spectral_shift, each.measured.left_angle, each.measured.principal_overlap) == (
                0,
                0,
                1,
            )
            assert each.measured.changes_in_principal is None


def test_files_and_their_number_do_not_matter(pair: tuple[Path, Path], tmp_path: Path) -> None:
    start = weights()
    sharded = save_model(tmp_path / "sharded", trained(start), shards=3)
    assert metrics_of(drift(pair[0], sharded)) == metrics_of(drift(*pair))


def test_dtype_of_storage_does_not_matter(tmp_path: Path) -> None:
    start = {name: w.bfloat16() for name, w in weights().items()}
    end = {name: w.bfloat16() for name, w in trained({n: w.float() for n, w in start.items()}).items()}
    narrow = [save_model(tmp_path / name, each) for name, each in (("a", start), ("b", end))]
    for dtype in (torch.float32, torch.float64):
        wide = [
            save_model(tmp_path / f"{name}-{dtype}", {n: w.to(dtype) for n, w in each.items()})
            for name, each in (("a", start), ("b", end))
        ]
        expected = drift(*narrow)
        for found in (drift(*wide), drift(narrow[0], wide[1]), drift(wide[0], narrow[1])):
            assert metrics_of(found) == metrics_of(expected)
            assert all(each.floor.update_norm == 0 for each in found.matrices)


def test_floor_is_what_a_model_saved_and_loaded_again_reads(tmp_path: Path) -> None:
    start = weights()
    a = save_model(tmp_path / "a", start)
    control = save_model(tmp_path / "control", {name: w.bfloat16() for name, w in start.items()})
    b = save_model(tmp_path / "b", {name: w.bfloat16() for name, w in trained(start).items()})
    result = drift(a, b)
    expected = metrics_of(drift(a, control))
    assert {each.name: each.floor for each in result.matrices} == expected
    assert result.overall().floor.relative_norm == pytest.approx(1.6e-3, rel=0.2)  # bfloat16 keeps 8 bits


def test_a_floor_is_pooled_as_what_it_is_the_floor_of(tmp_path: Path) -> None:
    """The base in bfloat16 measures as its own floor, in every number of every row."""
    start = weights()
    a = save_model(tmp_path / "a", start)
    found = drift(a, save_model(tmp_path / "control", {name: w.bfloat16() for name, w in start.items()}))
    for summary in (found.overall(), *found.by_type().values()):
        for name in ("relative_norm", "unchanged", "median", "mean", "largest"):
            assert getattr(summary.floor, name) == getattr(summary, name), name
    entry = drift_entry(found, 1, "t")
    assert entry["floor"] == {name: x for name, x in entry["overall"].items() if name not in ("matrices", "unmoved")}
    assert entry["floor"]["relative_norm"] > 1e-4


def test_matrices_that_training_left_alone_are_in_no_median_and_are_counted(tmp_path: Path) -> None:
    start = weights()
    end = {name: w + 0.05 * random(*w.shape, seed=7) if "q_proj" in name else w for name, w in start.items()}
    found = drift(save_model(tmp_path / "a", start), save_model(tmp_path / "b", end))
    overall, own = found.overall(), [by_numpy(w, end[name], 4, 0.3) for name, w in start.items() if "q_proj" in name]
    assert (overall.matrices, overall.unmoved) == (5, 2)
    entry = drift_entry(found, 1, "t")["overall"]
    assert (entry["matrices"], entry["unmoved"]) == (5, 2)
    shifts = [each["spectral_shift"] for each in own]
    assert entry["spectral_shift"] == pytest.approx(np.median(shifts), rel=1e-4)
    assert entry["spectral_shift_mean"] == pytest.approx(np.mean(shifts), rel=1e-4)
    for side in ("left_angle", "right_angle"):
        assert entry[side] == pytest.approx(np.median([each[side] for each in own]), rel=1e-3)
        assert entry[f"{side}_largest"] == pytest.approx(max(each[side] for each in own), rel=1e-3)
    alone = found.by_type()["mlp.down_proj"]
    assert (alone.matrices, alone.unmoved, alone.median["spectral_shift"]) == (1, 1, 0.0)
    assert "2 of 5 matrices did not move at all." in as_text(found)


def test_an_empty_quantization_is_none(pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, _ = pair
    for number, empty in enumerate((None, {})):
        same = save_model(tmp_path / str(number), weights(), quantization_config=empty)
        assert drift(a, same).overall().relative_norm == 0


def test_tied_head_is_measured_once(tmp_path: Path) -> None:
    start = weights()
    head = {"lm_head.weight": start["model.embed_tokens.weight"]}
    end = trained(start)
    tied = save_model(tmp_path / "a", start, tie_word_embeddings=True)
    saved_twice = save_model(
        tmp_path / "b", end | {"lm_head.weight": end["model.embed_tokens.weight"].clone()}, tie_word_embeddings=True
    )
    assert set(metrics_of(drift(tied, saved_twice))) == set(NAMES)
    untied = save_model(tmp_path / "c", end | {"lm_head.weight": head["lm_head.weight"] + 1}, tie_word_embeddings=False)
    found = metrics_of(drift(tied, untied))
    assert found["lm_head.weight"].update_norm == pytest.approx(math.sqrt(50 * 16), rel=1e-5)


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    start = weights()
    a = save_model(tmp_path / "a", start | {"steps": torch.ones(3, dtype=torch.int64)})
    end = trained(start) | {"model.embed_tokens.weight": random(52, 16), "extra.weight": random(4, 4)}
    b = save_model(tmp_path / "b", end)
    result = drift(a, b)
    assert set(result.left_out) == {"steps", "model.embed_tokens.weight", "extra.weight"}
    assert result.left_out["extra.weight"] == f"only in {b}"
    assert "model.embed_tokens.weight" not in metrics_of(result)


def test_experts_in_one_tensor_are_matrices_of_their_own(tmp_path: Path) -> None:
    name = "model.layers.3.mlp.experts.gate_up_proj"
    start = {name: random(3, 16, 12), "conv.weight": random(16, 1, 4)}
    end = {name: start[name].clone(), "conv.weight": start["conv.weight"] + 1}
    end[name][1] += 0.5
    result = drift(save_model(tmp_path / "a", start), save_model(tmp_path / "b", end))
    found = {each.name: each for each in result.matrices}
    assert [found[f"{name}[{i}]"].measured.update_norm for i in range(3)] == pytest.approx([0, 0.5 * math.sqrt(192), 0])
    assert (found[f"{name}[1]"].module_type, found[f"{name}[1]"].layer) == ("mlp.experts.gate_up_proj", 3)
    assert found["conv.weight"].shape == (16, 4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.12.self_attn.q_proj.weight", ("self_attn.q_proj", 12)),
        ("model.layers.12.mlp.experts.7.up_proj.weight", ("mlp.experts.up_proj", 12)),
        ("transformer.h.0.attn.c_attn.bias", ("attn.c_attn.bias", 0)),
        ("model.embed_tokens.weight", ("embed_tokens", None)),
        ("lm_head.weight", ("lm_head", None)),
    ],
)
def test_module_types(name: str, expected: tuple[str, int | None]) -> None:
    assert module_and_layer(name) == expected


def test_large_matrices_are_randomized_unless_exact(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subspaces, "EXACT_UP_TO", 8)
    methods = {each.method for each in drift(*pair, rank=2).matrices if each.is_matrix}
    assert methods == {"randomized"}
    assert {each.method for each in drift(*pair, exact=True).matrices if each.is_matrix} == {"exact"}


# --- earlier updates -------------------------------------------------------------------------------------------------


def stages(folder: Path, directions: list[tuple[int, int]]) -> list[Path]:
    """Models that each differ from the one before by one direction [left, right] of a fixed basis."""
    left, right = orthonormal(40, 40).float(), orthonormal(24, 24, seed=1).float()
    weight = random(40, 24)
    made = [save_model(folder / "base", {"layers.0.up.weight": weight})]
    for number, (i, j) in enumerate(directions, 1):
        weight = weight + torch.outer(left[:, i], right[:, j])
        made.append(save_model(folder / "models" / f"stage-{number}", {"layers.0.up.weight": weight}))
    return made


def test_alignment_with_earlier_updates(tmp_path: Path) -> None:
    base, first, second, third, last = stages(tmp_path, [(0, 0), (1, 0), (2, 5), (0, 0)])
    (found,) = drift(base, last, earlier=[first, second, third]).matrices
    assert [(each.update, each.k) for each in found.alignment] == [(str(p), 1) for p in (first, second, third)]
    sides = [(each.left, each.right) for each in found.alignment]
    assert sides == [pytest.approx(expected, abs=1e-6) for expected in ((1, 1), (0, 1), (0, 0))]
    overall = drift(base, last, earlier=[first]).overall()
    assert overall.alignment[str(first)]["left"] is not None


def test_conflict_of_updates_and_of_their_sum(tmp_path: Path) -> None:
    """Equal updates of size 1: their sum has size 2, and the conflict of sizes 1 and 2 is 1/5. Orthogonal ones: 1 with
    each other; the sum has both directions, so the conflict with either is 1 − 2·1/(2 + 1)."""
    base, first, second, third = stages(tmp_path, [(0, 0), (0, 0), (1, 1)])
    found = drift(base, second, earlier=[first]).matrices[0].conflict
    assert found is not None
    assert (found.pairwise, found.state, found.gap) == pytest.approx((0, 1 / 5, 1 / 5), abs=1e-5)
    result = drift(first, third, earlier=[second])
    found = result.matrices[0].conflict
    assert found is not None
    assert (found.pairwise, found.state, found.gap) == pytest.approx((1, 1 / 3, -2 / 3), abs=1e-5)
    assert result.overall().conflict == found
    assert drift(base, first, earlier=()).overall().conflict is None
    assert drift(base, first, earlier=[base]).matrices[0].conflict is None  # one of the two updates did not happen


def test_stages_of_a_run_are_found(tmp_path: Path) -> None:
    base, first, second, third = stages(tmp_path, [(0, 0), (1, 1), (0, 1)])
    assert stages_between(base, third) == [first, second]
    assert stages_between(first, third) == [second]
    assert stages_between(second, third) == []
    assert stages_between(third, base) == []
    result = drift(base, third)
    assert result.earlier == (str(first), str(second))
    (found,) = result.matrices
    assert (found.alignment[0].left, found.alignment[0].right) == pytest.approx((1, 0), abs=1e-6)
    assert drift(base, third, earlier=()).matrices[0].alignment == ()


def test_update_that_did_not_happen_is_aligned_with_nothing(tmp_path: Path) -> None:
    base, first = stages(tmp_path, [(0, 0)])
    (found,) = drift(base, first, earlier=[base]).matrices
    assert (found.alignment[0].left, found.alignment[0].k) == (None, 0)


# --- adapters --------------------------------------------------------------------------------------------------------


def adapted(base: Path, folder: Path, **settings: Any) -> tuple[Path, Path]:
    """An adapter with random factors, written by peft, and the model that peft merges from it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    for index, (name, parameter) in enumerate(wrapped.named_parameters()):
        if "lora_" in name or "modules_to_save" in name:
            parameter.data = 0.05 * random(*parameter.shape, seed=index)
    wrapped.save_pretrained(folder / "adapter")
    wrapped.merge_and_unload().save_pretrained(folder / "merged")
    return folder / "adapter", folder / "merged"


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]},
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "use_rslora": True},
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "v_proj"],
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"0.self_attn.v_proj": 3},
        },
        {"r": 4, "lora_alpha": 8, "target_modules": ["embed_tokens"]},
        {"r": 2, "lora_alpha": 8, "target_modules": ["q_proj"], "modules_to_save": ["norm"]},
    ],
    ids=["plain", "rslora", "patterns", "embedding", "whole modules"],
)
def test_adapter_reads_as_peft_merges_it(settings: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    adapter, merged = adapted(tiny_model, tmp_path, **settings)
    found, expected = drift(tiny_model, adapter), drift(tiny_model, merged)
    assert expected.overall().relative_norm > 0
    assert [each.name for each in found.matrices] == [each.name for each in expected.matrices]
    for mine, theirs in zip(found.matrices, expected.matrices):
        assert mine.method == theirs.method
        assert mine.measured.update_norm == pytest.approx(theirs.measured.update_norm, rel=1e-5), mine.name
        if mine.is_matrix:
            assert mine.measured.spectral_shift == pytest.approx(theirs.measured.spectral_shift, rel=1e-3, abs=1e-9)
    # To the merged model there is no way left but rounding.
    assert drift(adapter, merged).overall().relative_norm < 1e-7


def test_adapter_whose_base_is_elsewhere(tiny_model: Path, tmp_path: Path) -> None:
    adapter, merged = adapted(tiny_model, tmp_path, r=4, lora_alpha=8, target_modules=["q_proj"])
    settings = json.loads((adapter / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "/nowhere/model"
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    result = drift(tiny_model, adapter)
    assert result.notes == (f"{adapter}: its base '/nowhere/model' is missing; {tiny_model} is used instead",)
    assert result.overall().relative_norm == pytest.approx(drift(tiny_model, merged).overall().relative_norm, rel=1e-5)
    with pytest.raises(ModelError, match="no such folder"):
        drift(adapter, adapter)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "adapters with use_dora"),
        ({"peft_type": "LOHA"}, "adapters with peft_type LOHA"),
    ],
)
def test_other_adapters_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", weights())
    adapter = save_model(tmp_path / "adapter", {})
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(base), "lora_alpha": 1} | change
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=message):
        drift(base, adapter)


def test_adapter_on_an_adapter_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    lower, _ = adapted(tiny_model, tmp_path, r=2, lora_alpha=4, target_modules=["q_proj"])
    upper = save_model(tmp_path / "upper", {})
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(lower), "lora_alpha": 1}
    (upper / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="its base is an adapter too"):
        drift(tiny_model, upper)


def test_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", weights())
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    factors = {f"{module}.lora_A.weight": random(2, 99), f"{module}.lora_B.weight": random(24, 2)}
    adapter = save_model(tmp_path / "adapter", factors)
    (adapter / "model.safetensors").rename(adapter / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(base), "lora_alpha": 1}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"it adds to model.layers.0.self_attn.q_proj.weight, which the base does not"):
        drift(base, adapter)


# --- mistakes and the command ----------------------------------------------------------------------------------------


def test_mistakes_are_one_line(pair: tuple[Path, Path], tmp_path: Path, command: Commands) -> None:
    a, b = pair
    broken = trained(weights())
    broken["model.norm.weight"][3] = math.nan
    (tmp_path / "empty").mkdir()
    (tmp_path / "run" / "models").mkdir(parents=True)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.safetensors").write_bytes((b / "model.safetensors").read_bytes()[:100])
    mistakes = {
        str(save_model(tmp_path / "nan", broken)): "model.norm.weight has values that are infinite or not a number",
        str(tmp_path / "empty"): "the folder has no *.safetensors",
        str(tmp_path / "run"): "is a run, not a model",
        str(tmp_path / "none"): "no such folder",
        str(b / "model.safetensors"): "is a file, not a folder",
        str(tmp_path / "half"): "cannot be read",
        str(save_model(tmp_path / "other", {"x": random(3, 3)})): "no tensor in common",
        str(save_model(tmp_path / "4bit", weights(), quantization_config={"bits": 4})): "its weights are quantized",
    }
    for number, (weight_map, message) in enumerate(
        [({}, "names no weights"), ([], "names no weights"), (None, "names no weights"), ({"x": 5}, "cannot be read")]
    ):
        folder = save_model(tmp_path / f"index-{number}", weights(), shards=2)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        mistakes[str(folder)] = message
    for path, message in mistakes.items():
        outcome = command("drift", a, path)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), path
        assert message in outcome.err
    with pytest.raises(ValueError, match="mask_share"):
        drift(a, b, mask_share=1.0)


def test_command(pair: tuple[Path, Path], tmp_path: Path, command: Commands) -> None:
    file = tmp_path / "drift.json"
    outcome = command("drift", *pair, "--rank", "4", "--json", file)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].endswith("2,624 weights, 5 matrices")
    assert any(line.startswith("self_attn.q_proj") for line in lines)
    assert any(line.startswith("no-op floor") for line in lines)
    assert "which changes nothing" in outcome.out
    found = json.loads(file.read_text())
    assert found == json.loads(json.dumps(drift(*pair, rank=4).as_json()))
    assert found["settings"] == {"rank": 4, "mask_share": 0.3, "eta": 1e-3, "exact": False}


def test_command_says_what_is_not_exact_and_what_is_earlier(
    tmp_path: Path, command: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subspaces, "EXACT_UP_TO", 8)
    base, _, second = stages(tmp_path, [(0, 0), (1, 0)])
    outcome = command("drift", base, second)
    assert outcome.code == 0
    assert "Large matrices decomposed by randomized SVD: 1. Their" in outcome.out
    assert "models/stage-1" in outcome.out


def test_results_are_read_without_torch() -> None:
    code = "import sys, holdfast.evaluation.drift; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

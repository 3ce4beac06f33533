"""`holdfast.evaluation.drift.opened`: an adapter's drift is its merged model's, for every kind and family."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftType
from safetensors.torch import load_file, save_file

from adapter_kinds import LORA, base, lora, other, stir
from drift_factory import random, save_model
from holdfast.errors import ModelError
from holdfast.evaluation.drift import DriftResult, drift
from holdfast.evaluation.drift.pairs import module_and_layer
from holdfast.store.weight_names import same_weights

KINDS = [PeftType[name] for name in ("ADALORA", "BOFT", "IA3", "LN_TUNING", "LOHA", "LOKR", "OFT", "VERA", "HRA")]


def folders(model: Any, start: Any, path: Path) -> tuple[Path, Path, Path]:
    """Folders of the base, of the adapter and of the merged model."""
    start.save_pretrained(path / "base")
    for config in model.peft_config.values():
        config.base_model_name_or_path = str(path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(path / "adapter")
        copy.deepcopy(model).merge_and_unload().save_pretrained(path / "merged")
    return path / "base", path / "adapter", path / "merged"


def assert_same(found: DriftResult, expected: DriftResult) -> None:
    """Equal for every weight that moved. A merged folder also has weights that no adapter is on."""
    moved = {each.name: each for each in expected.matrices if each.measured.update_norm}
    assert moved
    assert {each.name for each in found.matrices if each.measured.update_norm} == moved.keys()
    for mine in found.matrices:
        if mine.name in moved:
            theirs = moved[mine.name]
            assert mine.measured.update_norm == pytest.approx(theirs.measured.update_norm, rel=1e-4), mine.name
            assert mine.measured.relative_norm == pytest.approx(theirs.measured.relative_norm, rel=1e-4), mine.name


@pytest.mark.parametrize("name", LORA)
def test_lora_in_every_form_drifts_as_its_merged_model(name: str, tmp_path: Path) -> None:
    model = stir(lora(name))
    first, adapter, merged = folders(model, base(LORA[name][0]), tmp_path)
    result = drift(first, adapter)
    assert_same(result, drift(first, merged))
    assert not result.left_out


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_other_kinds_drift_as_their_merged_model_with_a_note(kind: PeftType, tmp_path: Path) -> None:
    first, adapter, merged = folders(stir(other(kind)), base("qwen3"), tmp_path)
    result = drift(first, adapter)
    assert_same(result, drift(first, merged))
    assert result.notes == (f"{adapter}: peft merged the adapter in float32 for this comparison",)
    assert drift(adapter, first).overall().relative_norm > 0


def test_the_magnitudes_of_dora_count(tmp_path: Path) -> None:
    """Without them the drift would be that of the product alone."""
    model = stir(lora("dora"))
    first, adapter, _ = folders(model, base("qwen3"), tmp_path)
    whole = drift(first, adapter).overall().relative_norm
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {name: tensor for name, tensor in tensors.items() if "magnitude" not in name},
        adapter / "adapter_model.safetensors",
    )
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"use_dora": False}))
    assert whole != pytest.approx(drift(first, adapter).overall().relative_norm, rel=0.01)


def test_an_adapter_that_peft_cannot_merge_is_one_line(tmp_path: Path) -> None:
    first, adapter, _ = folders(stir(lora("dora")), base("qwen3"), tmp_path)
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({name: tensor * torch.nan for name, tensor in tensors.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(
        ModelError, match="adapters with use_dora are not supported, and peft cannot merge it"
    ) as caught:
        drift(first, adapter)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", ["gemma3", "llava", "qwen25vl"])
def test_weights_that_another_version_names_differently_are_the_same(family: str, tmp_path: Path) -> None:
    """A file has the names of the first version, a live model those of now."""
    start, end = base(family), stir(base(family))
    for folder, model in (("a", start), ("b", end)):
        model.save_pretrained(tmp_path / folder)
        save_model(tmp_path / f"{folder}-now", {n: p.detach() for n, p in model.named_parameters()})
    assert set(load_file(tmp_path / "a/model.safetensors")) != set(load_file(tmp_path / "a-now/model.safetensors"))
    expected = drift(tmp_path / "a", tmp_path / "b")
    assert not expected.left_out
    for pair in (("a", "b-now"), ("a-now", "b"), ("a-now", "b-now")):
        found = drift(tmp_path / pair[0], tmp_path / pair[1])
        assert set(found.left_out) <= {"lm_head.weight"}  # tied, as only one of the two folders says
        assert found.overall().relative_norm == pytest.approx(expected.overall().relative_norm)
        assert found.by_type().keys() == expected.by_type().keys()


def test_a_language_model_is_compared_with_the_whole_that_it_was_a_part_of(tmp_path: Path) -> None:
    name = "layers.3.self_attn.q_proj.weight"
    whole = save_model(tmp_path / "whole", {f"language_model.model.{name}": random(8, 8), "visual.w": random(4, 4)})
    part = save_model(tmp_path / "part", {f"model.{name}": random(8, 8, seed=1)})
    result = drift(whole, part)
    assert [each.name for each in result.matrices] == [f"language_model.model.{name}"]
    assert set(result.left_out) == {"visual.w"}


def test_names_that_could_be_two_weights_are_none() -> None:
    both = {"model.layers.0.w", "language_model.layers.0.w"}
    assert same_weights({"layers.0.w"}, both) == {}
    assert same_weights(both, {"layers.0.w"}) == {}
    assert same_weights({"layers.0.w", "model.norm"}, {"layers.0.w", "norm"}) == {"model.norm": "norm"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.language_model.layers.2.self_attn.q_proj.weight", ("self_attn.q_proj", 2)),
        ("language_model.model.layers.2.self_attn.q_proj.weight", ("self_attn.q_proj", 2)),
        (
            "model.vision_tower.vision_model.encoder.layers.2.self_attn.q_proj.weight",
            ("vision_tower.self_attn.q_proj", 2),
        ),
        ("visual.blocks.1.attn.qkv.weight", ("visual.attn.qkv", 1)),
    ],
)
def test_layers_of_the_vision_part_are_types_of_their_own(name: str, expected: tuple[str, int]) -> None:
    assert module_and_layer(name) == expected

"""`holdfast.model.blend`: values equal numpy's, files, errors, and the command with its evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from commands import Commands
from holdfast.errors import ConfigError, ModelError
from holdfast.model import blend as module
from holdfast.model.blend import Blend


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(tmp_path, capsys)


def moved(folder: Path, to: Path, seed: int, dtype: torch.dtype = torch.float32) -> Path:
    """A copy of a model with changed weights."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_((0.1 * torch.randn(parameter.shape, generator=generator)).to(dtype))
    model.save_pretrained(to)
    AutoTokenizer.from_pretrained(folder).save_pretrained(to)
    return to


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return {name: t.double().numpy() for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}


@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
def test_one_model_is_interpolated_and_the_ends_are_exact(tiny_model: Path, tmp_path: Path, a: float) -> None:
    model = moved(tiny_model, tmp_path / "model", 1)
    Blend(str(tiny_model), [str(model)]).write(a, tmp_path / "out")
    start, end, found = arrays(tiny_model), arrays(model), arrays(tmp_path / "out")
    assert found.keys() == start.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, (1 - a) * start[name] + a * end[name], rtol=1e-5, atol=1e-6)
        if a in (0.0, 1.0):
            assert (value == (start, end)[int(a)][name]).all()


def test_several_models_add_up_by_their_scales(tiny_model: Path, tmp_path: Path) -> None:
    models = [moved(tiny_model, tmp_path / str(seed), seed) for seed in (1, 2)]
    Blend(str(tiny_model), [str(m) for m in models], [0.7, -0.4]).write(0.5, tmp_path / "out")
    start, (one, two), found = arrays(tiny_model), map(arrays, models), arrays(tmp_path / "out")
    for name, value in found.items():
        expected = start[name] + 0.5 * (0.7 * (one[name] - start[name]) - 0.4 * (two[name] - start[name]))
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_it_is_written_in_parts_that_transformers_loads(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 100_000)
    model = moved(tiny_model, tmp_path / "model", 1, torch.bfloat16)
    Blend(str(tiny_model), [str(model)]).write(0.5, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    start, end = arrays(tiny_model), arrays(model)
    for name, parameter in loaded.named_parameters():
        expected = (start[name] + end[name]) / 2
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_an_adapter_is_merged_as_it_is_read(tiny_model: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    adapted = get_peft_model(base, LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    Blend(str(tiny_model), [str(tmp_path / "adapter")]).write(0.25, tmp_path / "out")
    deltas = {n: m.get_delta_weight("default") for n, m in adapted.named_modules() if hasattr(m, "get_delta_weight")}
    start, found = arrays(tiny_model), arrays(tmp_path / "out")
    for name, value in found.items():
        delta = deltas.get(f"base_model.model.{name.removesuffix('.weight')}")
        change = 0.25 * delta.detach().double().numpy() if delta is not None else 0.0
        np.testing.assert_allclose(value, start[name] + change, rtol=1e-5, atol=1e-6)
    assert len(deltas) == 2


def test_what_does_not_fit_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = moved(tiny_model, tmp_path / "model", 1)
    weights = load_file(model / "model.safetensors")
    name = "model.norm.weight"
    with pytest.raises(ConfigError, match="1 models but 2 scales"):
        Blend(str(tiny_model), [str(model)], [1.0, 2.0])
    for change, message in (
        ({k: v for k, v in weights.items() if k != name}, f"lacks {name}"),
        (weights | {name: torch.zeros(3)}, f"{name} has the shape"),
        (weights | {"model.extra": torch.zeros(3)}, "has model.extra"),
    ):
        save_file(change, model / "model.safetensors")
        with pytest.raises(ModelError, match=message):
            Blend(str(tiny_model), [str(model)])


def test_the_command_sweeps_and_evaluates(command: Commands, tmp_path: Path) -> None:
    run = ("run", command.config({**LAB, "recipe": "sft"}), "--output-dir", tmp_path / "run", "--quiet")
    assert command(*run).code == 0
    stage = tmp_path / "run" / "models" / "stage-1"
    arguments = ("blend", "lab", stage, "--out", tmp_path / "out")
    evaluated = ("--sweep", "0,0.5,1", "--suites", "lab:old-facts", "--items", "16", "--json", tmp_path / "b.json")
    done = command(*arguments, *evaluated, "--quiet")
    assert (done.code, done.err) == (0, "")
    found = json.loads((tmp_path / "b.json").read_text())
    assert [point["a"] for point in found["points"]] == [0, 0.5, 1]
    for point in found["points"]:
        assert f"{point['scores']['old-facts']:.1%}" in done.out
        assert (Path(point["folder"]) / "model.safetensors").is_file()
    assert "already exists" in command(*arguments).err
    for sweep, message in (
        ("0,x", "is not a list of numbers"),
        ("1,1.0", "has a number twice"),
        ("nan", "not finite"),
        ("0,inf", "not finite"),
        ("0,-inf", "not finite"),
    ):
        refused = command("blend", "lab", stage, "--out", tmp_path / "other", "--sweep", sweep)
        assert refused.code == 2
        assert message in refused.err
        assert not (tmp_path / "other").exists()
    for share in ("nan", "inf"):
        refused = command("blend", "lab", stage, "--out", tmp_path / "other", "--scale", share)
        assert refused.code == 2
        assert f"the scale {share} is not finite" in refused.err
    alone = command("blend", "lab", stage, "--out", tmp_path / "alone", "--scale", "0.5")
    assert alone.code == 0
    assert arrays(tmp_path / "alone").keys() == arrays(tmp_path / "out" / "a-1").keys()


LAB = {
    "name": "small",
    "model": {"path": "lab"},
    "tasks": [{"name": "facts", "lab": "facts", "limit": 16}],
    "suites": [],
    "train": {"steps": 1, "prompts_per_step": 2, "max_prompt_length": 160, "max_completion_length": 48},
    "eval": {"max_items": 4, "kl_items": 0},
}

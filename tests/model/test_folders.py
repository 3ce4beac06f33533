"""`holdfast.model.folders`: what cannot be trained is refused in one line that is true, before it is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from holdfast.config.settings import ModelSettings
from holdfast.errors import ModelError
from holdfast.model.folders import locate
from holdfast.model.load import load_policy


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("path", ["~nobody-has-this-name/model", "~nobody-has-this-name", "~/nowhere"])
def test_a_home_folder_that_nobody_has_is_no_folder(path: str) -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        locate(path)


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_policy(ModelSettings(path=str(path)))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert caught.value.fix
    return message


@pytest.mark.parametrize("method", sorted(AUTO_QUANTIZATION_CONFIG_MAPPING))
@pytest.mark.parametrize("key", ["quantization_config", "compression_config", "text_config"])
def test_quantized_weights_are_refused_with_a_mend(method: str, key: str, folder: Path) -> None:
    config = {"quant_method": method, "bits": 4}
    edit_json(folder / "config.json", **{key: {"quantization_config": config} if key == "text_config" else config})
    message = refusal(folder)
    assert f"its weights are quantized ({method})" in message
    assert "use the model that it was quantized from" in message
    assert ("dequantize=True" in message) is (
        method in ("gguf", "compressed-tensors", "fp8", "mxfp8", "mxfp4", "metal")
    )


@pytest.mark.parametrize(
    ("config", "name"), [({"load_in_4bit": True}, "bitsandbytes"), ({"bits": 4}, "an unnamed method")]
)
def test_methods_without_a_name_are_refused_too(config: Any, name: str, folder: Path) -> None:
    edit_json(folder / "config.json", quantization_config=config)
    assert f"quantized ({name})" in refusal(folder)


@pytest.mark.parametrize("empty", [None, {}])
def test_an_empty_quantization_is_none(empty: Any, folder: Path) -> None:
    edit_json(folder / "config.json", quantization_config=empty)
    locate(str(folder))


def _sharded(folder: Path) -> list[Path]:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder / "new", max_shard_size="60KB")
    (folder / "model.safetensors").unlink()
    shards = [Path(shutil.move(path, folder)) for path in sorted((folder / "new").glob("model*"))]
    return [path for path in shards if path.suffix == ".safetensors"]


def _without_shards(folder: Path) -> None:
    for path in _sharded(folder)[1:3]:
        path.unlink()


def _without_any_shard(folder: Path) -> None:
    for path in _sharded(folder):
        path.unlink()


def _index(text: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        _sharded(folder)
        (folder / "model.safetensors.index.json").write_text(text)

    return spoil


def _gguf(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-q4_k_m.gguf")


def _gguf_alone(folder: Path) -> None:
    _gguf(folder)
    (folder / "config.json").unlink()


def _pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 100\n"
    (folder / "model.safetensors").write_text(text)


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def _fp8(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file(tensors | {name: tensors[name].to(torch.float8_e4m3fn)}, folder / "model.safetensors", {"format": "pt"})


def _integers(dtype: torch.dtype) -> Callable[[Path], None]:
    """Weights as a tool for inference may write them, with nothing in config.json."""

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        name = "model.layers.0.self_attn.q_proj.weight"
        save_file(tensors | {name: (100 * tensors[name]).to(dtype)}, folder / "model.safetensors", {"format": "pt"})

    return spoil


def _untied(folder: Path) -> None:
    edit_json(folder / "config.json", tie_word_embeddings=False)


def _named_otherwise(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_shards, r"2 of \d+ shards of the weights are missing; the first is model-00002-of"),
        (_without_any_shard, r"(\d+) of \1 shards of the weights are missing"),
        (_index("{"), r"model\.safetensors\.index\.json cannot be read: "),
        (_index("{}"), r"index\.json names no weights"),
        (_index('{"weight_map": []}'), r"index\.json names no weights"),
        (_index("[]"), r"index\.json is no JSON object"),
        (_gguf, r"model-q4_k_m\.gguf has its weights in GGUF.*converted from"),
        (_gguf_alone, "GGUF"),
        (_pointer, r"model\.safetensors is a pointer of Git LFS.*git lfs pull"),
        (_cut, "the weights cannot be loaded"),
        (_fp8, r"layers\.0\.self_attn\.q_proj\.weight is stored as F8_E4M3: its weights are quantized"),
        (_integers(torch.int8), r"q_proj\.weight is stored as I8: its weights are quantized"),
        (_integers(torch.uint8), r"q_proj\.weight is stored as U8: its weights are quantized"),
        (_integers(torch.int32), r"q_proj\.weight is stored as I32: its weights are quantized"),
        (_integers(torch.bool), r"q_proj\.weight is stored as BOOL: its weights are quantized"),
        (_untied, r"lm_head\.weight is missing, and config\.json does not tie it.*tie_word_embeddings: true"),
        (_named_otherwise, r"has consolidated\.safetensors, but neither model\.safetensors nor"),
    ],
)
def test_a_folder_whose_weights_are_not_all_there_is_one_line(
    folder: Path, spoil: Callable[[Path], None], message: str
) -> None:
    import re

    spoil(folder)
    assert re.search(message, refusal(folder))


def test_a_file_of_gguf_is_one_line(folder: Path) -> None:
    _gguf(folder)
    assert "has its weights in GGUF" in refusal(folder / "model-q4_k_m.gguf")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_any_dtype_that_training_has_are_loaded_as_asked(dtype: torch.dtype, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    half = {name: tensor.to(dtype) if i % 2 else tensor for i, (name, tensor) in enumerate(tensors.items())}
    save_file(half, folder / "model.safetensors", {"format": "pt"})
    policy = load_policy(ModelSettings(path=str(folder)))
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}


def test_shards_are_loaded(folder: Path) -> None:
    expected = load_policy(ModelSettings(path=str(folder))).model.state_dict()
    assert len(_sharded(folder)) > 2
    found = load_policy(ModelSettings(path=str(folder))).model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_buffers_of_integers_are_no_weights(folder: Path) -> None:
    """Such as masks and positions, which older checkpoints have."""
    tensors = load_file(folder / "model.safetensors")
    buffers = {"model.layers.0.attn.bias": torch.ones(4, 4, dtype=torch.bool), "position_ids": torch.arange(4)}
    save_file(tensors | buffers, folder / "model.safetensors", {"format": "pt"})
    locate(str(folder))

"""`holdfast.model.load`: folders that a mistake or a broken copy made are loaded, or refused in one clear line.

What is loaded must give finite logits that tell tokens apart, and it must be able to end an answer.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from cases import amount
from holdfast.config.settings import LoraSettings, ModelSettings
from holdfast.errors import ModelError
from holdfast.model.load import load_policy
from torture import Search

Damage = Callable[[Path], None]

VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 3, 10**6, 10**12, 10**30, 0.5, -2.5, 1e308, "", "x", "\x1b[31m", "\ud800", "true"),
    *([], [0], [-1], ["x"], [None], {}, {"x": 1}, [[]], "y" * 5000, "qwen2", "gpt2", "bert", "t5", "Qwen3ForCausalLM"),
)


def _edited(name: str, **changes: Any) -> Damage:
    def damage(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(data | changes))

    return damage


def _removed(name: str, *keys: str) -> Damage:
    def damage(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({key: value for key, value in data.items() if key not in keys}))

    return damage


def _written(name: str, data: bytes | str) -> Damage:
    return lambda folder: _write(folder / name, data)


def _write(path: Path, data: bytes | str) -> None:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def _weights(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file({k: v.contiguous() for k, v in change(load_file(path)).items()}, path, metadata={"format": "pt"})

    return damage


def _each(change: Callable[[Tensor], Tensor], part: str = "") -> Damage:
    """Change all weights, or those with a part in their name."""
    return _weights(lambda weights: {key: change(value) if part in key else value for key, value in weights.items()})


def _bytes(change: Callable[[bytes], bytes], name: str = "model.safetensors") -> Damage:
    return lambda folder: _write(folder / name, change((folder / name).read_bytes()))


def _deleted(*names: str) -> Damage:
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


def _moved(name: str, to: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).rename(folder / to)

    return damage


def _index(text: str) -> Damage:
    """Leave an index of shards alone."""

    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        _write(folder / "model.safetensors.index.json", text)

    return damage


def _replaced(name: str, make: Callable[[Path], object]) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return damage


def _header(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Change the header of the weights, and leave their bytes."""

    def damage(data: bytes) -> bytes:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        change(header)
        new = json.dumps(header).encode()
        return len(new).to_bytes(8, "little") + new + data[8 + size :]

    return _bytes(damage)


def _first(header: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = header[next(key for key in header if key != "__metadata__")]
    return entry


REFUSED: dict[str, Damage] = {
    "no files": lambda folder: _deleted(*(path.name for path in folder.iterdir()))(folder),
    "no configuration": _deleted("config.json"),
    "no weights": _deleted("model.safetensors"),
    "no tokenizer": _deleted("tokenizer.json"),
    "no chat template": _deleted("chat_template.jinja"),
    "configuration is empty": _written("config.json", ""),
    "configuration is cut": _written("config.json", '{"model_type": "qwen3", '),
    "configuration is a list": _written("config.json", "[]"),
    "configuration is deep": _written("config.json", "[" * 100_000),
    "configuration is {}": _written("config.json", "{}"),
    "configuration is a pipe": _replaced("config.json", lambda path: os.mkfifo(path)),
    "configuration is a device": _replaced("config.json", lambda path: path.symlink_to("/dev/zero")),
    "configuration is a loop": _replaced("config.json", lambda path: path.symlink_to("config.json")),
    "configuration is a folder": _replaced("config.json", lambda path: path.mkdir()),
    "configuration is Latin-1": _written("config.json", '{"model_type": "qu\xe9"}'.encode("latin-1")),
    "weights are a pipe": _replaced("model.safetensors", lambda path: os.mkfifo(path)),
    "tokenizer is a pipe": _replaced("tokenizer.json", lambda path: os.mkfifo(path)),
    "weights are a loop": _replaced("model.safetensors", lambda path: path.symlink_to("model.safetensors")),
    "tokenizer is empty": _written("tokenizer.json", ""),
    "tokenizer is {}": _written("tokenizer.json", "{}"),
    "tokenizer is cut": _bytes(lambda data: data[: len(data) // 2], "tokenizer.json"),
    "chat template is empty": _written("chat_template.jinja", ""),
    "chat template is not Jinja": _written("chat_template.jinja", "{% for %}"),
    "chat template raises": _written("chat_template.jinja", "{{ raise_exception('no') }}"),
    "chat template writes nothing": _written("chat_template.jinja", "{% if false %}{% endif %}"),
    "chat template divides": _written("chat_template.jinja", "{{ 1 // 0 }}"),
    "chat template reads what is not": _written("chat_template.jinja", "{{ a.b.c }}"),
    "chat template loops long": _written("chat_template.jinja", "{% for i in range(10**9) %}x{% endfor %}"),
    "weights are empty": _written("model.safetensors", ""),
    "weights are text": _written("model.safetensors", "hello world, this is no tensor"),
    "weights are a pointer": _written("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"),
    "weights are zeros as a file": _bytes(lambda data: bytes(len(data))),
    "weights are cut": _bytes(lambda data: data[:-100]),
    "weights are cut in half": _bytes(lambda data: data[: len(data) // 2]),
    "weights have more": _bytes(lambda data: data + b"more"),
    "header is too long": _bytes(lambda data: (2**60).to_bytes(8, "little") + data[8:]),
    "header is cut": _bytes(lambda data: data[:40]),
    "header has another dtype": _header(lambda header: _first(header).update(dtype="F64")),
    "header has an unknown dtype": _header(lambda header: _first(header).update(dtype="X7")),
    "header has another shape": _header(lambda header: _first(header).update(shape=[3])),
    "header has other places": _header(lambda header: _first(header).update(data_offsets=[0, 10**12])),
    "weights of zeros": _each(torch.zeros_like),
    "an embedding of zeros": _each(torch.zeros_like, "embed_tokens"),
    "a norm of zeros": _each(torch.zeros_like, "model.norm"),
    "weights of NaN": _each(lambda weight: torch.full_like(weight, float("nan"))),
    "a weight of NaN": _each(lambda weight: torch.full_like(weight, float("nan")), "layers.0.mlp.up_proj"),
    "infinite weights": _each(lambda weight: torch.full_like(weight, float("inf")), "o_proj"),
    "weights in int64": _each(lambda weight: weight.to(torch.int64)),
    "weights in int32": _each(lambda weight: (1000 * weight).to(torch.int32)),
    "weights in int8": _each(lambda weight: weight.to(torch.int8), "mlp"),
    "weights in uint8": _each(lambda weight: weight.abs().to(torch.uint8), "q_proj"),
    "weights in bool": _each(lambda weight: weight > 0),
    "weights in float8": _each(lambda weight: weight.to(torch.float8_e4m3fn), "mlp"),
    "a norm in int32": _each(lambda weight: weight.to(torch.int32), "norm"),
    "one weight in int16": _each(lambda weight: weight.to(torch.int16), "layers.1.self_attn.k_proj"),
    "half of the weights": _weights(lambda weights: dict(list(weights.items())[::2])),
    "one weight": _weights(lambda weights: dict(list(weights.items())[:1])),
    "other names": _weights(lambda weights: {f"x.{key}": value for key, value in weights.items()}),
    "turned weights": _each(lambda weight: weight.T if weight.ndim == 2 else weight),
    "weights of another width": _each(lambda weight: weight[..., :-1]),
    "weights without a shape": _each(lambda weight: weight.flatten()[0]),
    "weights of no rows": _each(lambda weight: weight[:0]),
    "more tokens than rows": _each(lambda weight: weight[:20], "embed_tokens"),
    "end of sequence is text": _edited("generation_config.json", eos_token_id="<|im_end|>"),
    "end of sequence is a fraction": _edited("generation_config.json", eos_token_id=1.5),
    "end of sequence is true": _edited("generation_config.json", eos_token_id=True),
    "end of sequence is below": _edited("generation_config.json", eos_token_id=-1),
    "end of sequence is above": _edited("generation_config.json", eos_token_id=10**6),
    "end of sequence is huge": _edited("generation_config.json", eos_token_id=10**30),
    "end of sequence is a mapping": _edited("generation_config.json", eos_token_id={"a": 1}),
    "end of sequence is a list of text": _edited("generation_config.json", eos_token_id=["a", 1]),
    "end of sequence is a list of lists": _edited("generation_config.json", eos_token_id=[[1]]),
    "one end of sequence is above": _edited("generation_config.json", eos_token_id=[1, 10**6]),
    "another architecture": _edited("config.json", model_type="gpt2", architectures=["GPT2LMHeadModel"]),
    "an encoder": _edited("config.json", model_type="bert", architectures=["BertModel"]),
    "encoder and decoder": _edited("config.json", model_type="t5", architectures=["T5Model"]),
    "no such architecture": _edited("config.json", model_type="none-such"),
    "no architecture": _removed("config.json", "model_type", "architectures"),
    "its own code": _edited("config.json", model_type="own", auto_map={"AutoConfig": "own.Own"}),
    "quantized": _edited("config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
    "more layers": _edited("config.json", num_hidden_layers=5),
    "wider": _edited("config.json", hidden_size=128),
    "no heads": _edited("config.json", num_attention_heads=0),
    "a million layers": _edited("config.json", num_hidden_layers=10**6, layer_types=None),
    "a million tokens": _edited("config.json", vocab_size=10**6),
    "weights under another name": _moved("model.safetensors", "model-1.safetensors"),
    "pickle": _moved("model.safetensors", "pytorch_model.bin"),
    "an index of nothing": _index('{"weight_map": {}}'),
    "an index of what is missing": _index('{"weight_map": {"a": "b.safetensors", "c": 3}}'),
    "an index that is a list": _index("[]"),
    "an index of a list": _index('{"weight_map": ["model.safetensors"]}'),
}
"""Damage after which a folder is no model that can be meant."""

ADAPTERS: dict[str, Damage] = {
    "no base": _edited("adapter_config.json", base_model_name_or_path=None),
    "base is a number": _edited("adapter_config.json", base_model_name_or_path=3),
    "base is nowhere": _edited("adapter_config.json", base_model_name_or_path="./nowhere"),
    "base is itself": _edited("adapter_config.json", base_model_name_or_path="."),
    "configuration is cut": _written("adapter_config.json", "{"),
    "configuration is a list": _written("adapter_config.json", "[]"),
    "rank is text": _edited("adapter_config.json", r="x"),
    "rank is another": _edited("adapter_config.json", r=3),
    "rank is zero": _edited("adapter_config.json", r=0),
    "rank is below": _edited("adapter_config.json", r=-1),
    "rank is huge": _edited("adapter_config.json", r=10**30),
    "alpha is text": _edited("adapter_config.json", lora_alpha="x"),
    "unknown kind": _edited("adapter_config.json", peft_type="OWN"),
    "kind is null": _edited("adapter_config.json", peft_type=None),
    "modules are nowhere": _edited("adapter_config.json", target_modules=["nowhere"]),
    "modules are a number": _edited("adapter_config.json", target_modules=3),
    "weights are empty": _written("adapter_model.safetensors", ""),
    "weights are cut": _bytes(lambda data: data[:-100], "adapter_model.safetensors"),
    "weights are a pipe": _replaced("adapter_model.safetensors", lambda path: os.mkfifo(path)),
    "no weights": _deleted("adapter_model.safetensors"),
    "pickle": _moved("adapter_model.safetensors", "adapter_model.bin"),
}
"""Damage after which a folder is no adapter that can be meant."""


@pytest.fixture
def fresh(tiny_model: Path, tmp_path: Path) -> Callable[[], Path]:
    def copy() -> Path:
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(tiny_model, folder))

    return copy


def _used(folder: Path) -> str:
    """Load a folder and ask what a run asks of it."""
    policy = load_policy(ModelSettings(path=str(folder)))
    logits = policy.model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False).logits
    assert bool(logits.isfinite().all())
    assert float(logits.std()) > 0
    rows = policy.causal_lm.get_input_embeddings().num_embeddings
    assert policy.eos_ids
    assert all(0 <= token < rows for token in (*policy.eos_ids, policy.pad_id))
    return "read"


def test_the_folder_that_is_damaged_is_loaded(fresh: Callable[[], Path]) -> None:
    assert _used(fresh()) == "read"


def test_damaged_folders_are_refused_in_one_clear_line(fresh: Callable[[], Path]) -> None:
    search = Search("model folders", seconds=30)
    for name, damage in REFUSED.items():
        folder = fresh()
        damage(folder)
        if search.attempt("folders", name, lambda f=folder: _used(f)) == "read":  # type: ignore[misc]
            search.blame("folders", name, "is loaded")
    search.conclude()


def test_damaged_adapters_are_refused_in_one_clear_line(fresh: Callable[[], Path], tmp_path: Path) -> None:
    search, base = Search("model folders", seconds=30), fresh()
    model = AutoModelForCausalLM.from_pretrained(base)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "whole")
    _edited("adapter_config.json", base_model_name_or_path=str(base))(tmp_path / "whole")
    assert _used(tmp_path / "whole") == "read"
    for name, damage in ADAPTERS.items():
        shutil.rmtree(tmp_path / "adapter", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "adapter")
        damage(tmp_path / "adapter")
        if search.attempt("adapters", name, lambda: _used(tmp_path / "adapter")) == "read":
            search.blame("adapters", name, "is loaded")
    search.conclude()


@pytest.mark.torture
def test_altered_settings_are_read_or_refused_in_one_clear_line(fresh: Callable[[], Path]) -> None:
    search, generator = Search("model folders", seconds=30), random.Random(4)
    names = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
    kept = {name: json.loads((fresh() / name).read_text()) for name in names}
    for _ in range(amount(60, 800)):
        folder, name = fresh(), generator.choice(names)
        key, value = generator.choice(list(kept[name])), generator.choice(VALUES)
        changed = {k: v for k, v in kept[name].items() if k != key} if value == {"x": 1} else kept[name] | {key: value}
        (folder / name).write_text(json.dumps(changed))
        search.attempt(name, f"{key}={value!r}", lambda f=folder: _used(f))  # type: ignore[misc]
    search.conclude()


@pytest.mark.parametrize("padding", [-1, 10**6])
def test_padding_that_is_no_token_is_not_used(fresh: Callable[[], Path], padding: int) -> None:
    folder = fresh()
    _edited("generation_config.json", pad_token_id=padding)(folder)
    assert _used(folder) == "read"


@pytest.mark.parametrize("rank", [65, 10**9, 2**62])
def test_a_rank_that_no_matrix_has_is_refused(tiny_model: Path, rank: int) -> None:
    with pytest.raises(ModelError, match="no matrix of this model has a rank above 64"):
        load_policy(ModelSettings(path=str(tiny_model), lora=LoraSettings(r=rank)))

"""`holdfast.model.adapters`: adapters of every kind are merged as peft merges them, or refused in one line."""

import copy
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftType, PrefixTuningConfig, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapter_kinds import CANNOT_BE_MERGED, LORA, MODELS, NOT_HERE, base, lora, other, stir
from holdfast.config.settings import LoraSettings, ModelSettings
from holdfast.errors import ModelError
from holdfast.model import adapters
from holdfast.model.adapters import find_source, merged_weights
from holdfast.model.load import load_policy

OTHERS = [kind for kind in PeftType if kind.value not in NOT_HERE | {"LORA"} and kind in PEFT_TYPE_TO_CONFIG_MAPPING]
IDS = torch.tensor([[5, 9, 40, 7, 33]])


def truth(model: Any) -> tuple[dict[str, torch.Tensor], set[str]]:
    """The weights of a copy that peft merged, and the names of those that differ from the base."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = copy.deepcopy(model).merge_and_unload()
        start = dict(copy.deepcopy(model).unload().named_parameters())
    weights = dict(merged.named_parameters())
    return weights, {name for name, value in weights.items() if not torch.equal(value, start[name])}


def assert_true(model: Any) -> None:
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    found = dict(merged_weights(model))
    expected, moved = truth(model)
    assert moved
    assert moved <= found.keys() <= expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=lambda text, name=name: name + text)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


@pytest.mark.parametrize("name", LORA)
def test_lora_in_every_form_is_merged_as_peft_merges_it(name: str) -> None:
    assert_true(stir(lora(name)))


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.value)
def test_an_adapter_of_any_other_kind_is_merged_as_peft_merges_it_or_refused(kind: PeftType) -> None:
    if kind.value == "ADAPTION_PROMPT":
        model = get_peft_model(base("llama"), PEFT_TYPE_TO_CONFIG_MAPPING[kind](adapter_len=4, adapter_layers=1))
    elif kind.value == "XLORA":
        pytest.skip("it is made of saved adapters")
    else:
        model = other(kind)
    stir(model)
    config = model.peft_config["default"]
    if kind.value in CANNOT_BE_MERGED:
        with pytest.raises(ModelError, match=f"adapters of kind {kind.value} cannot be merged") as caught:
            dict(merged_weights(model))
        assert "\n" not in str(caught.value)
    elif config.is_prompt_learning:
        assert dict(merged_weights(model)) == {}  # it changes no weight
    else:
        assert_true(model)


def test_every_kind_that_peft_has_is_tried() -> None:
    untried = {kind.value for kind in PeftType} - {kind.value for kind in OTHERS} - NOT_HERE - {"LORA"}
    assert untried <= {"MIXED"}


def test_a_merged_weight_is_given_in_float32() -> None:
    model = get_peft_model(base("llama").bfloat16(), LoraConfig(r=4, target_modules=["q_proj"]))
    stir(model, 1e-3)
    exact = copy.deepcopy(model).float()
    expected, _ = truth(exact)
    for name, value in merged_weights(model):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)


def test_the_adapter_that_is_active_counts() -> None:
    model = get_peft_model(base("llama"), LoraConfig(r=4, target_modules=["q_proj"]))
    model.add_adapter("teacher", LoraConfig(r=2, target_modules=["v_proj"]))
    stir(model)
    model.set_adapter("teacher")
    stir(model)
    for active in ("default", "teacher"):
        model.set_adapter(active)
        assert_true(model)


def test_adapters_of_transformers_itself_are_merged_too() -> None:
    model = base("llama")
    model.add_adapter(LoraConfig(r=4, target_modules=["q_proj"]))
    start = {name: value.clone() for name, value in model.named_parameters()}
    stir(model)
    found = dict(merged_weights(model))
    name = "model.layers.1.self_attn.q_proj"
    delta = model.get_submodule(name).get_delta_weight("default")
    torch.testing.assert_close(found[f"{name}.weight"], start[f"{name}.base_layer.weight"] + delta)
    assert len(found) == 2


def test_quantized_weights_are_refused() -> None:
    model = get_peft_model(base("llama"), LoraConfig(r=4, target_modules=["q_proj"]))
    layer = model.get_base_model().model.layers[0].self_attn.q_proj.base_layer
    layer.weight = torch.nn.Parameter(layer.weight.data.to(torch.uint8), requires_grad=False)
    with pytest.raises(ModelError, match=r"layers\.0\.self_attn\.q_proj of the model: its weights are quantized"):
        dict(merged_weights(model))


# --- an adapter's folder as the model of a run ------------------------------------------------------------------------


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def adapter_on(folder: Path, out: Path, *, size: float = 0.1, tokenizer: bool = False, **settings: Any) -> Path:
    """The folder of an adapter on the model in a folder."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]} | settings)
    stir(get_peft_model(model, config), size).save_pretrained(out)
    # get_peft_model changes the model in place; saved is the adapter alone.
    if tokenizer:
        AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    return out


@torch.no_grad()
def logits_of(path: Path, **settings: Any) -> torch.Tensor:
    policy = load_policy(ModelSettings(path=str(path), **settings))
    return policy.logits(policy.hidden_states(IDS))


@pytest.mark.parametrize("tokenizer", [False, True])
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"modules_to_save": ["norm"]}, {"use_rslora": True}])
def test_an_adapters_folder_is_loaded_on_its_base(
    settings: Any, tokenizer: bool, tiny_model: Path, tmp_path: Path
) -> None:
    adapter = adapter_on(tiny_model, tmp_path / "adapter", tokenizer=tokenizer, **settings)
    with torch.no_grad():
        expected = AutoPeftModelForCausalLM.from_pretrained(adapter).eval()(input_ids=IDS).logits
    policy = load_policy(ModelSettings(path=str(adapter)))
    found = logits_of(adapter)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, logits_of(tiny_model), atol=1e-2)
    assert not policy.is_lora
    assert all(p.requires_grad for p in policy.model.parameters())
    policy.save_folder(tmp_path / "saved")
    torch.testing.assert_close(logits_of(tmp_path / "saved"), found)


def test_lora_on_an_adapters_folder_names_that_folder_as_its_base(tiny_model: Path, tmp_path: Path) -> None:
    adapter = adapter_on(tiny_model, tmp_path / "adapter")
    policy = load_policy(ModelSettings(path=str(adapter), lora=LoraSettings(r=2)))
    policy.save_folder(tmp_path / "saved", merged=True)
    assert json.loads((tmp_path / "saved/adapter/adapter_config.json").read_text())["base_model_name_or_path"] == str(
        adapter
    )
    torch.testing.assert_close(logits_of(tmp_path / "saved"), logits_of(adapter))
    with pytest.raises(ModelError, match="is an adapter too"):
        load_policy(ModelSettings(path=str(tmp_path / "saved/adapter")))


def test_a_base_beside_the_adapters_folder_is_found_by_its_relative_name(folder: Path, tmp_path: Path) -> None:
    adapter = adapter_on(folder, tmp_path / "adapter")
    expected = logits_of(adapter)
    edit(adapter, base_model_name_or_path="model")
    torch.testing.assert_close(logits_of(adapter), expected)


@pytest.mark.parametrize("settings", [{}, {"modules_to_save": ["embed_tokens"]}])
def test_an_adapter_that_was_trained_with_added_tokens_brings_their_embeddings(
    settings: Any, tiny_model: Path, tmp_path: Path
) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["<one>", "<two>"])
    model.resize_token_embeddings(len(tokenizer))
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], **settings)
    wrapped = stir(get_peft_model(model, config))
    wrapped.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([[5, 9, len(tokenizer) - 1, 7]])
    policy = load_policy(ModelSettings(path=str(tmp_path / "adapter")))
    assert policy.causal_lm.get_input_embeddings().num_embeddings == len(policy.tokenizer) == len(tokenizer)
    with torch.no_grad():
        found, expected = policy.logits(policy.hidden_states(ids)), wrapped(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def edit(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _beside_weights(adapter: Path, base: Path) -> None:
    shutil.copy(base / "model.safetensors", adapter)


def _beside_shards(adapter: Path, base: Path) -> None:
    (adapter / "model.safetensors.index.json").write_text("{}")


def _other_base(adapter: Path, base: Path) -> None:
    """A base of another architecture."""
    shutil.rmtree(base)
    stir(base_model := MODELS["gpt2"]()).save_pretrained(base)
    assert base_model


def _deeper_adapter(adapter: Path, base: Path) -> None:
    """A base that lacks the last layer."""
    model = AutoModelForCausalLM.from_pretrained(base)
    model.model.layers = model.model.layers[:1]
    model.config.num_hidden_layers, model.config.layer_types = 1, ["full_attention"]
    model.save_pretrained(base)


def _less(adapter: Path, base: Path) -> None:
    """A file that lacks a part of the adapter."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, adapter / "adapter_model.safetensors")


def _not_finite(adapter: Path, base: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({name: value * torch.nan for name, value in tensors.items()}, adapter / "adapter_model.safetensors")


def _prompts(adapter: Path, base: Path) -> None:
    shutil.rmtree(adapter)
    model = AutoModelForCausalLM.from_pretrained(base)
    get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)).save_pretrained(adapter)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_beside_weights, r"has a model \(model\.safetensors\) and an adapter.*folder of its own"),
        (_beside_shards, r"has a model \(model\.safetensors\.index\.json\) and an adapter"),
        (lambda adapter, base: edit(adapter, base_model_name_or_path="/no/where"), "base '/no/where' cannot be used"),
        (lambda adapter, base: edit(adapter, base_model_name_or_path=None), "names no base.*merge"),
        (lambda adapter, base: edit(adapter, base_model_name_or_path="../adapter"), "is an adapter too"),
        (lambda adapter, base: edit(adapter, peft_type="NEW"), "cannot be loaded onto its base"),
        (lambda adapter, base: (adapter / "adapter_config.json").write_text("{"), r"config\.json cannot be read"),
        (lambda adapter, base: (adapter / "adapter_config.json").write_text("[]"), "is no JSON object"),
        (lambda adapter, base: (adapter / "adapter_model.safetensors").unlink(), r"but no adapter_model\.safetensors"),
        (
            lambda adapter, base: (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin"),
            "only pickle weights",
        ),
        (lambda adapter, base: (base / "model.safetensors").unlink(), r"cannot be used: the folder has no \*\.safe"),
        (_other_base, "."),
        (_deeper_adapter, "the adapter has .*layers.1.*no place"),
        (_less, "the adapter lacks .*q_proj"),
        (_not_finite, "cannot be merged"),
        (_prompts, "adds learned tokens to prompts"),
    ],
)  # fmt: skip
def test_an_adapters_folder_that_cannot_be_used_is_one_line(
    spoil: Any, message: str, folder: Path, tmp_path: Path
) -> None:
    adapter = adapter_on(folder, tmp_path / "adapter")
    spoil(adapter, folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_policy(ModelSettings(path=str(adapter)))
    assert "\n" not in str(caught.value)
    assert str(adapter) in str(caught.value)
    assert caught.value.fix


def test_an_adapter_whose_merged_weights_compute_something_else_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """The adapter is on the embedding alone, but merged it changes the tied output head too."""
    adapter = adapter_on(tiny_model, tmp_path / "adapter", size=0.5, target_modules=["embed_tokens"])
    with pytest.raises(ModelError, match="kind LORA is not what its merged weights compute: the logits differ"):
        load_policy(ModelSettings(path=str(adapter)))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Repositories of a hub, as its cache has them once they are downloaded."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def add(name: str, *folders: Path) -> str:
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs/main").write_text("a" * 40)
        for folder in folders:
            shutil.copytree(folder, repository / "snapshots" / ("a" * 40), dirs_exist_ok=True)
        return name

    return add


def test_an_adapter_on_the_hub_is_loaded_on_its_base(hub: Any, tiny_model: Path, tmp_path: Path) -> None:
    folder = adapter_on(tiny_model, tmp_path / "adapter")
    expected = logits_of(folder)
    edit(folder, base_model_name_or_path=hub("me/base", tiny_model))
    for path in (hub("me/adapter", folder), folder):
        torch.testing.assert_close(logits_of(path), expected)


def test_the_tokenizer_of_an_adapter_on_the_hub_is_used_before_it_is_in_the_cache(
    hub: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = adapter_on(tiny_model, tmp_path / "adapter", tokenizer=False)
    edit(folder, base_model_name_or_path=hub("me/base", tiny_model))
    name = hub("me/adapter", folder)
    assert find_source(name, None).tokenizer == "me/base"
    # The hub has the file. There is no network here.
    monkeypatch.setattr(adapters, "has_file", lambda _, file, revision: file == "tokenizer_config.json")
    assert find_source(name, None).tokenizer == name


def test_a_model_and_an_adapter_in_one_repository_are_one_line(hub: Any, tiny_model: Path, tmp_path: Path) -> None:
    folder = adapter_on(tiny_model, tmp_path / "adapter")
    edit(folder, base_model_name_or_path=hub("me/base", tiny_model))
    both = hub("me/both", tiny_model, folder)
    with pytest.raises(ModelError, match=r"model 'me/both': it has a model \(model\.safetensors\) and an adapter"):
        logits_of(Path(both))
    edit(folder, base_model_name_or_path=both)
    with pytest.raises(ModelError, match="me/both has a model and an adapter"):
        logits_of(folder)

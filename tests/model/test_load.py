"""`holdfast.model.load`: loading models, models that are refused, adapters, copies, and saved folders."""

import copy
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GenerationConfig,
    GptOssConfig,
    GraniteConfig,
    Mamba2Config,
    MambaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    VaultGemmaConfig,
)

from holdfast.config.settings import LoraSettings, ModelSettings, TrainSettings
from holdfast.errors import ModelError
from holdfast.model import lora
from holdfast.model.load import Policy, as_policy, load_policy, warn_of_slow_products
from holdfast.train.adapter_average import AdapterAverage

IDS = torch.tensor([[5, 9, 40, 7, 33], [8, 8, 100, 2, 61]])


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def policy(tiny_model: Path) -> Policy:
    return load_policy(ModelSettings(path=str(tiny_model)))


@pytest.fixture
def adapted(tiny_model: Path) -> Policy:
    """A policy under LoRA with an adapter far from 0."""
    policy = load_policy(ModelSettings(path=str(tiny_model), lora=LoraSettings(r=4)))
    stir(policy)
    return policy


def stir(policy: Policy, seed: int = 0, size: float = 0.2) -> None:
    """Move the trainable weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.named_trainable().values():
            parameter += size * torch.randn(parameter.shape, generator=generator)


@torch.no_grad()
def logits_of(policy: Policy) -> torch.Tensor:
    return policy.logits(policy.hidden_states(IDS))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_is_loaded_for_use(policy: Policy) -> None:
    assert policy.eos_ids == {policy.tokenizer.eos_token_id}
    assert policy.pad_id == policy.tokenizer.pad_token_id
    assert policy.context_length == 8192
    assert not policy.model.training
    counts = policy.parameter_counts()
    assert counts.total == counts.trainable == sum(p.numel() for p in policy.named_trainable().values())
    assert "lm_head.weight" not in policy.named_trainable()  # tied: the embedding is listed for both


def test_backbone_and_head_give_the_models_logits(policy: Policy) -> None:
    with torch.no_grad():
        torch.testing.assert_close(logits_of(policy), policy.model(input_ids=IDS).logits)


def test_dtype_is_as_asked(tiny_model: Path) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model), dtype="bfloat16"))
    assert {p.dtype for p in policy.named_trainable().values()} == {torch.bfloat16}


SMALL = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 16, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "scale", "softcap"),
    [
        (Gemma2Config(final_logit_softcapping=0.1, attn_logit_softcapping=None, **SMALL), 1.0, 0.1),
        (CohereConfig(logit_scale=0.25, **SMALL), 0.25, None),
        (GraniteConfig(logits_scaling=8.0, **SMALL), 0.125, None),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_scaled_and_capped_heads_are_recognized(
    folder: Path, config: PretrainedConfig, scale: float, softcap: float | None
) -> None:
    config.vocab_size = len(AutoTokenizer.from_pretrained(folder))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    policy = load_policy(ModelSettings(path=str(folder), attn_implementation="eager"))
    assert (policy.head.scale, policy.head.softcap) == (scale, softcap)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(policy), policy.model(input_ids=IDS).logits)


def test_an_attention_that_the_architecture_lacks_is_one_line(folder: Path) -> None:
    AutoModelForCausalLM.from_config(Gemma2Config(vocab_size=512, **SMALL)).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"set model\.attn_implementation: eager"):
        load_policy(ModelSettings(path=str(folder), attn_implementation="sdpa"))


WIDE = {key: value for key, value in SMALL.items() if key != "head_dim"}
MIXER = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}

EAGER = [
    Gemma2Config(attn_logit_softcapping=0.5, **SMALL),
    VaultGemmaConfig(attn_logit_softcapping=0.5, **SMALL),
    GptOssConfig(num_local_experts=4, num_experts_per_tok=2, **SMALL),
    MambaConfig(**MIXER),
    Mamba2Config(head_dim=8, num_heads=8, n_groups=2, expand=2, chunk_size=8, **MIXER),
    BloomConfig(hidden_size=32, n_layer=2, n_head=4),
]
SDPA = [Gemma3TextConfig(**SMALL), MistralConfig(**SMALL), Olmo2Config(**WIDE), Phi3Config(**WIDE), Qwen2Config(**WIDE)]


def of_family(config: PretrainedConfig, folder: Path) -> Path:
    """The folder with a random model of another architecture, whose attention is far from uniform."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = copy.deepcopy(config)
    config.vocab_size = len(tokenizer)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = None, tokenizer.eos_token_id, 0
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "q_proj" in name or "qkv" in name or "sinks" in name:
                parameter *= 20
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("config", EAGER, ids=lambda config: config.model_type)
def test_an_architecture_that_needs_eager_gets_it_with_a_line(config: PretrainedConfig, folder: Path) -> None:
    path = str(of_family(config, folder))
    with pytest.warns(UserWarning, match=r"its attention is eager, because transformers has no other for \w+$"):
        policy = load_policy(ModelSettings(path=path))
    assert policy.causal_lm.config._attn_implementation == "eager"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = load_policy(ModelSettings(path=path, attn_implementation="eager"))
    torch.testing.assert_close(logits_of(policy), logits_of(written))
    with pytest.raises(ModelError, match=r"set model\.attn_implementation: eager") as caught:
        load_policy(ModelSettings(path=path, attn_implementation="sdpa"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", SDPA, ids=lambda config: config.model_type)
def test_an_architecture_that_gets_sdpa_computes_the_same_with_it(config: PretrainedConfig, folder: Path) -> None:
    path = str(of_family(config, folder))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy, eager = (load_policy(ModelSettings(path=path, attn_implementation=a)) for a in ("auto", "eager"))
    assert policy.causal_lm.config._attn_implementation == "sdpa"
    torch.testing.assert_close(logits_of(policy), logits_of(eager), rtol=1e-4, atol=1e-4)


def test_a_head_that_is_not_understood_is_refused(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Qwen3ForCausalLM.forward

    def shifted(self: Qwen3ForCausalLM, **kwargs: torch.Tensor) -> object:
        output = forward(self, **kwargs)
        output.logits = output.logits.roll(1, dims=-1)
        return output

    monkeypatch.setattr(Qwen3ForCausalLM, "forward", shifted)
    with pytest.raises(ModelError, match="Qwen3ForCausalLM computes logits"):
        load_policy(ModelSettings(path=str(tiny_model)))


def test_weights_that_are_not_finite_are_refused(policy: Policy, tmp_path: Path) -> None:
    with torch.no_grad():
        policy.causal_lm.get_input_embeddings().weight.fill_(torch.nan)
    policy.save_folder(tmp_path / "broken")
    with pytest.raises(ModelError, match="not finite"):
        load_policy(ModelSettings(path=str(tmp_path / "broken")))


def test_the_templates_turn_end_ends_completions_and_is_saved(folder: Path, tmp_path: Path) -> None:
    edit_json(folder / "tokenizer_config.json", eos_token="<|endoftext|>")
    edit_json(folder / "generation_config.json", eos_token_id=0, temperature=0.6)  # not valid without do_sample
    policy = load_policy(ModelSettings(path=str(folder)))
    assert policy.eos_ids == {0, 2}
    policy.save_folder(tmp_path / "saved")
    assert GenerationConfig.from_pretrained(tmp_path / "saved").eos_token_id == [0, 2]


def _without(*patterns: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for pattern in patterns:
            for path in folder.glob(pattern):
                path.unlink()

    return remove


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _encoder_decoder(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="t5", is_encoder_decoder=True)


def _own_code(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="mine", auto_map={"AutoModelForCausalLM": "mine.Model"})


def _foreign_tokenizer(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["one_more"])
    tokenizer.save_pretrained(folder)


def _named_templates(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    named = [{"name": name, "template": "{{ messages[0].content }}"} for name in ("tool_use", "rag")]
    edit_json(folder / "tokenizer_config.json", chat_template=named)


def _deeper(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    layers = config["num_hidden_layers"] + 1
    edit_json(folder / "config.json", num_hidden_layers=layers, layer_types=["full_attention"] * layers)


def _corrupt(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a header")


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "no such folder"),
        (_without("config.json"), r"no config\.json"),
        (_without("*.safetensors"), r"no \*\.safetensors"),
        (_pickled, r"only pickle weights \(pytorch_model\.bin\).*safetensors"),
        (_without("chat_template.jinja"), r"no chat template.*chat_template\.jinja"),
        (
            _named_templates,
            r"several chat templates \(rag, tool_use\), but none is named 'default'.*chat_template\.jinja",
        ),
        (_without("tokenizer*"), "tokenizer has no vocabulary"),
        (_foreign_tokenizer, r"tokenizer has \d+ tokens, but the embedding has only \d+"),
        (_encoder_decoder, "'t5' is not a decoder-only"),
        (_own_code, r"needs its own code.*trust_remote_code"),
        (_deeper, r"weights are missing.*layers\.2"),
        (_corrupt, "weights cannot be loaded"),
        (_broken_config, "config.json cannot be read"),
    ],
)
def test_an_unusable_folder_is_one_line(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_policy(ModelSettings(path=str(folder)))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert caught.value.fix


def test_named_templates_with_a_default_are_used(folder: Path) -> None:
    template = (folder / "chat_template.jinja").read_text()
    _named_templates(folder)
    named = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    named += [{"name": "default", "template": template}]
    edit_json(folder / "tokenizer_config.json", chat_template=named)
    assert load_policy(ModelSettings(path=str(folder))).chat_format.encode_prompt([{"role": "user", "content": "q"}])


def test_a_special_token_of_this_tokenizer_is_not_set_by_a_template_argument(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", extra_special_tokens={"image_token": "<think>"})
    with pytest.raises(ModelError, match=r"chat_template_kwargs: 'image_token' is the tokenizer's"):
        load_policy(ModelSettings(path=str(folder), chat_template_kwargs={"image_token": "x"}))


def test_a_hub_id_that_cannot_be_reached_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"nobody/nothing.*network") as caught:
        load_policy(ModelSettings(path="nobody/nothing"))
    assert "\n" not in str(caught.value)


def test_an_unknown_device_is_one_line(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"device 'warp'.*auto or cpu"):
        load_policy(ModelSettings(path=str(tiny_model), device="warp"))


def test_a_frozen_copy_stays_while_the_policy_moves(policy: Policy) -> None:
    before = logits_of(policy)
    policy.logits(policy.hidden_states(IDS)).sum().backward()
    twin = policy.frozen_copy()
    stir(policy)
    assert torch.equal(logits_of(twin), before)
    assert not torch.equal(logits_of(policy), before)
    assert all(not p.requires_grad and p.grad is None for p in twin.model.parameters())
    assert all(p.requires_grad for p in policy.model.parameters())


def test_a_saved_folder_gives_the_same_model(policy: Policy, tmp_path: Path) -> None:
    stir(policy)
    policy.save_folder(tmp_path / "saved")
    policy.save_folder(tmp_path / "saved")  # replaces the first
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert not list((tmp_path / "saved").glob("*.bin"))
    again = load_policy(ModelSettings(path=str(tmp_path / "saved")))
    assert torch.equal(logits_of(again), logits_of(policy))
    assert again.eos_ids == policy.eos_ids
    assert again.tokenizer.chat_template == policy.tokenizer.chat_template


def test_a_folder_that_cannot_be_written_whole_is_not_there(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(policy.model, "save_pretrained", fails)
    with pytest.raises(OSError, match="disk full"):
        policy.save_folder(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_lora_trains_the_adapter_alone(adapted: Policy, policy: Policy) -> None:
    trainable = adapted.named_trainable()
    assert trainable
    assert all(".lora_" in name and "default" not in name for name in trainable)
    assert {id(p) for p in adapted.model.parameters() if p.requires_grad} == {id(p) for p in trainable.values()}
    counts = adapted.parameter_counts()
    assert counts.trainable == sum(p.numel() for p in trainable.values())
    assert counts.total == policy.parameter_counts().total + counts.trainable


def test_a_lora_policy_starts_as_its_base(tiny_model: Path, policy: Policy) -> None:
    fresh = load_policy(ModelSettings(path=str(tiny_model), lora=LoraSettings()))
    assert torch.equal(logits_of(fresh), logits_of(policy))


def test_an_adapters_start_depends_on_its_seed_alone(tiny_model: Path) -> None:
    settings = ModelSettings(path=str(tiny_model), lora=LoraSettings(r=4))
    state = torch.get_rng_state()
    first = load_policy(settings, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    same, other = load_policy(settings, seed=1), load_policy(settings, seed=2)
    for name, value in first.named_trainable().items():
        assert torch.equal(value, same.named_trainable()[name])
    assert any(not torch.equal(v, other.named_trainable()[n]) for n, v in first.named_trainable().items())


def test_base_and_teacher_are_within_the_same_model(adapted: Policy, policy: Policy) -> None:
    student, base = logits_of(adapted), logits_of(policy)
    adapted.add_teacher(width=2)
    teacher = AdapterAverage(adapted.named_trainable, adapted.named_teacher)
    assert list(adapted.named_teacher()) == list(adapted.named_trainable())
    with adapted.adapter("teacher"):
        torch.testing.assert_close(logits_of(adapted), student)
    stir(adapted, seed=1)
    with adapted.adapter("teacher"):
        torch.testing.assert_close(logits_of(adapted), student)
        with adapted.base():
            torch.testing.assert_close(logits_of(adapted), base)
        torch.testing.assert_close(logits_of(adapted), student)
    with adapted.base():
        torch.testing.assert_close(logits_of(adapted), base)
    moved = logits_of(adapted)
    assert not torch.allclose(moved, student)
    teacher.reset("base")
    with adapted.adapter("teacher"):
        torch.testing.assert_close(logits_of(adapted), base)
    teacher.reset("student")
    with adapted.adapter("teacher"):
        torch.testing.assert_close(logits_of(adapted), moved)


def test_a_student_is_trainable_after_its_teacher_was_asked(adapted: Policy) -> None:
    adapted.add_teacher()
    loss = adapted.logits(adapted.hidden_states(IDS)).square().sum()  # the teacher runs between forward and backward
    with torch.no_grad(), adapted.adapter("teacher"):
        adapted.hidden_states(IDS)
    with torch.no_grad(), adapted.base():
        adapted.hidden_states(IDS)
    loss.backward()
    assert all(p.requires_grad and p.grad is not None for p in adapted.named_trainable().values())
    assert all(not p.requires_grad and p.grad is None for p in adapted.named_teacher().values())


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own, on loading an adapter
def test_a_lora_policy_is_saved_as_adapter_and_merged(adapted: Policy, tiny_model: Path, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in adapted.model.state_dict().items()}
    adapted.add_teacher()
    adapted.save_folder(tmp_path / "adapter-only")
    adapted.save_folder(tmp_path / "both", merged=True)
    assert all(torch.equal(value, adapted.model.state_dict()[name]) for name, value in before.items())

    assert not (tmp_path / "adapter-only" / "model.safetensors").exists()
    note = json.loads((tmp_path / "adapter-only" / "adapter" / "adapter_config.json").read_text())
    assert note["base_model_name_or_path"] == str(tiny_model)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        loaded = PeftModel.from_pretrained(base, tmp_path / "adapter-only" / "adapter")(input_ids=IDS).logits
    torch.testing.assert_close(loaded, logits_of(adapted))

    merged = load_policy(ModelSettings(path=str(tmp_path / "both")))
    torch.testing.assert_close(logits_of(merged), logits_of(adapted), rtol=1e-4, atol=1e-5)
    assert list(merged.named_trainable()) == list(load_policy(ModelSettings(path=str(tiny_model))).named_trainable())


@pytest.mark.parametrize(
    ("targets", "message"),
    [(["nothing_here"], "cannot attach"), (["q_proj", "embed_tokens"], "embedding"), (["lm_head"], "output head")],
)
def test_lora_on_the_wrong_modules_is_one_line(tiny_model: Path, targets: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_policy(ModelSettings(path=str(tiny_model), lora=LoraSettings(target_modules=targets)))
    assert "\n" not in str(caught.value)


def test_copies_and_adapters_are_not_mixed_up(policy: Policy, adapted: Policy) -> None:
    with pytest.raises(RuntimeError, match="frozen_copy"):
        policy.base()
    with pytest.raises(RuntimeError, match="base"):
        adapted.frozen_copy()


def test_a_processor_without_products_in_bfloat16_is_told_of(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr("holdfast.model.load.has_bfloat16_products", lambda: True)
        warn_of_slow_products(policy, TrainSettings(bf16=True))
        monkeypatch.setattr("holdfast.model.load.has_bfloat16_products", lambda: False)
        warn_of_slow_products(policy, TrainSettings(bf16=False))
    with pytest.warns(UserWarning, match="slower in bfloat16"):
        warn_of_slow_products(policy, TrainSettings(bf16=True))


def test_adapters_on_the_weights_of_experts_are_refused_and_those_beside_them_are_not() -> None:
    """These weights are one tensor for all experts. A merged folder would lack their adapters."""

    def model() -> PreTrainedModel:
        config = Qwen3MoeConfig(
            vocab_size=97, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
            head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
        )  # fmt: skip
        return AutoModelForCausalLM.from_config(config)

    with pytest.raises(ModelError, match=r"experts.*target_modules: \[k_proj, o_proj, q_proj, v_proj\]"):
        lora.attach(model(), LoraSettings(r=2), seed=0, where="it", revision=None)
    settings = LoraSettings(r=2, target_modules=["k_proj", "o_proj", "q_proj", "v_proj"])
    plain = model()
    taught = lora.attach(copy.deepcopy(plain), settings, seed=0, where="it", revision=None)
    with torch.no_grad():
        for parameter in lora.adapter_parameters(taught, lora.STUDENT).values():
            parameter += 0.1
    plain.load_state_dict(lora.merged_state(taught))
    ids = torch.arange(3, 9)[None]
    torch.testing.assert_close(plain(ids).logits, taught(ids).logits)


@pytest.mark.parametrize("template", ["Hello.", "{{ messages[0].content }}"])
def test_a_template_that_writes_no_turns_is_refused_in_somebody_elses_training_too(
    tiny_model: Path, template: str
) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match=r"^the watched model: the chat template does not write a\w* \w+'s turn"):
        as_policy(model, tokenizer, where="the watched model")

"""Packed rows against padded ones: the same values and gradients where a model allows it, and padded rows where not."""

import json
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from holdfast.config.settings import LoraSettings, ModelSettings
from holdfast.errors import RunError
from holdfast.model import hidden_states as trunk
from holdfast.model.hidden_states import longest_packed, loss_token_states, packed_states, padded_states
from holdfast.model.load import load_policy
from holdfast.model.packed_attention import NAME
from holdfast.model.packing import pack
from holdfast.model.policy import Policy
from holdfast.objective.head import OutputHead

Batch = tuple[list[list[int]], list[list[int]], list[range]]

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WITHOUT_GROUPS = {name: size for name, size in SIZES.items() if name != "num_key_value_heads"}
LINEAR = {f"linear_{name}": size for name, size in (("num_value_heads", 2), ("num_key_heads", 2))}
LINEAR |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}
MIXTURE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

PACKED = {
    "Llama": SIZES,
    "Qwen2": SIZES,
    "Qwen3": SIZES | {"head_dim": 16},
    "Phi3": SIZES,
    "GPTNeoX": WITHOUT_GROUPS,
    "GPT2": {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2},
}
WINDOWED = {
    "Mistral": SIZES | {"sliding_window": 20},
    "Gemma3Text": SIZES | {"head_dim": 8, "sliding_window": 20, "layer_types": ["sliding_attention", "full_attention"]},
}


def _policy(architecture: str, settings: dict[str, Any], dtype: torch.dtype = torch.float64, **load: Any) -> Policy:
    config = getattr(transformers, f"{architecture}Config")(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, **load)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)  # so that attention matters, unlike at initialization
    head = OutputHead(model.get_output_embeddings())
    return Policy(model, None, eos_ids=frozenset([2]), pad_id=0, head=head, source="test")  # type: ignore[arg-type]


def _ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(3, 97) for _ in range(count)]


def _batch(seed: int, longest: int = 20) -> Batch:
    """Groups of any size in any order, ragged, some rows with skipped first tokens or without any loss token."""
    rng = random.Random(seed)
    rows = []
    for _ in range(rng.randint(1, 4)):
        prompt = _ids(rng, rng.randint(1, longest // 2))
        for _ in range(rng.randint(1, 4)):
            completion = _ids(rng, rng.randint(0, longest // 2))
            rows.append((prompt, completion, range(min(rng.choice([0, 0, 2]), len(completion)), len(completion))))
    rows.append((_ids(rng, 3), _ids(rng, 4), range(1, 4)))
    rng.shuffle(rows)
    return [list(p) for p, _, _ in rows], [c for _, c, _ in rows], [w for _, _, w in rows]


def _gradients(policy: Policy, hidden: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 1, hidden.numel(), dtype=hidden.dtype).view_as(hidden)
    parameters = list(policy.named_trainable().values())
    grads = torch.autograd.grad((hidden * weights).sum(), parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)]


@pytest.fixture(scope="module")
def qwen() -> Policy:
    """A policy that is packed; never to be changed by a test."""
    policy = _policy("Qwen3", PACKED["Qwen3"])
    assert longest_packed(policy) == float("inf")
    return policy


def _agree(policy: Policy, batch: Batch, tolerance: float = 1e-5) -> None:
    """Values and gradients of both forms; not to float64's precision, since norms and rotations are float32 inside."""
    packed, padded = packed_states(policy, *batch), padded_states(policy, *batch)
    assert (packed - padded).norm() <= tolerance * padded.norm()
    own, reference = (torch.cat([g.flatten() for g in _gradients(policy, x)]) for x in (packed, padded))
    assert (own - reference).norm() <= tolerance * reference.norm()


@pytest.mark.parametrize("architecture", [*PACKED, *WINDOWED])
def test_packed_and_padded_rows_have_the_same_states_and_gradients(architecture: str) -> None:
    policy = _policy(architecture, (PACKED | WINDOWED)[architecture])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert longest_packed(policy) == (20 if architecture in WINDOWED else float("inf"))
    assert policy.causal_lm.config._attn_implementation == NAME
    for seed in range(3):
        _agree(policy, _batch(seed))


@settings(max_examples=25)
@given(seed=st.integers(0, 100_000))
def test_any_batch(qwen: Policy, seed: int) -> None:
    _agree(qwen, _batch(seed, longest=random.Random(seed).choice([4, 12, 60])))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("architecture", ["Qwen3", "Qwen3Moe"])
def test_other_dtypes(architecture: str, dtype: torch.dtype, tolerance: float) -> None:
    policy = _policy(architecture, PACKED["Qwen3"] | MIXTURE, dtype)
    assert longest_packed(policy) == float("inf")
    _agree(policy, _batch(3), tolerance)


def test_what_shares_a_batch_changes_nothing(qwen: Policy) -> None:
    prompts, completions, positions = _batch(11)
    together = loss_token_states(qwen, prompts, completions, positions)
    rows = zip(prompts, completions, positions, strict=True)
    alone = [loss_token_states(qwen, [p], [c], [w]) for p, c, w in rows]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=1e-5)


def test_no_loss_token_gives_no_state(qwen: Policy) -> None:
    assert loss_token_states(qwen, [[3, 4]], [[5]], [range(1, 1)]).shape == (0, 32)


@pytest.mark.parametrize("architecture", list(WINDOWED))
def test_sequences_longer_than_a_window_are_padded(architecture: str) -> None:
    policy = _policy(architecture, WINDOWED[architecture])
    rng = random.Random(0)
    prompt = _ids(rng, 12)
    fits = ([prompt] * 2, [_ids(rng, 9), _ids(rng, 4)], [range(9), range(4)])
    beyond = ([prompt] * 2, [_ids(rng, 11), _ids(rng, 4)], [range(11), range(4)])
    assert longest_packed(policy) == 20
    _agree(policy, fits)
    torch.testing.assert_close(loss_token_states(policy, *beyond), padded_states(policy, *beyond))
    with pytest.raises(RunError, match=r"a window of 20.*attn_implementation: eager"):
        packed_states(policy, *beyond)


def test_a_window_that_no_configuration_names_is_seen_all_the_same() -> None:
    policy = _policy("Qwen3", PACKED["Qwen3"])
    policy.causal_lm.get_decoder().layers[1].self_attn.sliding_window = 30
    assert longest_packed(policy) == 30


def _falls_back(policy: Policy, because: str) -> None:
    before = policy.causal_lm.config._attn_implementation
    batch = _batch(5)
    with pytest.warns(UserWarning, match=because) as caught:
        found = loss_token_states(policy, *batch)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert type(policy.causal_lm).__name__ in str(caught[0].message)
    torch.testing.assert_close(found, padded_states(policy, *batch))
    assert policy.causal_lm.config._attn_implementation == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_token_states(policy, *batch)  # says it once


def test_layers_that_keep_a_state_are_padded() -> None:
    _falls_back(_policy("Qwen3Next", SIZES | {"head_dim": 16} | LINEAR | MIXTURE, torch.float32), "a recurrent state")


def test_a_hybrid_that_does_not_say_so_is_found_by_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = _policy("Qwen3Next", SIZES | {"head_dim": 16} | LINEAR | MIXTURE, torch.float32)
    monkeypatch.setattr(type(policy.causal_lm), "_is_stateful", False)
    monkeypatch.setattr(trunk, "attends_everywhere", lambda model: True)
    _falls_back(policy, "packed hidden states differ")


def test_convolutions_that_weigh_little_at_first_are_padded() -> None:
    """With its first weights such a model's packed states would pass for right ones in 16 bits."""
    layers = {"layer_types": ["conv", "full_attention"]}
    policy = _policy("Lfm2", SIZES | layers, torch.bfloat16)
    for name, parameter in policy.causal_lm.named_parameters():
        if "conv" in name:
            parameter.data *= 1e-3
    _falls_back(policy, "a recurrent state")


class _Distant(torch.nn.Module):
    """Something between the tokens of a stream that is not attention: each is mixed with the one before it."""

    def __init__(self, inner: torch.nn.Module, share: float) -> None:
        super().__init__()
        self.inner, self.share = inner, share

    def forward(self, hidden: Tensor) -> Tensor:
        return self.inner(hidden + self.share * torch.nn.functional.pad(hidden, (0, 0, 1, -1)))


@pytest.mark.parametrize("share", [0.5, 1e-3])
def test_models_that_mix_tokens_otherwise_are_padded(share: float) -> None:
    policy = _policy("Llama", PACKED["Llama"], torch.float32)
    layer = policy.causal_lm.get_decoder().layers[0]
    layer.mlp = _Distant(layer.mlp, share)
    _falls_back(policy, "packed hidden states differ")


@pytest.mark.parametrize(
    ("extra", "because"),
    [
        ({"s_aux": torch.zeros(4)}, "s_aux"),
        ({"position_bias": torch.zeros(1)}, "position_bias"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_attention_that_asks_for_more_is_padded(extra: dict[str, Any], because: str) -> None:
    policy = _policy("Llama", PACKED["Llama"], torch.float32)
    for layer in policy.causal_lm.get_decoder().layers:
        plain = layer.self_attn.forward

        def forward(*args: Any, plain: Any = plain, **kwargs: Any) -> Any:
            more = extra if kwargs.get("packed_layout") is not None else {}
            return plain(*args, **kwargs, **more)

        layer.self_attn.forward = forward
    _falls_back(policy, because)


def test_eager_attention_stays_as_asked_for_and_is_padded() -> None:
    policy = _policy("Llama", PACKED["Llama"], attn_implementation="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert longest_packed(policy) == 0
    assert policy.causal_lm.config._attn_implementation == "eager"
    batch = _batch(1)
    torch.testing.assert_close(loss_token_states(policy, *batch), padded_states(policy, *batch))


def test_everything_else_about_the_model_is_as_before() -> None:
    plain, packed = (_policy("Qwen3", PACKED["Qwen3"]) for _ in range(2))
    longest_packed(packed)
    ids = torch.tensor([[0, 0, 5, 6, 7], [3, 4, 5, 6, 7]])
    mask = (ids != 0).long()
    for kwargs in ({}, {"attention_mask": mask}):
        torch.testing.assert_close(packed.causal_lm(ids, **kwargs).logits, plain.causal_lm(ids, **kwargs).logits)
    settings = {"max_new_tokens": 5, "do_sample": False, "attention_mask": mask}
    assert torch.equal(packed.causal_lm.generate(ids, **settings), plain.causal_lm.generate(ids, **settings))


def test_adapters_copies_and_saved_folders(tiny_model: Path, tmp_path: Path) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model), lora=LoraSettings(r=4)))
    with torch.no_grad():
        for parameter in policy.named_trainable().values():
            parameter += 0.1
    assert longest_packed(policy) == float("inf")
    batch = _batch(2)
    _agree(policy, batch)
    with policy.base(), torch.no_grad():
        base = packed_states(policy, *batch)
        torch.testing.assert_close(base, padded_states(policy, *batch), atol=1e-4, rtol=1e-3)
    assert not torch.allclose(base, packed_states(policy, *batch), atol=1e-2)

    full = load_policy(ModelSettings(path=str(tiny_model)))
    assert longest_packed(full) == float("inf")
    twin = full.frozen_copy()
    assert longest_packed(twin) == float("inf")
    torch.testing.assert_close(packed_states(twin, *batch), packed_states(full, *batch))
    full.save_folder(tmp_path / "saved")
    assert NAME not in json.dumps(json.loads((tmp_path / "saved" / "config.json").read_text()))


def test_a_layer_that_is_computed_again_in_the_backward_pass_is_packed_again() -> None:
    policy, again = (_policy("Qwen3", PACKED["Qwen3"]) for _ in range(2))
    for layer in again.causal_lm.get_decoder().layers:
        plain = layer.forward
        layer.forward = lambda *args, plain=plain, **kwargs: checkpoint(plain, *args, use_reentrant=False, **kwargs)
    assert longest_packed(policy) == longest_packed(again) == float("inf")
    batch = _batch(4)
    grads = [_gradients(each, packed_states(each, *batch)) for each in (policy, again)]
    for own, reference in zip(*grads, strict=True):
        torch.testing.assert_close(own, reference)


def test_under_autocast_the_attention_is_in_its_dtype() -> None:
    policy = _policy("Qwen3", PACKED["Qwen3"], torch.float32)
    batch = _batch(6)
    with torch.autocast("cpu", torch.bfloat16):
        packed, padded = loss_token_states(policy, *batch), padded_states(policy, *batch)
    assert longest_packed(policy) == float("inf")
    torch.testing.assert_close(packed, padded, atol=0.3, rtol=0)
    assert all(g.isfinite().all() for g in _gradients(policy, packed))


def test_the_packed_form_computes_fewer_tokens(qwen: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    states = Policy.hidden_states
    monkeypatch.setattr(
        Policy,
        "hidden_states",
        lambda self, ids, *args, **kw: seen.append(ids.numel()) or states(self, ids, *args, **kw),
    )
    prompt = list(range(10, 40))
    completions = [[50 + i] * (3 + i) for i in range(4)]
    batch = ([prompt] * 4, completions, [range(len(c)) for c in completions])
    trunk.loss_token_states(qwen, *batch)
    trunk.padded_states(qwen, *batch)
    assert seen == [30 + 2 + 3 + 4 + 5, 4 * 35]
    assert pack(*batch).layout.tokens == seen[0]

"""`holdfast.sampling.sampler`: tokens and log-probabilities, and that a completion depends on its own request alone.

Also about the decoding batches: `kv_batch`, `kv_choice`, `kv_equal_length`, `kv_left_padded`, `kv_shared_prompt`.
"""

import copy
import shutil
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PretrainedConfig,
)

from holdfast.config.settings import LoraSettings, ModelSettings
from holdfast.errors import RunError
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.objective.head import OutputHead
from holdfast.sampling import llama_decoder as decoder
from holdfast.sampling.draws import uniforms
from holdfast.sampling.kv_choice import decoding_batch
from holdfast.sampling.kv_equal_length import EqualLengthBatch, UncachedBatch
from holdfast.sampling.kv_left_padded import LeftPaddedBatch, PreallocatedLayer
from holdfast.sampling.kv_shared_prompt import KeyValueBuffer, SharedPromptBatch
from holdfast.sampling.sampler import Completion, Request, Sampler
from sampling_reference import truncated

PROMPTS = [[5, 9, 40, 7, 33], [8, 8, 100], [12], list(range(20, 61)), [5, 9, 40, 7, 33, 61]]
VARIANTS = [
    {"temperature": 1.0},
    {"temperature": 0.7},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.0, "top_p": 0.6},
    {"temperature": 1.3, "top_p": 0.8, "top_k": 12},
]


def sharpened(folder: Path, **changes: object) -> Policy:
    """The tiny model with larger weights, so that its distributions are far from uniform and depend on the context."""
    policy = load_policy(ModelSettings(path=str(folder), **changes))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in policy.causal_lm.named_parameters():
            if "norm" not in name and ".lora_" not in name:
                parameter *= 6.0
    return policy


@pytest.fixture(scope="module", params=[SharedPromptBatch, LeftPaddedBatch])
def policy(tiny_model: Path, request: pytest.FixtureRequest) -> Policy:
    """A policy that is sampled with one kind of decoding batch, then with the other."""
    policy = sharpened(tiny_model)
    if request.param is LeftPaddedBatch:
        decoder._approved[policy.causal_lm] = False
    assert type(decoding_batch(policy, lambda: None)) is request.param
    return policy


def ending_often(policy: Policy) -> Policy:
    """The same policy with a fifth of all tokens ending a completion, so that rows end at different steps."""
    twin = copy.copy(policy)
    twin.eos_ids = frozenset(range(0, 400, 5))
    return twin


def generate(policy: Policy, requests: list[Request], n: int = 12, batch_tokens: int = 100_000) -> list[Completion]:
    return Sampler(policy).generate(requests, max_new_tokens=n, batch_tokens=batch_tokens)


@torch.no_grad()
def full_forward(policy: Policy, prompt: list[int], ids: list[int]) -> torch.Tensor:
    """Logits [T, V] that predict the completion, from one pass without a cache."""
    logits = policy.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].float()
    return logits[len(prompt) - 1 : -1]


def assert_same(one: list[Completion], other: list[Completion]) -> None:
    assert [c.ids for c in one] == [c.ids for c in other]
    assert [c.truncated for c in one] == [c.truncated for c in other]
    for a, b in zip(one, other, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=2e-4)


def assert_greedy(policy: Policy, prompts: list[list[int]], completions: list[Completion]) -> None:
    for prompt, completion in zip(prompts, completions, strict=True):
        theirs = policy.model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=12,
            eos_token_id=sorted(policy.eos_ids), pad_token_id=0,
        )  # fmt: skip
        assert completion.ids == theirs[0, len(prompt) :].tolist()


@pytest.mark.parametrize("often", [False, True])
def test_greedy_is_what_generate_gives(policy: Policy, often: bool) -> None:
    if often:
        policy = ending_often(policy)
    ours = generate(policy, [Request(p, temperature=0.0) for p in PROMPTS])
    assert_greedy(policy, PROMPTS, ours)
    assert len({len(c.ids) for c in ours}) > 1 or not often


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_completion_depends_on_its_request_alone(policy: Policy, variant: dict[str, float]) -> None:
    policy = ending_often(policy)
    requests = [Request(p, seed=100 * i + g, **variant) for i, p in enumerate(PROMPTS) for g in range(4)]
    together = generate(policy, requests)
    assert_same([generate(policy, [r])[0] for r in requests], together)
    assert_same(generate(policy, requests[::-1])[::-1], together)
    assert_same(generate(policy, requests, batch_tokens=130), together)
    assert len({tuple(c.ids) for c in together}) > len(PROMPTS)  # different seeds, different completions


def test_settings_of_other_rows_change_nothing(policy: Policy) -> None:
    mixed = [Request(PROMPTS[0], seed=i, **variant) for i, variant in enumerate([*VARIANTS, {"temperature": 0.0}])]
    assert_same(generate(policy, mixed), [generate(policy, [r])[0] for r in mixed])


@pytest.mark.parametrize("variant", [*VARIANTS, {"temperature": 0.0, "top_k": 3, "top_p": 0.5}], ids=str)
def test_logprobs_are_those_of_the_sampling_distribution(policy: Policy, variant: dict[str, float]) -> None:
    request = Request(PROMPTS[0], seed=7, **variant)
    completion = generate(policy, [request, replace(request, prompt_ids=PROMPTS[3])])[0]
    reference = request if request.temperature else Request(PROMPTS[0])
    logits = full_forward(policy, PROMPTS[0], completion.ids)
    for t, token in enumerate(completion.ids):
        expected = truncated(logits[t], reference)[token].item()
        assert completion.logprobs[t] == pytest.approx(expected, abs=1e-4)


def assert_inverse(request: Request, completion: Completion, ends: torch.Tensor) -> None:
    """Each token is where the row's random number falls in the cumulative distributions `ends` [T, V]."""
    for t, token in enumerate(completion.ids):
        number = uniforms(torch.tensor([request.seed]), torch.tensor([t])).item()
        below = ends[t, token - 1].item() if token else 0.0
        assert below - 1e-4 <= number <= ends[t, token].item() + 1e-4


def test_each_token_is_where_its_random_number_falls(policy: Policy) -> None:
    request = Request(PROMPTS[0], seed=11)
    completion = generate(policy, [request])[0]
    assert_inverse(
        request, completion, full_forward(policy, PROMPTS[0], completion.ids).double().softmax(-1).cumsum(-1)
    )


@pytest.mark.parametrize(
    "variant", [{"top_k": 8}, {"top_k": 8, "temperature": 2.0}, {"top_p": 0.5}, {"top_k": 12, "top_p": 0.9}], ids=str
)
def test_tokens_are_drawn_with_their_probabilities(policy: Policy, variant: dict[str, float]) -> None:
    n = 4000
    logits = full_forward(policy, PROMPTS[1], [0])[0]
    expected = truncated(logits, Request(PROMPTS[1], **variant)).exp().double() * n
    drawn = generate(policy, [Request(PROMPTS[1], seed=i, **variant) for i in range(n)], n=1, batch_tokens=10**6)
    counts = torch.bincount(torch.tensor([c.ids[0] for c in drawn]), minlength=len(expected)).double()
    assert counts[expected == 0].sum() == 0
    common = expected >= 5
    rare = [counts[~common].sum().item()], [expected[~common].sum().item()]
    observed, expected_counts = (
        torch.cat([x[common], torch.tensor(r)]) for x, r in zip((counts, expected), rare, strict=True)
    )
    positive = expected_counts > 0
    observed, expected_counts = observed[positive], expected_counts[positive]
    assert len(expected_counts) > 3
    scaled = expected_counts * observed.sum() / expected_counts.sum()
    assert stats.chisquare(observed.numpy(), scaled.numpy()).pvalue > 1e-3


def test_an_end_token_stops_a_completion_and_is_part_of_it(policy: Policy) -> None:
    policy = ending_often(policy)
    completions = generate(policy, [Request(p, seed=s) for p in PROMPTS for s in range(8)])
    for completion in completions:
        *body, last = completion.ids
        assert not policy.eos_ids.intersection(body)
        assert completion.truncated == (last not in policy.eos_ids)
        assert len(completion.ids) == len(completion.logprobs) <= 12
        assert not completion.truncated or len(completion.ids) == 12
    assert {c.truncated for c in completions} == {True, False}


def test_each_call_uses_the_current_weights(tiny_model: Path) -> None:
    policy = sharpened(tiny_model)
    sampler, request = Sampler(policy), [Request(PROMPTS[0], temperature=0.0)]
    before = sampler.generate(request, max_new_tokens=3, batch_tokens=100)[0]
    with torch.no_grad():
        policy.causal_lm.get_input_embeddings().weight[before.ids[0], 0] += 0.5
    after = sampler.generate(request, max_new_tokens=3, batch_tokens=100)[0]
    assert after.logprobs[0] != before.logprobs[0]


def test_sampling_follows_the_active_adapter(tiny_model: Path) -> None:
    policy = sharpened(tiny_model, lora=LoraSettings(r=4))
    sampler, request = Sampler(policy), [Request(PROMPTS[0], seed=3)]
    with torch.no_grad():
        for name, parameter in policy.named_trainable().items():
            if ".lora_B." in name:
                parameter += 0.3
    student = sampler.generate(request, max_new_tokens=4, batch_tokens=100)
    with policy.base():
        base = sampler.generate(request, max_new_tokens=4, batch_tokens=100)
    assert student[0].logprobs != base[0].logprobs
    assert_same(base, generate(sharpened(tiny_model), request, n=4))


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Rows and columns of every forward pass in a test, in order."""
    passes: list[tuple[int, ...]] = []
    whole, single = Policy.hidden_states, decoder.LlamaDecoder.__call__

    def counted(self: Policy, input_ids: torch.Tensor, *args: object) -> torch.Tensor:
        passes.append(tuple(input_ids.shape))
        return whole(self, input_ids, *args)  # type: ignore[arg-type]

    def counted_single(self: decoder.LlamaDecoder, tokens: torch.Tensor, *args: object) -> torch.Tensor:
        passes.append((len(tokens), 1))
        return single(self, tokens, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Policy, "hidden_states", counted)
    monkeypatch.setattr(decoder.LlamaDecoder, "__call__", counted_single)
    return passes


def test_a_shared_prompt_is_read_once(policy: Policy, shapes: list[tuple[int, ...]]) -> None:
    requests = [Request(p, seed=g) for g in range(6) for p in PROMPTS[:2]]
    together = generate(policy, requests, n=2)
    assert shapes == [(2, 5), (12, 1)]
    assert_same(together, [generate(policy, [r], n=2)[0] for r in requests])


def test_rows_that_have_ended_leave_the_batch(policy: Policy, shapes: list[tuple[int, ...]]) -> None:
    completions = generate(ending_often(policy), [Request(PROMPTS[0], seed=s) for s in range(40)])
    assert [rows for rows, _ in shapes[1:]] == [
        sum(len(c.ids) > step for c in completions) for step in range(1, len(shapes))
    ]


@pytest.mark.parametrize("budget", [60, 130, 400])
def test_memory_stays_within_the_budget(
    policy: Policy, shapes: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    allocated: list[int] = []
    reserve, resize, sizes = PreallocatedLayer.reserve, KeyValueBuffer.resize, {}

    def counted(self: PreallocatedLayer, rows: int, columns: int, *like: torch.Tensor) -> None:
        reserve(self, rows, columns, *like)
        allocated.append(self._memory[0].shape[0] * self._memory[0].shape[2])

    def counted_shared(self: KeyValueBuffer, *args: object) -> None:
        resize(self, *args)  # type: ignore[arg-type]
        sizes[id(self)] = self.places * self.columns
        allocated.append(sum(sizes.values()))

    monkeypatch.setattr(PreallocatedLayer, "reserve", counted)
    monkeypatch.setattr(KeyValueBuffer, "resize", counted_shared)
    generate(ending_often(policy), [Request(p, seed=g) for p in PROMPTS for g in range(5)], batch_tokens=budget)
    single = 41 + 12  # a single row is sampled in any case
    assert max(allocated) <= max(budget, single)
    # The batch also uses its budget, unless sharing prompts makes that unnecessary.
    if type(decoding_batch(policy, lambda: None)) is LeftPaddedBatch:
        assert max(allocated) > budget - single
    prompts_read = [rows for rows, columns in shapes if columns > 1]
    assert sum(prompts_read) <= len(PROMPTS)  # a prompt of one token looks like a step


def test_waiting_requests_take_the_places_of_ended_rows(policy: Policy, shapes: list[tuple[int, ...]]) -> None:
    """This takes far fewer passes than one batch after the other, and there are never more rows than places."""
    policy = ending_often(policy)
    requests = [Request(PROMPTS[0], seed=s) for s in range(64)]
    completions = generate(policy, requests, n=24, batch_tokens=16 * (5 + 24))
    assert max(rows for rows, _ in shapes) <= 16
    lengths = [len(c.ids) for c in completions]
    batches = sum(max(lengths[start : start + 16]) for start in range(0, 64, 16))
    assert len(shapes) < batches
    assert_same(completions, generate(policy, requests, n=24))


def test_places_are_used_many_times(policy: Policy) -> None:
    """Rows of many lengths join and leave until the columns have moved to the front several times."""
    policy = ending_often(policy)
    prompts = [list(range(3 + i, 4 + i + i % 11)) for i in range(60)]
    requests = [Request(p, seed=s, temperature=0.8) for s, p in enumerate(prompts)]
    assert_same(generate(policy, requests, n=30, batch_tokens=4 * 41), generate(policy, requests, n=30))


def test_sampling_ends_when_the_poll_raises(policy: Policy) -> None:
    calls: list[int] = []

    def poll() -> None:
        calls.append(0)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Sampler(policy, poll).generate([Request(PROMPTS[0])], max_new_tokens=100, batch_tokens=1000)
    assert len(calls) == 4


def test_a_completion_longer_than_many_steps(policy: Policy) -> None:
    completion = generate(policy, [Request(PROMPTS[0], temperature=0.0)], n=150)[0]
    logits = full_forward(policy, PROMPTS[0], completion.ids)
    expected = logits.log_softmax(-1)[range(len(completion.ids)), completion.ids]
    assert completion.logprobs == pytest.approx(expected.tolist(), abs=1e-3)


COMMON = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0,
}  # fmt: skip
MODELS: dict[str, tuple[PretrainedConfig, type]] = {
    "full": (LlamaConfig(**COMMON), SharedPromptBatch),
    "all sliding": (MistralConfig(**COMMON, sliding_window=6), LeftPaddedBatch),
    "sliding and full": (Gemma3TextConfig(**COMMON, head_dim=8, sliding_window=5), LeftPaddedBatch),
    "positions by mask": (BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4), LeftPaddedBatch),
    "convolution states": (Lfm2Config(**COMMON, full_attn_idxs=[1, 3]), EqualLengthBatch),
    "own cache class": (
        MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=4),
        UncachedBatch,
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_architecture_samples_from_its_own_distribution(tiny_model: Path, kind: str) -> None:
    """Tokens and log-probabilities are those of one pass over each row alone, also beyond the sliding window."""
    config, kind_of_batch = MODELS[kind]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter *= 4.0
    twin = copy.copy(sharpened(tiny_model))
    twin.model, twin.head, twin.eos_ids = model, OutputHead(model.get_output_embeddings()), frozenset(range(0, 300, 9))
    is_slow = pytest.warns(UserWarning, match="each new token reads its whole completion again")
    with is_slow if kind_of_batch is UncachedBatch else nullcontext():
        assert type(decoding_batch(twin, lambda: None)) is kind_of_batch
    prompts = [[12], list(range(20, 33)), list(range(50, 59)), list(range(40, 53))]
    requests = [Request(p, seed=10 * i + g) for i, p in enumerate(prompts) for g in range(3)]
    for completion, request in zip(generate(twin, requests, n=20, batch_tokens=5 * 33), requests, strict=True):
        logprobs = full_forward(twin, list(request.prompt_ids), completion.ids).log_softmax(-1)
        ends = logprobs.double().exp().cumsum(-1)
        assert_inverse(request, completion, ends)
        expected = logprobs[range(len(completion.ids)), completion.ids]
        assert completion.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_model_that_ignores_the_attention_mask_gets_rows_of_equal_length(tiny_model: Path) -> None:
    policy = sharpened(tiny_model)
    decoder._approved[policy.causal_lm] = False
    states = policy.hidden_states

    def unmasked(ids: torch.Tensor, mask: torch.Tensor | None = None, *rest: Any, **kwargs: Any) -> torch.Tensor:
        return states(ids, None if mask is None else torch.ones_like(mask), *rest, **kwargs)

    policy.hidden_states = unmasked  # type: ignore[method-assign]
    assert type(decoding_batch(policy, lambda: None)) is EqualLengthBatch


def test_sliding_windows_are_sampled_as_generate_does(tiny_model: Path, tmp_path: Path) -> None:
    """Layers with a sliding-window cache: shared prompts, padding, and rows that leave."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    changed = {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]}
    config = model.config.from_dict(model.config.to_dict() | changed)
    config.save_pretrained(shutil.copytree(tiny_model, tmp_path / "sliding"))
    policy = ending_often(sharpened(tmp_path / "sliding"))
    assert policy.causal_lm.config.layer_types == changed["layer_types"]
    ours = generate(policy, [Request(p, temperature=0.0) for p in PROMPTS for _ in range(2)])
    assert_greedy(policy, [p for p in PROMPTS for _ in range(2)], ours)


def test_logits_that_are_not_finite_are_an_error(tiny_model: Path) -> None:
    policy = sharpened(tiny_model)
    with torch.no_grad():
        policy.causal_lm.get_input_embeddings().weight.fill_(torch.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RunError, match="not finite"):
            generate(policy, [Request(PROMPTS[0]), Request(PROMPTS[0], temperature=0.0)])


def test_no_requests_give_no_completions(policy: Policy) -> None:
    assert generate(policy, []) == []

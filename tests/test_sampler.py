"""What the sampler draws, what it says of it, and that a completion depends on nothing but its own request."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers import AutoModelForCausalLM

from holdfast.config import LoraSettings, ModelSettings
from holdfast.errors import RunError
from holdfast.rollouts.sampler import Completion, Request, Sampler, uniforms
from holdfast.train.model import Policy, load_policy

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


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> Policy:
    return sharpened(tiny_model)


def ending_often(policy: Policy) -> Policy:
    """The same policy with a fifth of all tokens ending a completion, so that rows end at different steps."""
    twin = policy.frozen_copy()
    twin.eos_ids = frozenset(range(0, 400, 5))
    return twin


def generate(policy: Policy, requests: list[Request], n: int = 12, batch_tokens: int = 100_000) -> list[Completion]:
    return Sampler(policy).generate(requests, max_new_tokens=n, batch_tokens=batch_tokens)


@torch.no_grad()
def full_forward(policy: Policy, prompt: list[int], ids: list[int]) -> torch.Tensor:
    """Logits [T, V] that predict the completion, from one pass without a cache."""
    logits = policy.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].float()
    return logits[len(prompt) - 1 : -1]


def truncated(logits: torch.Tensor, request: Request) -> torch.Tensor:
    """Log-probabilities of one position as the settings define them, token by token."""
    probabilities = (logits / (request.temperature or 1.0)).softmax(-1)
    kept = sorted(range(len(logits)), key=lambda token: -float(probabilities[token]))
    kept = kept[: request.top_k or len(kept)]
    total, mass, nucleus = float(probabilities[kept].sum()), 0.0, []
    for token in kept:
        nucleus.append(token)
        mass += float(probabilities[token]) / total
        if mass >= request.top_p:
            break
    result = torch.full_like(logits, -torch.inf)
    result[nucleus] = (probabilities[nucleus] / probabilities[nucleus].sum()).log()
    return result


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


def test_each_token_is_where_its_own_number_falls(policy: Policy) -> None:
    completion = generate(policy, [Request(PROMPTS[0], seed=11)])[0]
    cumulative = full_forward(policy, PROMPTS[0], completion.ids).double().softmax(-1).cumsum(-1)
    for t, token in enumerate(completion.ids):
        number = uniforms(torch.tensor([11]), t).item()
        below = cumulative[t, token - 1].item() if token else 0.0
        assert below - 1e-4 <= number <= cumulative[t, token].item() + 1e-4


@pytest.mark.parametrize(
    "variant", [{"top_k": 8}, {"top_k": 8, "temperature": 2.0}, {"top_p": 0.5}, {"top_k": 12, "top_p": 0.9}], ids=str
)
def test_tokens_are_drawn_as_often_as_their_probability_says(policy: Policy, variant: dict[str, float]) -> None:
    n = 4000
    logits = full_forward(policy, PROMPTS[1], [0])[0]
    expected = truncated(logits, Request(PROMPTS[1], **variant)).exp().double() * n
    drawn = generate(policy, [Request(PROMPTS[1], seed=i, **variant) for i in range(n)], n=1, batch_tokens=10**6)
    counts = torch.bincount(torch.tensor([c.ids[0] for c in drawn]), minlength=len(expected)).double()
    assert counts[expected == 0].sum() == 0
    common = expected >= 5
    rare = [counts[~common].sum().item()], [expected[~common].sum().item()]
    seen, due = (torch.cat([x[common], torch.tensor(r)]) for x, r in zip((counts, expected), rare, strict=True))
    seen, due = seen[due > 0], due[due > 0]
    assert len(due) > 3
    assert stats.chisquare(seen.numpy(), (due * seen.sum() / due.sum()).numpy()).pvalue > 1e-3


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


def test_the_weights_are_those_of_the_moment(tiny_model: Path) -> None:
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
    """Rows and columns of every forward pass of the test, as they happen."""
    seen: list[tuple[int, ...]] = []
    states = Policy.hidden_states

    def counted(self: Policy, input_ids: torch.Tensor, *args: object) -> torch.Tensor:
        seen.append(tuple(input_ids.shape))
        return states(self, input_ids, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Policy, "hidden_states", counted)
    return seen


def test_a_shared_prompt_is_read_once(policy: Policy, shapes: list[tuple[int, ...]]) -> None:
    requests = [Request(p, seed=g) for g in range(6) for p in PROMPTS[:2]]
    together = generate(policy, requests, n=2)
    assert shapes == [(2, 5), (12, 1)]
    assert_same(together, [generate(policy, [r], n=2)[0] for r in requests])


def test_rows_that_have_ended_leave_the_batch(policy: Policy, shapes: list[tuple[int, ...]]) -> None:
    completions = generate(ending_often(policy), [Request(PROMPTS[0], seed=s) for s in range(40)])
    for step, (rows, _) in enumerate(shapes[1:], start=1):
        going_on = sum(len(c.ids) > step for c in completions)
        assert going_on <= rows < max(2, going_on / 0.75 + 1)


def test_batches_stay_within_the_budget(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    batch = Sampler._generate_batch

    def counted(self: Sampler, requests: list[Request], n: int) -> list[Completion]:
        rows.append(len(requests) * (max(len(r.prompt_ids) for r in requests) + n))
        return batch(self, requests, n)

    monkeypatch.setattr(Sampler, "_generate_batch", counted)
    generate(policy, [Request(p, seed=g) for p in PROMPTS for g in range(3)], n=2, batch_tokens=20)
    assert [size for size in rows if size > 20] == [
        43,
        43,
        43,
    ]  # the longest prompt fits in no budget, so it runs alone


def test_a_cache_with_room_equals_one_without(policy: Policy) -> None:
    """Longer than the room ahead, so that the buffer grows while sampling."""
    completion = generate(policy, [Request(PROMPTS[0], temperature=0.0)], n=150)[0]
    logits = full_forward(policy, PROMPTS[0], completion.ids)
    expected = logits.log_softmax(-1)[range(len(completion.ids)), completion.ids]
    assert completion.logprobs == pytest.approx(expected.tolist(), abs=1e-3)


def test_sliding_windows_are_sampled_as_generate_does(tiny_model: Path, tmp_path: Path) -> None:
    """Layers with a cache of their own kind: shared prompts, padding, and rows that leave."""
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
    with pytest.raises(RunError, match="not finite"):
        generate(policy, [Request(PROMPTS[0]), Request(PROMPTS[0], temperature=0.0)])


def test_no_requests_give_no_completions(policy: Policy) -> None:
    assert generate(policy, []) == []


def _splitmix64(state: int) -> int:
    """The published algorithm with unbounded integers."""
    mask = 2**64 - 1
    z = state & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


@given(seed=st.integers(-(2**63), 2**63 - 1), position=st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_numbers_are_those_of_splitmix64(seed: int, position: int) -> None:
    expected = (_splitmix64(seed + 0x9E3779B97F4A7C15 * (position + 1)) >> 12) / 2**52
    assert uniforms(torch.tensor([seed]), position).item() == expected


def test_numbers_are_uniform_and_unrelated() -> None:
    numbers = torch.stack([uniforms(torch.arange(500), position) for position in range(40)])
    assert stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 1e-3
    for moved in (numbers.roll(1, dims=0), numbers.roll(1, dims=1)):
        assert abs(torch.corrcoef(torch.stack([numbers.flatten(), moved.flatten()]))[0, 1]) < 0.03

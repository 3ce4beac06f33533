"""`holdfast.sampling.draws`: the inverse of the cumulative distribution, truncation, and random numbers."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from holdfast.sampling.draws import Request, TokenDraws, block_sums, inverse_cdf, uniforms
from sampling_reference import truncated


@given(
    size=st.integers(1, 700),
    rows=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([0.0, 1.0, 8.0, 60.0]),
    zeros=st.sampled_from([0.0, 0.5, 0.99]),
)
@settings(max_examples=100)
def test_the_inverse_by_blocks_is_the_inverse(size: int, rows: int, seed: int, spread: float, zeros: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, size, generator=generator) * spread
    logits[:, 1:].masked_fill_(torch.rand(rows, size - 1, generator=generator) < zeros, -torch.inf)
    probabilities = logits.softmax(-1)
    numbers = torch.rand(rows, generator=generator, dtype=torch.float64)
    weights = probabilities * 3.0
    sums = block_sums(weights)
    numbers[0] = 1 - 2.0**-52 if seed % 2 else 0.0
    tokens = inverse_cdf(weights, sums, numbers)
    assert (probabilities.gather(1, tokens[:, None]) > 0).all()
    ends = probabilities.double().cumsum(-1)
    upper = ends.gather(1, tokens[:, None]).squeeze(1)
    target = numbers * ends[:, -1]
    assert (target <= upper + 1e-6).all()
    assert (target >= upper - probabilities.double().gather(1, tokens[:, None]).squeeze(1) - 1e-6).all()


def test_a_number_on_the_edge_of_a_block_never_falls_on_a_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = (torch.rand(400, 40, generator=generator) * -40).exp()  # sums so different that adding them up rounds
    weights = torch.rand(400, 640, generator=generator) * sizes.repeat_interleave(16, dim=1)
    weights[:, ::16] = 0.0  # every block begins with a zero
    sums = block_sums(weights)
    edges = (sums.cumsum(-1) / sums.sum(-1, keepdim=True)).clamp(max=1 - 2.0**-52)
    for numbers in edges.unbind(1):
        assert (weights.gather(1, inverse_cdf(weights, sums, numbers)[:, None]) > 0).all()


@given(size=st.integers(1, 700), seed=st.integers(0, 2**31), levels=st.integers(1, 1000))
@settings(max_examples=50)
def test_greedy_takes_the_first_of_the_largest(size: int, seed: int, levels: int) -> None:
    logits = torch.randint(levels, (3, size), generator=torch.Generator().manual_seed(seed)).float()
    tokens, _ = TokenDraws([Request([0], temperature=0.0)] * 3, [0] * 3, torch.device("cpu")).draw(logits.clone())
    assert tokens.tolist() == [row.index(max(row)) for row in logits.tolist()]


@pytest.mark.parametrize("top_p", [0.3, 0.999])
def test_top_p_may_need_more_than_the_first_candidates(monkeypatch: pytest.MonkeyPatch, top_p: float) -> None:
    """If the most probable tokens do not reach `top_p`, the whole vocabulary is sorted, with the same result."""
    requests = [Request([0], seed=s, top_p=top_p if s % 3 else 1.0, top_k=7 * (s % 2)) for s in range(40)]
    logits = torch.randn(40, 500, generator=torch.Generator().manual_seed(1))

    def draw() -> list[torch.Tensor]:
        return list(TokenDraws(requests, [0] * 40, torch.device("cpu")).draw(logits.clone()))

    whole = draw()
    monkeypatch.setattr("holdfast.sampling.draws.TOP_P_CANDIDATES", 4)
    for few_candidates, many_candidates in zip(draw(), whole, strict=True):
        torch.testing.assert_close(few_candidates, many_candidates)
    for row, request in enumerate(requests):
        expected = truncated(logits[row], request)
        assert whole[1][row].item() == pytest.approx(expected[whole[0][row]].item(), abs=1e-5)


def test_tokens_tied_with_the_last_kept_are_kept() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 3.0, 1.0, 1.0]]).expand(200, -1)
    requests = [Request([0], seed=s, top_k=3) for s in range(200)]
    tokens, logprobs = TokenDraws(requests, [0] * 200, torch.device("cpu")).draw(logits.clone())
    assert set(tokens.tolist()) == {1, 2, 3, 4, 5}
    assert sum(torch.exp(logprobs[tokens == t][0]).item() for t in range(1, 6)) == pytest.approx(1.0, abs=1e-5)


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
    assert uniforms(torch.tensor([seed]), torch.tensor([position])).item() == expected


def test_numbers_are_uniform_and_unrelated() -> None:
    numbers = torch.stack([uniforms(torch.arange(500), torch.tensor(position)) for position in range(40)])
    assert stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 1e-3
    for moved in (numbers.roll(1, dims=0), numbers.roll(1, dims=1)):
        assert abs(torch.corrcoef(torch.stack([numbers.flatten(), moved.flatten()]))[0, 1]) < 0.03


@given(
    size=st.integers(1, 700),
    seed=st.integers(0, 2**31),
    temperature=st.floats(0.2, 3.0),
    top_k=st.integers(0, 60),
    top_p=st.floats(0.05, 1.0),
)
@settings(max_examples=100, deadline=None)
def test_truncated_draws_are_those_of_the_definition(
    size: int, seed: int, temperature: float, top_k: int, top_p: float
) -> None:
    """Temperature, then the k most probable tokens, then the fewest of these that reach top-p."""
    logits = np.random.default_rng(seed).normal(size=size).astype(np.float32) * 3
    scaled = logits.astype(np.float64) / temperature
    order = np.argsort(-scaled)[: top_k or None]
    probabilities = np.exp(scaled[order] - scaled.max())
    ends = np.cumsum(probabilities / probabilities.sum())
    assume(np.abs(ends[:-1] - top_p).min(initial=1.0) > 1e-4)  # else rounding decides what is kept
    kept = order[: int((ends < top_p).sum()) + 1]
    full = np.zeros(size)
    full[kept] = probabilities[: len(kept)] / probabilities[: len(kept)].sum()

    requests = [Request([0], seed=s, temperature=temperature, top_k=top_k, top_p=top_p) for s in range(5)]
    positions = [seed % 1000] * len(requests)
    tokens, logprobs = TokenDraws(requests, positions, torch.device("cpu")).draw(torch.tensor(logits).repeat(5, 1))
    numbers = uniforms(torch.arange(5), torch.tensor(positions)).numpy()
    ends = np.cumsum(full)
    for token, logprob, number in zip(tokens.tolist(), logprobs.tolist(), numbers, strict=True):
        assert full[token] > 0
        assert logprob == pytest.approx(np.log(full[token]), abs=1e-4)
        assert ends[token] - full[token] - 1e-4 <= number <= ends[token] + 1e-4

"""`holdfast.model.packing`: rows of a batch, their layout in a stream, and which tokens attend to which."""

import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from holdfast.data.example import Example, Message
from holdfast.data.rows import Row
from holdfast.model import packed_attention as attention
from holdfast.model.packing import Layout, micro_batches, pack

Batch = tuple[list[list[int]], list[list[int]], list[range]]
EXAMPLE = Example("e", (Message(role="user", content="?"),))


def _rows(seed: int, count: int) -> list[Row]:
    """Rows of few prompts in any order; some have another prompt for the teacher."""
    rng = random.Random(seed)
    prompts = [[rng.randrange(50) for _ in range(rng.randint(1, 30))] for _ in range(5)]
    rows = [Row(EXAMPLE, list(rng.choice(prompts)), [7] * rng.randint(1, 20)) for _ in range(count)]
    for row in rows:
        row.teacher_prompt_ids = rng.choice([None, list(rng.choice(prompts)), [3] * rng.randint(1, 60)])
    return rows


def _cost(rows: list[Row]) -> int:
    completions = sum(len(row.completion_ids) for row in rows)
    own = sum(map(len, {tuple(row.prompt_ids) for row in rows}))
    seen = sum(map(len, {tuple(row.teacher_prompt_ids or row.prompt_ids) for row in rows}))
    return completions + max(own, seen)


@given(seed=st.integers(0, 10_000), count=st.integers(0, 30), budget=st.integers(1, 300))
def test_batches_hold_every_row_once_within_the_budget(seed: int, count: int, budget: int) -> None:
    rows = _rows(seed, count)
    batches = micro_batches(rows, budget)
    assert sorted(id(row) for batch in batches for row in batch) == sorted(map(id, rows))
    for batch in batches:
        assert len(batch) == 1 or _cost(batch) <= budget
    again = micro_batches(rows, budget)
    assert [[id(row) for row in batch] for batch in batches] == [[id(row) for row in batch] for batch in again]


@given(seed=st.integers(0, 10_000), budget=st.integers(1, 300))
def test_rows_of_one_prompt_stay_together_where_they_fit(seed: int, budget: int) -> None:
    rows = _rows(seed, 20)
    batches = micro_batches(rows, budget)
    for prompt in {tuple(row.prompt_ids) for row in rows}:
        siblings = [row for row in rows if tuple(row.prompt_ids) == prompt]
        homes = [batch for batch in batches if any(row in siblings for row in batch)]
        assert len(homes) == 1 or _cost(siblings) > budget


def test_batches_are_filled_well() -> None:
    rows = _rows(1, 200)
    budget = 150
    assert len(micro_batches(rows, budget)) <= 1.3 * sum(_cost([row]) for row in rows) / budget


@given(seed=st.integers(0, 1000), budget=st.integers(1, 300))
def test_padded_batches_count_their_padding(seed: int, budget: int) -> None:
    rows = _rows(seed, 15)
    batches = micro_batches(rows, budget, padded=True)
    assert sorted(id(row) for batch in batches for row in batch) == sorted(map(id, rows))
    for batch in batches:
        widths = [max(len(r.prompt_ids), len(r.teacher_prompt_ids or ())) + len(r.completion_ids) for r in batch]
        assert len(batch) == 1 or max(widths) * len(batch) <= budget


def test_a_stream_holds_each_prompt_once_and_no_token_that_predicts_nothing() -> None:
    prompts = [[1, 2, 3], [4, 5], [1, 2, 3], [1, 2, 3], [6]]
    completions = [[10, 11], [12], [13, 14, 15, 16], [17, 18, 19], [20, 21]]
    positions = [range(2), range(1), range(1, 4), range(3), range(2, 2)]
    packed = pack(prompts, completions, positions)
    # The longest completion follows its prompt. The last wanted token of each is left out, and so is the last row.
    assert packed.ids.tolist() == [[1, 2, 3, 13, 14, 15, 4, 5, 17, 18, 10]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 3, 4, 3]]
    assert packed.predicts.tolist() == [2, 10, 7, 3, 4, 5, 2, 8, 9]
    assert packed.layout.longest == 6
    assert packed.layout.tokens == 11
    assert [(f.start, f.length, f.prompt_start, f.prompt_length) for f in packed.layout.forks] == [(8, 3, 0, 3)]


@st.composite
def _batches(draw: st.DrawFn) -> Batch:
    """Prompts, completions and positions: groups of any size, ragged, some with equal lengths, some without a loss."""
    prompts, completions, positions = [], [], []
    for number in range(draw(st.integers(1, 3))):
        prompt = [number] * draw(st.integers(1, 7))
        for _ in range(draw(st.integers(1, 4))):
            length = draw(st.integers(0, 6))
            first = draw(st.integers(0, length))
            prompts.append(prompt)
            completions.append([9] * length)
            positions.append(range(first, draw(st.integers(first, length))))
    prompts.append([8])
    completions.append([9, 9])
    positions.append(range(2))
    order = draw(st.permutations(range(len(prompts))))
    return [prompts[i] for i in order], [completions[i] for i in order], [positions[i] for i in order]


def _visible(layout: Layout) -> torch.Tensor:
    """[T, T], True if a token sees another, by the definition of a layout."""
    visible = torch.zeros(layout.tokens, layout.tokens, dtype=torch.bool)
    for run in layout.runs:
        for i in range(run.count):
            part = slice(run.start + i * run.length, run.start + (i + 1) * run.length)
            visible[part, part] = torch.ones(run.length, run.length, dtype=torch.bool).tril()
    for fork in layout.forks:
        prompt = slice(fork.prompt_start, fork.prompt_start + fork.prompt_length)
        visible[fork.start : fork.start + fork.length, prompt] = True
    return visible


@settings(max_examples=40)
@given(batch=_batches(), heads=st.sampled_from([(2, 2), (4, 2), (3, 1)]), on_cpu=st.booleans())
def test_both_forms_attend_as_one_mask_over_the_stream_would(
    batch: Batch, heads: tuple[int, int], on_cpu: bool
) -> None:
    layout = pack(*batch).layout
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(layout.tokens, h, 8, dtype=torch.float64, generator=generator, requires_grad=True)
        for h in (heads[0], heads[1], heads[1])
    )
    upstream = torch.randn(layout.tokens, heads[0], 8, dtype=torch.float64, generator=generator)
    expected = nn.functional.scaled_dot_product_attention(
        *(x.transpose(0, 1)[None] for x in (query, key, value)),
        attn_mask=_visible(layout),
        scale=0.4,
        enable_gqa=True,
    )[0].transpose(0, 1)
    form = attention.part_by_part if on_cpu else attention.gathered
    found = form(query, key, value, layout, 0.4)
    torch.testing.assert_close(found, expected)
    grads = (torch.autograd.grad(out, (query, key, value), upstream) for out in (found, expected))
    for own, reference in zip(*grads, strict=True):
        torch.testing.assert_close(own, reference)

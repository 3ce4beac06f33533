"""Which rows share a forward pass, and how a batch is laid out in one stream of real tokens.

A stream has every distinct prompt once. A prompt and its longest completion are one sequence. The prompt's other
completions are branches: each sees the prompt, and causally itself, but none of the other completions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from holdfast.data.rows import Row


def micro_batches(rows: Sequence[Row], token_budget: int, *, padded: bool = False) -> list[list[Row]]:
    """Rows in batches of at most `token_budget` tokens, counted as a forward pass computes them.

    The tokens of a batch are its completions and its distinct prompts, the student's or the teacher's, whichever are
    more. Rows of one prompt stay together if they fit (first-fit decreasing). A row longer than the budget is a batch
    by itself. Which rows share a batch never changes the result.

    Args:
        padded: count rows × longest row instead, for models that are not packed.
    """
    if padded:
        return _padded_batches(rows, token_budget)
    numbers: dict[tuple[int, ...], int] = {}
    loads = [_Load.of(row, numbers) for row in rows]
    by_prompt: dict[int, list[_Load]] = {}
    for load in loads:
        by_prompt.setdefault(next(iter(load.prompts)), []).append(load)
    pieces = [piece for siblings in by_prompt.values() for piece in _first_fit(siblings, token_budget)]
    pieces.sort(key=lambda piece: -piece.tokens)
    return [batch.rows for batch in _first_fit(pieces, token_budget)]


@dataclass(slots=True)
class _Load:
    """Rows and their cost together: lengths of distinct prompts, by a prompt's number, and of all completions."""

    rows: list[Row] = field(default_factory=list)
    prompts: dict[int, int] = field(default_factory=dict)
    teacher_prompts: dict[int, int] = field(default_factory=dict)
    completions: int = 0

    @classmethod
    def of(cls, row: Row, numbers: dict[tuple[int, ...], int]) -> "_Load":
        prompt, teacher_prompt = tuple(row.prompt_ids), tuple(row.teacher_prompt_ids or row.prompt_ids)
        students, teachers = (numbers.setdefault(ids, len(numbers)) for ids in (prompt, teacher_prompt))
        return cls([row], {students: len(prompt)}, {teachers: len(teacher_prompt)}, len(row.completion_ids))

    @property
    def tokens(self) -> int:
        return self.completions + max(sum(self.prompts.values()), sum(self.teacher_prompts.values()))

    def with_(self, other: "_Load") -> "_Load":
        return _Load(
            self.rows + other.rows,
            self.prompts | other.prompts,
            self.teacher_prompts | other.teacher_prompts,
            self.completions + other.completions,
        )


def _first_fit(loads: Sequence[_Load], token_budget: int) -> list[_Load]:
    batches: list[_Load] = []
    for load in loads:
        for index, batch in enumerate(batches):
            together = batch.with_(load)
            if together.tokens <= token_budget:
                batches[index] = together
                break
        else:
            batches.append(load)
    return batches


def _padded_batches(rows: Sequence[Row], token_budget: int) -> list[list[Row]]:
    def length(row: Row) -> int:
        return max(len(row.prompt_ids), len(row.teacher_prompt_ids or ())) + len(row.completion_ids)

    batches: list[list[Row]] = []
    for row in sorted(rows, key=length):
        width = length(row)  # the longest so far, because rows come in ascending order
        if batches and width * (len(batches[-1]) + 1) <= token_budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


@dataclass(frozen=True, slots=True)
class Segments:
    """`count` segments of `length` tokens each, one after the other from `start`. Each attends causally to itself."""

    start: int
    count: int
    length: int


Positions = Sequence[Sequence[int]]
"""For each completion, the indices of the tokens to predict, in ascending order."""


@dataclass(frozen=True, slots=True)
class Fork:
    """The branches of one prompt: tokens from `start` on, `length` of them, attend to the whole prompt too."""

    start: int
    length: int
    prompt_start: int
    prompt_length: int


@dataclass(slots=True)
class Layout:
    """Which token attends to which in a stream. The stream has no gaps; runs and forks are sorted by their start."""

    runs: list[Segments]
    forks: list[Fork]
    tokens: int
    longest: int
    """Tokens of the longest sequence, its prompt included."""
    narrowest_window: int | None = None
    """The narrowest sliding window of any layer. The attention writes it during the forward pass."""
    plans: dict[torch.device, object] = field(default_factory=dict)
    """Index tensors that all layers share. The attention of the first layer writes them."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch as one stream.

    Args:
        ids: [1, T].
        position_ids: [1, T]; a branch continues counting after its prompt.
        predicts: [N], the index in the stream at which each wanted token is predicted.
    """

    ids: Tensor
    position_ids: Tensor
    predicts: Tensor
    layout: Layout


def pack(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], positions: Positions) -> Packed:
    """One stream for rows whose tokens at `positions` are to be predicted; at least one token in all.

    Tokens that predict nothing are left out: a completion's last wanted token and all after it, and rows without
    positions.
    """
    needed = [wanted[-1] if wanted else 0 for wanted in positions]  # a token is predicted by the ones before it
    trees: dict[tuple[int, ...], list[int]] = {}
    for row, (prompt, wanted) in enumerate(zip(prompts, positions, strict=True)):
        if wanted:
            trees.setdefault(tuple(prompt), []).append(row)
    for rows in trees.values():
        rows.sort(key=lambda row: -needed[row])
    order = sorted(trees.items(), key=lambda tree: -len(tree[0]) - needed[tree[1][0]])

    ids: list[int] = []
    position_ids: list[int] = []
    segments: list[tuple[int, int]] = []
    completion_start: dict[int, int] = {}  # by row, in the stream

    def append(tokens: Sequence[int], position: int) -> int:
        start = len(ids)
        if tokens:
            segments.append((start, len(tokens)))
        ids.extend(tokens)
        position_ids.extend(range(position, position + len(tokens)))
        return start

    prompt_end: dict[tuple[int, ...], int] = {}  # in the stream
    for prompt, rows in order:
        first = rows[0]
        prompt_end[prompt] = append([*prompt, *completions[first][: needed[first]]], 0) + len(prompt)
        completion_start[first] = prompt_end[prompt]
    forks: list[Fork] = []
    for prompt, rows in order:
        start = len(ids)
        for row in rows[1:]:
            completion_start[row] = append(completions[row][: needed[row]], len(prompt))
        if len(ids) > start:
            forks.append(Fork(start, len(ids) - start, prompt_end[prompt] - len(prompt), len(prompt)))
    predicts = [
        completion_start[row] + t - 1 if t else prompt_end[tuple(prompts[row])] - 1
        for row, wanted in enumerate(positions)
        for t in wanted
    ]
    runs = [
        Segments(run[0][0], len(run), length)
        for length, run in ((n, list(g)) for n, g in groupby(segments, lambda s: s[1]))
    ]
    layout = Layout(runs, forks, len(ids), longest=1 + max(position_ids))
    return Packed(torch.tensor([ids]), torch.tensor([position_ids]), torch.tensor(predicts), layout)

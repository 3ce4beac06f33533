"""A decoding batch whose rows share their prompts' keys and values, for Llama-like decoders.

A prompt's keys and values are stored once, however many rows it has, and its attention scores with all of them are one
matrix product. Only the tokens after the prompt have memory per row. One softmax goes over both parts.

This needs control over the attention of every layer, which `LlamaDecoder` gives and a model's own forward does not.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from holdfast.sampling.kv_batch import compact
from holdfast.sampling.llama_decoder import LlamaDecoder
from holdfast.sampling.prefill import Prompt, PromptPrefill

FIRST_COLUMNS = 16
"""Tokens after the prompt for which a row first gets memory. The memory doubles when it is full, because most
completions are much shorter than `max_new_tokens`."""


class KeyValueBuffer:
    """Keys and values [places, heads, columns, D] of every layer. A place belongs to a prompt or to a row.

    All entries are finite at all times. A mask does not keep out NaN: 0 · NaN is NaN in the product with the values.
    """

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, ...]] = []

    @property
    def places(self) -> int:
        return self.layers[0][0].shape[0] if self.layers else 0

    @property
    def columns(self) -> int:
        return self.layers[0][0].shape[2] if self.layers else 0

    def resize(self, places: int, columns: int, used: int, like: Sequence[tuple[Tensor, ...]]) -> None:
        """Change the size to exactly `places` and `columns`. The first `used` places keep their content.

        Args:
            places: how many places.
            columns: how many tokens a place has.
            used: how many places have content.
            like: keys and values [..., heads, ..., D] of every layer, whose sizes and dtype the memory gets.
        """
        old, kept = self.layers, min(columns, self.columns)
        self.layers = []
        for index, pair in enumerate(like):
            resized = tuple(x.new_zeros(places, x.shape[1], columns, x.shape[3]) for x in pair)
            if used:
                for new, former in zip(resized, old[index], strict=True):
                    new[:used, :, :kept] = former[:used, :, :kept]
            self.layers.append(resized)

    def move(self, places: list[int], to: list[int]) -> None:
        """Copy the content of some places to others."""
        for pair in self.layers if places else ():
            for memory in pair:
                memory[to] = memory[places]


class SharedPromptBatch:
    """Rows of any length that share their prompts; see the module's docstring and `DecodingBatch`.

    Args:
        decoder: computes hidden states and asks for the attention of each layer.
        prefill: reads prompts.
        poll: called before every step; may raise to end the sampling.
    """

    mixes_lengths = True

    def __init__(self, decoder: LlamaDecoder, prefill: PromptPrefill, poll: Callable[[], None]) -> None:
        self._decoder, self._prefill, self._poll, self._device = decoder, prefill, poll, prefill.device
        self._prompts: list[Prompt] = []
        """The prompts that have rows. A prompt's index is its place in `_prompt_buffer`."""
        self._owners: list[int] = []
        """For each row, the index of its prompt."""
        self._lengths: list[int] = []
        """For each row, how many tokens it has after its prompt."""
        self._max_own = 0
        """How many tokens a row may have after its prompt."""
        self._prompt_buffer, self._row_buffer = KeyValueBuffer(), KeyValueBuffer()

    def add(self, prompts: Sequence[Prompt], copies: Sequence[int], max_length: int) -> Tensor:
        longest = max(map(len, (*self._prompts, *prompts)))
        self._max_own = max_length - longest
        prompt_places = len(set(self._prompts).union(prompts))
        rows = len(self._owners) + sum(copies)
        hidden = []
        for prefilled in self._prefill.run(prompts):
            hidden.append(prefilled.hidden)
            if prompt_places > self._prompt_buffer.places or longest != self._prompt_buffer.columns:
                self._prompt_buffer.resize(prompt_places, longest, len(self._prompts), prefilled.layers)
            if rows > self._row_buffer.places:
                columns = max(self._row_buffer.columns, min(FIRST_COLUMNS, self._max_own))
                self._row_buffer.resize(rows, columns, len(self._owners), prefilled.layers)
            first = len(self._prompts)
            if prefilled.prompts[0] in self._prompts:
                # Only some rows of this prompt fitted before, and its other rows are added now. It comes alone.
                first = self._prompts.index(prefilled.prompts[0])
            else:
                for memory, states in zip(self._prompt_buffer.layers, prefilled.layers, strict=True):
                    for stored, new in zip(memory, states, strict=True):
                        stored[first : first + len(prefilled.prompts), :, : new.shape[2]] = new
                self._prompts += prefilled.prompts
            for place in range(len(prefilled.prompts)):
                self._owners += [first + place] * copies[place]
                self._lengths += [0] * copies[place]
            copies = copies[len(prefilled.prompts) :]
        self._update_inputs()
        return torch.cat(hidden)

    def step(self, tokens: Tensor) -> Tensor:
        self._poll()
        longest = max(self._lengths)
        if longest == self._row_buffer.columns:
            columns = min(2 * longest, self._max_own)
            self._row_buffer.resize(self._row_buffer.places, columns, len(self._owners), self._row_buffer.layers)
        self._used_columns = longest + 1
        self._new_columns: Tensor | None = None
        """The column of each row's new token; None if all rows have the same."""
        if min(self._lengths) < longest:
            self._new_columns = torch.tensor(self._lengths, device=self._device)
        self._bias = self._mask_bias()
        hidden = self._decoder(tokens, self._positions, self._attend)
        self._positions += 1
        self._lengths = [length + 1 for length in self._lengths]
        return hidden

    def remove(self, rows: Sequence[int]) -> list[int]:
        order, movers, gaps = compact(len(self._owners), rows)
        self._row_buffer.move(movers, gaps)
        self._owners, self._lengths = [self._owners[row] for row in order], [self._lengths[row] for row in order]
        without_rows = sorted(set(range(len(self._prompts))).difference(self._owners))
        if without_rows:
            remaining, movers, gaps = compact(len(self._prompts), without_rows)
            self._prompt_buffer.move(movers, gaps)
            new_index = {place: index for index, place in enumerate(remaining)}
            self._prompts = [self._prompts[place] for place in remaining]
            self._owners = [new_index[owner] for owner in self._owners]
        self._update_inputs()
        return order

    def _update_inputs(self) -> None:
        """Everything that the next steps need and that changes only when rows are added or removed."""
        prompts = torch.tensor([len(prompt) for prompt in self._prompts], dtype=torch.long, device=self._device)
        owners = torch.tensor(self._owners, dtype=torch.long, device=self._device)
        own = torch.tensor(self._lengths, dtype=torch.long, device=self._device)
        self._rows = torch.arange(len(owners), device=self._device)
        self._positions = prompts[owners] + own
        self._longest_prompt = max(map(len, self._prompts), default=0)
        self._prompt_padding: Tensor | None = None
        """True [R, L] at padding after the row's prompt; None if all prompts have the same length."""
        if any(len(prompt) < self._longest_prompt for prompt in self._prompts):
            self._prompt_padding = torch.arange(self._longest_prompt, device=self._device) >= prompts[owners, None]
        # For the product with a prompt's keys, its rows are brought together as [prompts, most_rows]. A prompt with
        # fewer rows repeats its first one, and the results of the repetitions are dropped.
        groups: list[list[int]] = [[] for _ in self._prompts]
        for row, owner in enumerate(self._owners):
            groups[owner].append(row)
        self._most_rows = max(map(len, groups), default=0)
        self._to_groups: Tensor | None = None
        """The row at each place of [prompts · most_rows]; None if the rows are in this order already."""
        in_order = [row for group in groups for row in group] == list(range(len(owners)))
        if not in_order or min(map(len, groups), default=0) < self._most_rows:
            place = [0] * len(owners)
            for owner, group in enumerate(groups):
                for index, row in enumerate(group):
                    place[row] = owner * self._most_rows + index
            filled = [group + group[:1] * (self._most_rows - len(group)) for group in groups]
            self._to_groups = torch.tensor(filled, device=self._device).flatten()
            self._from_groups = torch.tensor(place, device=self._device)

    def _mask_bias(self) -> Tensor | None:
        """Bias [R, 1, 1, L + C] for the scores: −inf at tokens that a row must not attend to, else 0; None if nothing
        is masked.

        L are the columns of the longest prompt, C those of the rows' own tokens.
        """
        if self._prompt_padding is None and self._new_columns is None:
            return None
        bias = torch.zeros(len(self._owners), self._longest_prompt + self._used_columns, device=self._device)
        if self._prompt_padding is not None:
            bias[:, : self._longest_prompt].masked_fill_(self._prompt_padding, -torch.inf)
        if self._new_columns is not None:
            later = torch.arange(self._used_columns, device=self._device) > self._new_columns[:, None]
            bias[:, self._longest_prompt :].masked_fill_(later, -torch.inf)
        return bias[:, None, None]

    def _attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store the new keys and values, then attend to prompt and own tokens. See `llama_decoder.Attend`."""
        rows, heads, dim = key.shape
        own = []
        for memory, new in zip(self._row_buffer.layers[layer], (key, value), strict=True):
            if self._new_columns is None:
                memory[:rows, :, self._used_columns - 1] = new
            else:
                memory[self._rows, :, self._new_columns] = new
            own.append(memory[:rows, :, : self._used_columns])
        keys, values = (
            memory[: len(self._prompts), :, : self._longest_prompt] for memory in self._prompt_buffer.layers[layer]
        )
        query = query.view(rows, heads, -1, dim)
        prompt_scores = self._by_row(self._by_prompt(query) @ keys.transpose(-1, -2))
        scores = torch.cat([prompt_scores, query @ own[0].transpose(-1, -2)], dim=-1)
        if self._bias is not None:
            scores += self._bias
        of_prompt, of_own = scores.softmax(dim=-1).split([self._longest_prompt, self._used_columns], dim=-1)
        return (self._by_row(self._by_prompt(of_prompt) @ values) + of_own @ own[1]).reshape(rows, -1)

    def _by_prompt(self, states: Tensor) -> Tensor:
        """States by row [R, heads, Q, …] as states by prompt [P, heads, most_rows · Q, …]."""
        states = states if self._to_groups is None else states[self._to_groups]
        return states.unflatten(0, (-1, self._most_rows)).transpose(1, 2).flatten(2, 3)

    def _by_row(self, states: Tensor) -> Tensor:
        """The inverse of `_by_prompt`."""
        states = states.unflatten(2, (self._most_rows, -1)).transpose(1, 2).flatten(0, 1)
        return states if self._to_groups is None else states[self._from_groups]

"""Keys and values of rows that share their prompts, for a decoder that asks for its attention layer by layer.

A prompt's keys and values are kept once, whatever the number of its rows, and multiplied with all of them at once; each
row has memory of its own for the tokens that came after. One softmax goes over both.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from holdfast.sampling.kv_rows import closed_up
from holdfast.sampling.llama_decoder import LlamaDecoder
from holdfast.sampling.prefill import Prompt, PromptReader

COLUMNS = 16
"""Columns that the memory of rows' own tokens begins with; it doubles as they grow."""


class _Memory:
    """Keys and values [places, heads, columns, D] of every layer; all finite, for a mask does not keep out others."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, ...]] = []

    @property
    def places(self) -> int:
        return self.layers[0][0].shape[0] if self.layers else 0

    @property
    def columns(self) -> int:
        return self.layers[0][0].shape[2] if self.layers else 0

    def resize(self, places: int, columns: int, used: int, like: Sequence[tuple[Tensor, ...]]) -> None:
        """Have exactly so many places and columns; the first `used` places keep what they hold.

        Args:
            like: keys and values [..., heads, ..., D] of every layer.
        """
        old, kept = self.layers, min(columns, self.columns)
        self.layers = []
        for index, pair in enumerate(like):
            fresh = tuple(x.new_zeros(places, x.shape[1], columns, x.shape[3]) for x in pair)
            if used:
                for new, held in zip(fresh, old[index], strict=True):
                    new[:used, :, :kept] = held[:used, :, :kept]
            self.layers.append(fresh)

    def move(self, places: list[int], to: list[int]) -> None:
        """Copy what some places hold to others."""
        for pair in self.layers if places else ():
            for memory in pair:
                memory[to] = memory[places]


class SharedRows:
    """Rows of any length; see `Rows`.

    Args:
        poll: called before every step.
    """

    mixed = True

    def __init__(self, decoder: LlamaDecoder, reader: PromptReader, poll: Callable[[], None]) -> None:
        self._decoder, self._reader, self._poll, self._device = decoder, reader, poll, reader.device
        self._prompts: list[Prompt] = []
        """Those that have rows."""
        self._owners: list[int] = []
        """Which of these each row has."""
        self._lengths: list[int] = []
        """How many tokens of its own each row has been given."""
        self._limit = 0
        """How many it may be given."""
        self._shared, self._own = _Memory(), _Memory()

    def join(self, prompts: Sequence[Prompt], copies: Sequence[int], room: int) -> Tensor:
        longest = max(map(len, (*self._prompts, *prompts)))
        self._limit = room - longest
        places = len(set(self._prompts).union(prompts))
        rows = len(self._owners) + sum(copies)
        hidden = []
        for read in self._reader.read(prompts):
            hidden.append(read.hidden)
            if places > self._shared.places or longest != self._shared.columns:
                self._shared.resize(places, longest, len(self._prompts), read.layers)
            if rows > self._own.places:
                columns = max(self._own.columns, min(COLUMNS, self._limit))
                self._own.resize(rows, columns, len(self._owners), read.layers)
            first = len(self._prompts)
            if read.prompts[0] in self._prompts:  # only some of its rows could join before, and it comes alone
                first = self._prompts.index(read.prompts[0])
            else:
                for memory, states in zip(self._shared.layers, read.layers, strict=True):
                    for held, new in zip(memory, states, strict=True):
                        held[first : first + len(read.prompts), :, : new.shape[2]] = new
                self._prompts += read.prompts
            for place in range(len(read.prompts)):
                self._owners += [first + place] * copies[place]
                self._lengths += [0] * copies[place]
            copies = copies[len(read.prompts) :]
        self._arrange()
        return torch.cat(hidden)

    def step(self, tokens: Tensor) -> Tensor:
        self._poll()
        longest = max(self._lengths)
        if longest == self._own.columns:
            columns = min(2 * longest, self._limit)
            self._own.resize(self._own.places, columns, len(self._owners), self._own.layers)
        self._used = longest + 1
        self._column: Tensor | None = None
        if min(self._lengths) < longest:
            self._column = torch.tensor(self._lengths, device=self._device)
        self._bias = self._unseen()
        hidden = self._decoder(tokens, self._positions, self._attend)
        self._positions += 1
        self._lengths = [length + 1 for length in self._lengths]
        return hidden

    def leave(self, ended: Sequence[int]) -> list[int]:
        order, movers, holes = closed_up(len(self._owners), ended)
        self._own.move(movers, holes)
        self._owners, self._lengths = [self._owners[row] for row in order], [self._lengths[row] for row in order]
        gone = sorted(set(range(len(self._prompts))).difference(self._owners))
        if gone:
            left, movers, holes = closed_up(len(self._prompts), gone)
            self._shared.move(movers, holes)
            now = {place: index for index, place in enumerate(left)}
            self._prompts = [self._prompts[place] for place in left]
            self._owners = [now[owner] for owner in self._owners]
        self._arrange()
        return order

    def _arrange(self) -> None:
        """What the next steps need, now that the rows have changed."""
        prompts = torch.tensor([len(prompt) for prompt in self._prompts], dtype=torch.long, device=self._device)
        owners = torch.tensor(self._owners, dtype=torch.long, device=self._device)
        own = torch.tensor(self._lengths, dtype=torch.long, device=self._device)
        self._rows = torch.arange(len(owners), device=self._device)
        self._positions = prompts[owners] + own
        self._longest = max(map(len, self._prompts), default=0)
        self._beyond: Tensor | None = None
        if any(len(prompt) < self._longest for prompt in self._prompts):
            self._beyond = torch.arange(self._longest, device=self._device) >= prompts[owners, None]
        # The rows of a prompt lie together as places [prompts, most]; `slots` says which row is at each, or another's.
        counts = [0] * len(self._prompts)
        slots: list[list[int]] = [[] for _ in self._prompts]
        for row, owner in enumerate(self._owners):
            slots[owner].append(row)
            counts[owner] += 1
        self._most = max(counts, default=0)
        self._slots: Tensor | None = None
        if [row for group in slots for row in group] != list(range(len(owners))) or min(counts, default=0) < self._most:
            place = [0] * len(owners)
            for owner, group in enumerate(slots):
                for index, row in enumerate(group):
                    place[row] = owner * self._most + index
            padded = [group + group[:1] * (self._most - len(group)) for group in slots]
            self._slots = torch.tensor(padded, device=self._device).flatten()
            self._places = torch.tensor(place, device=self._device)

    def _unseen(self) -> Tensor | None:
        """−inf [R, 1, 1, L + C] where a row does not see a token of its prompt or its own, else 0; None for none."""
        if self._beyond is None and self._column is None:
            return None
        bias = torch.zeros(len(self._owners), self._longest + self._used, device=self._device)
        if self._beyond is not None:
            bias[:, : self._longest].masked_fill_(self._beyond, -torch.inf)
        if self._column is not None:
            later = torch.arange(self._used, device=self._device) > self._column[:, None]
            bias[:, self._longest :].masked_fill_(later, -torch.inf)
        return bias[:, None, None]

    def _attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `decoder.Attend`."""
        rows, heads, dim = key.shape
        own = []
        for memory, new in zip(self._own.layers[layer], (key, value), strict=True):
            if self._column is None:
                memory[:rows, :, self._used - 1] = new
            else:
                memory[self._rows, :, self._column] = new
            own.append(memory[:rows, :, : self._used])
        keys, values = (memory[: len(self._prompts), :, : self._longest] for memory in self._shared.layers[layer])
        query = query.view(rows, heads, -1, dim)
        scores = torch.cat(
            [self._apart(self._together(query) @ keys.transpose(-1, -2)), query @ own[0].transpose(-1, -2)], dim=-1
        )
        if self._bias is not None:
            scores += self._bias
        of_prompt, of_own = scores.softmax(dim=-1).split([self._longest, self._used], dim=-1)
        return (self._apart(self._together(of_prompt) @ values) + of_own @ own[1]).reshape(rows, -1)

    def _together(self, states: Tensor) -> Tensor:
        """States [R, heads, Q, …] by prompt [P, heads, most · Q, …]."""
        states = states if self._slots is None else states[self._slots]
        return states.unflatten(0, (-1, self._most)).transpose(1, 2).flatten(2, 3)

    def _apart(self, states: Tensor) -> Tensor:
        """The way back."""
        states = states.unflatten(2, (self._most, -1)).transpose(1, 2).flatten(0, 1)
        return states if self._slots is None else states[self._places]

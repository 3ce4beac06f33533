"""Samples completions from a policy in this process, with the log-probability of every token as it was sampled.

A completion depends on its prompt, its seed and its own settings, not on what is sampled with it. There is one
exception: the size of the batch changes how floating-point sums round. This changes a token only if its random number
is within rounding of the boundary between two tokens.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from holdfast.errors import RunError
from holdfast.model.policy import Policy
from holdfast.sampling.decoding_head import DecodingHead
from holdfast.sampling.draws import Request, TokenDraws
from holdfast.sampling.kv_choice import decoding_batch
from holdfast.sampling.prefill import Prompt

MAX_LOGITS = 2**25
"""Entries of one tensor of logits [rows, vocabulary], at most. The rows of a larger batch go through the output head in
parts, because `batch_tokens` does not count the memory of the logits."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A sampled completion.

    Args:
        ids: its tokens, including the end-of-sequence token if there is one.
        logprobs: log-probability of each token in the distribution from which it was drawn, after temperature and
            truncation. For greedy requests it is at temperature 1 and without truncation.
        truncated: the limit was reached before an end-of-sequence token.
    """

    ids: list[int]
    logprobs: list[float]
    truncated: bool


class CompletionEngine(Protocol):
    """Samples completions: `Sampler` in this process, or the client of a server.

    Requests and completions are plain data without torch. Every field is a number or a list of numbers, so they can be
    sent as JSON.
    """

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, batch_tokens: int) -> list[Completion]:
        """One completion per request, in the order of the requests.

        An engine must return the log-probabilities of its own sampling pass, after temperature and truncation. It must
        return the same completion for the same request and weights at every call.

        Args:
            requests: what is sampled.
            max_new_tokens: longest completion, including its end-of-sequence token.
            batch_tokens: how many tokens may be in memory at once. An engine with its own memory may ignore it.
        """


@dataclass(slots=True)
class _OpenCompletion:
    """A completion in progress."""

    index: int
    request: Request
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class Sampler:
    """Samples from a policy's weights as they are at the moment of the call.

    Equal prompts are read once. This is continuous batching: a row that has ended leaves the batch, and a waiting
    request takes its place.

    Args:
        policy: the model.
        poll: called before every forward pass; may raise to end the sampling.
    """

    def __init__(self, policy: Policy, poll: Callable[[], None] = lambda: None) -> None:
        self.policy = policy
        self._poll = poll

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, batch_tokens: int) -> list[Completion]:
        """See `CompletionEngine.generate`.

        Args:
            requests: what is sampled.
            max_new_tokens: longest completion, including its end-of-sequence token.
            batch_tokens: limits the memory: rows × (longest prompt + max_new_tokens) stays within it. A single row is
                sampled in any case.

        Raises:
            RunError: the model's logits are not finite.
        """
        return _Generation(self.policy, self._poll, requests, max_new_tokens, batch_tokens).run()


class _Generation:
    """One call of `Sampler.generate`."""

    def __init__(
        self, policy: Policy, poll: Callable[[], None], requests: Sequence[Request], max_new_tokens: int, budget: int
    ) -> None:
        self._policy, self._max_new_tokens, self._budget = policy, max_new_tokens, budget
        self._device = policy.device
        self._batch = decoding_batch(policy, poll)
        self._head = DecodingHead(policy)
        self._requests = requests
        self._waiting = _by_prompt(requests)
        self._completions: list[Completion | None] = [None] * len(requests)
        self._rows: list[_OpenCompletion] = []
        self._tokens = torch.empty(0, dtype=torch.long, device=self._device)
        self._draws: list[TokenDraws] = []
        self._rows_per_head = max(1, MAX_LOGITS // policy.head.weight.shape[0])
        """Rows that go through the output head together."""

    def run(self) -> list[Completion]:
        while self._waiting or self._rows:
            new = self._next_prompts()
            if new:
                self._add(new)
            else:
                hidden = self._batch.step(self._tokens)
                self._tokens, ended = self._draw(self._rows, self._draws, hidden)
                if ended:
                    self._remove(ended)
        return [completion for completion in self._completions if completion is not None]

    def _next_prompts(self) -> list[tuple[Prompt, list[int]]]:
        """Prompts that join the batch now, with the indices of their requests; [] if none should join yet.

        As many join as fit. While rows are running, they wait until a quarter of the places is free, because every
        prefill interrupts the running rows.
        """
        if not self._waiting or (self._rows and not self._batch.mixes_lengths):
            return []
        longest = max(len(self._waiting[0][0]), max((len(row.request.prompt_ids) for row in self._rows), default=0))
        places = max(1, self._budget // (longest + self._max_new_tokens))
        waiting = sum(len(indices) for _, indices in self._waiting)
        free = min(places - len(self._rows), waiting)
        if free < 1 or (self._rows and free < waiting and 4 * free < places):
            return []
        chosen: list[tuple[Prompt, list[int]]] = []
        while free and self._waiting:
            prompt, indices = self._waiting.popleft()
            if not self._batch.mixes_lengths and len(prompt) < longest:
                self._waiting.appendleft((prompt, indices))
                break
            chosen.append((prompt, indices[:free]))
            if len(indices) > free:
                self._waiting.appendleft((prompt, indices[free:]))
            free -= len(chosen[-1][1])
        return chosen

    def _add(self, new: list[tuple[Prompt, list[int]]]) -> None:
        """Prefill prompts and draw the first token of each of their rows."""
        prompts, copies = [prompt for prompt, _ in new], [len(indices) for _, indices in new]
        longest = max(len(prompts[0]), max((len(row.request.prompt_ids) for row in self._rows), default=0))
        hidden = self._batch.add(prompts, copies, longest + self._max_new_tokens)
        owners = torch.tensor([i for i, count in enumerate(copies) for _ in range(count)], device=self._device)
        rows = [_OpenCompletion(index, self._requests[index]) for _, indices in new for index in indices]
        tokens, ended = self._draw(rows, self._new_draws(rows), hidden[owners])
        ended = [len(self._rows) + row for row in ended]
        self._rows += rows
        self._tokens = torch.cat([self._tokens, tokens])
        self._remove(ended)

    def _draw(self, rows: list[_OpenCompletion], draws: list[TokenDraws], hidden: Tensor) -> tuple[Tensor, list[int]]:
        """Draw each row's next token from hidden states [R, H]: the tokens [R], and the rows that end with them."""
        parts = [
            part.draw(self._head(states)) for part, states in zip(draws, hidden.split(self._rows_per_head), strict=True)
        ]
        tokens, logprobs = (torch.cat(column) for column in zip(*parts, strict=True))
        # Tokens and log-probabilities are copied to the host together, so that a GPU is waited for once per step.
        # float64 holds every token id exactly.
        ids, values = torch.stack([tokens.double(), logprobs.double()]).tolist()
        if not all(map(math.isfinite, values)):
            raise RunError("the model's logits are not finite", fix="lower train.learning_rate, or use float32")
        ended = []
        for place, (row, token, logprob) in enumerate(zip(rows, map(int, ids), values, strict=True)):
            row.ids.append(token)
            row.logprobs.append(logprob)
            is_end = token in self._policy.eos_ids
            if is_end or len(row.ids) == min(self._max_new_tokens, row.request.max_new_tokens or self._max_new_tokens):
                self._completions[row.index] = Completion(row.ids, row.logprobs, truncated=not is_end)
                ended.append(place)
        return tokens, ended

    def _remove(self, ended: list[int]) -> None:
        """Remove rows that have ended, if any, and set up the draws of the rows that remain."""
        if ended:
            order = self._batch.remove(ended)
            self._rows = [self._rows[row] for row in order]
            self._tokens = self._tokens[torch.tensor(order, dtype=torch.long, device=self._device)]
        self._draws = self._new_draws(self._rows)

    def _new_draws(self, rows: list[_OpenCompletion]) -> list[TokenDraws]:
        parts = [rows[start : start + self._rows_per_head] for start in range(0, len(rows), self._rows_per_head)]
        return [TokenDraws([r.request for r in part], [len(r.ids) for r in part], self._device) for part in parts]


def _by_prompt(requests: Sequence[Request]) -> deque[tuple[Prompt, list[int]]]:
    """The different prompts, the longest first, each with the indices of its requests.

    The longest come first so that a budget that is too large for the memory fails at once, not after hours.
    """
    indices: dict[Prompt, list[int]] = {}
    for index, request in enumerate(requests):
        indices.setdefault(tuple(request.prompt_ids), []).append(index)
    return deque(sorted(indices.items(), key=lambda item: len(item[0]), reverse=True))

"""Sampling completions from a policy, in this process, with the log-probability of every token as it was sampled.

A completion depends on its prompt, its seed and its own settings, and on nothing else that is sampled with it. What is
sampled with it changes only how floating-point sums round, which changes a token where its number falls within
rounding of a boundary between two tokens.
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
from holdfast.sampling.draws import Draws, Request
from holdfast.sampling.kv_choice import rows_for
from holdfast.sampling.prefill import Prompt

LOGIT_ENTRIES = 2**25
"""Entries of one [rows × vocabulary] tensor; more rows take turns at the output head."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled.

    Args:
        ids: tokens, with the end-of-sequence token where it was reached.
        logprobs: log-probability of each token in the distribution that it was drawn from, after temperature and
            truncation; for greedy requests, at temperature 1 and untruncated.
        truncated: the limit came before an end-of-sequence token.
    """

    ids: list[int]
    logprobs: list[float]
    truncated: bool


class CompletionEngine(Protocol):
    """What samples completions: `Sampler` in this process, or the client of a server.

    Plain data in and out, nothing of torch: every field of a `Request` is a number or a list of numbers that travels
    as JSON, and so is every field of a `Completion`.
    """

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, batch_tokens: int) -> list[Completion]:
        """One completion per request, in the order of the requests.

        Args:
            max_new_tokens: longest completion, its end-of-sequence token included.
            batch_tokens: how many tokens may be held at once; an engine with a memory of its own may go by that.

        An engine must give the log-probabilities of its own sampling pass, after temperature and truncation, and the
        same completion for the same request and weights as often as it is asked.
        """


@dataclass(slots=True)
class _Row:
    """A completion in the making."""

    index: int
    request: Request
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class Sampler:
    """Samples from a policy's weights as they are at the moment of the call.

    Prompts that are the same are read once. A row that has ended leaves, and requests that wait take the places of
    those that have left.

    Args:
        poll: called before every pass of the model; may raise to end the sampling.
    """

    def __init__(self, policy: Policy, poll: Callable[[], None] = lambda: None) -> None:
        self.policy = policy
        self._poll = poll

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, batch_tokens: int) -> list[Completion]:
        """See `CompletionEngine.generate`.

        Args:
            batch_tokens: memory's measure: rows × (longest prompt + max_new_tokens) of those that are sampled together
                stays within it, except that a single row always runs.

        Raises:
            RunError: the model's logits are not finite.
        """
        return _Sampling(self.policy, self._poll, requests, max_new_tokens, batch_tokens).run()


class _Sampling:
    """One call of `Sampler.generate`."""

    def __init__(
        self, policy: Policy, poll: Callable[[], None], requests: Sequence[Request], max_new_tokens: int, budget: int
    ) -> None:
        self._policy, self._limit, self._budget = policy, max_new_tokens, budget
        self._device = policy.device
        self._cache = rows_for(policy, poll)
        self._head = DecodingHead(policy)
        self._requests = requests
        self._waiting = _by_prompt(requests)
        self._completions: list[Completion | None] = [None] * len(requests)
        self._rows: list[_Row] = []
        self._tokens = torch.empty(0, dtype=torch.long, device=self._device)
        self._draws: list[Draws] = []
        self._together = max(1, LOGIT_ENTRIES // policy.head.weight.shape[0])
        """Rows whose logits are formed at once."""

    def run(self) -> list[Completion]:
        while self._waiting or self._rows:
            joining = self._admitted()
            if joining:
                self._join(joining)
            else:
                hidden = self._cache.step(self._tokens)
                self._tokens, ended = self._draw(self._rows, self._draws, hidden)
                if ended:
                    self._leave(ended)
        return [completion for completion in self._completions if completion is not None]

    def _admitted(self) -> list[tuple[Prompt, list[int]]]:
        """Prompts whose rows join now, and which requests these are: as many as fit, once that is worth a pass."""
        if not self._waiting or (self._rows and not self._cache.mixed):
            return []
        longest = max(len(self._waiting[0][0]), max((len(row.request.prompt_ids) for row in self._rows), default=0))
        places = max(1, self._budget // (longest + self._limit))
        waiting = sum(len(indices) for _, indices in self._waiting)
        free = min(places - len(self._rows), waiting)
        if free < 1 or (self._rows and free < waiting and 4 * free < places):
            return []
        admitted: list[tuple[Prompt, list[int]]] = []
        while free and self._waiting:
            prompt, indices = self._waiting.popleft()
            if not self._cache.mixed and len(prompt) < longest:
                self._waiting.appendleft((prompt, indices))
                break
            admitted.append((prompt, indices[:free]))
            if len(indices) > free:
                self._waiting.appendleft((prompt, indices[free:]))
            free -= len(admitted[-1][1])
        return admitted

    def _join(self, joining: list[tuple[Prompt, list[int]]]) -> None:
        """Read prompts and draw the first token of each of their rows."""
        prompts, copies = [prompt for prompt, _ in joining], [len(indices) for _, indices in joining]
        longest = max(len(prompts[0]), max((len(row.request.prompt_ids) for row in self._rows), default=0))
        hidden = self._cache.join(prompts, copies, longest + self._limit)
        owners = torch.tensor([i for i, count in enumerate(copies) for _ in range(count)], device=self._device)
        rows = [_Row(index, self._requests[index]) for _, indices in joining for index in indices]
        tokens, ended = self._draw(rows, self._new_draws(rows), hidden[owners])
        ended = [len(self._rows) + row for row in ended]
        self._rows += rows
        self._tokens = torch.cat([self._tokens, tokens])
        self._leave(ended)

    def _draw(self, rows: list[_Row], draws: list[Draws], hidden: Tensor) -> tuple[Tensor, list[int]]:
        """Draw each row's next token from hidden states [R, H]: the tokens [R], and the rows that end with them."""
        parts = [
            part.draw(self._head(states)) for part, states in zip(draws, hidden.split(self._together), strict=True)
        ]
        tokens, logprobs = (torch.cat(column) for column in zip(*parts, strict=True))
        ids, values = torch.stack([tokens.double(), logprobs.double()]).tolist()  # at once: a GPU is waited for once
        if not all(map(math.isfinite, values)):
            raise RunError("the model's logits are not finite", fix="lower train.learning_rate, or use float32")
        ended = []
        for place, (row, token, logprob) in enumerate(zip(rows, map(int, ids), values, strict=True)):
            row.ids.append(token)
            row.logprobs.append(logprob)
            is_end = token in self._policy.eos_ids
            if is_end or len(row.ids) == min(self._limit, row.request.max_new_tokens or self._limit):
                self._completions[row.index] = Completion(row.ids, row.logprobs, truncated=not is_end)
                ended.append(place)
        return tokens, ended

    def _leave(self, ended: list[int]) -> None:
        """Let rows go, and see to what depends on which rows there are."""
        if ended:
            order = self._cache.leave(ended)
            self._rows = [self._rows[row] for row in order]
            self._tokens = self._tokens[torch.tensor(order, dtype=torch.long, device=self._device)]
        self._draws = self._new_draws(self._rows)

    def _new_draws(self, rows: list[_Row]) -> list[Draws]:
        parts = [rows[start : start + self._together] for start in range(0, len(rows), self._together)]
        return [Draws([r.request for r in part], [len(r.ids) for r in part], self._device) for part in parts]


def _by_prompt(requests: Sequence[Request]) -> deque[tuple[Prompt, list[int]]]:
    """Different prompts, each with the requests that have it, the longest first.

    The longest come first so that a budget that is too large for the memory shows at once.
    """
    indices: dict[Prompt, list[int]] = {}
    for index, request in enumerate(requests):
        indices.setdefault(tuple(request.prompt_ids), []).append(index)
    return deque(sorted(indices.items(), key=lambda item: len(item[0]), reverse=True))

"""The machine's peak speed, measured, and the least operations of a step, counted.

The peak is measured with the benchmark's number of threads. A multiplication and an addition are two operations. Only
matrix products are counted, which are nearly all of the work: weights times tokens, attention scores and their products
with values, and the output head.
"""

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.engine.measure import Side
from benchmarks.engine.models import Shape, Tokens, Workload

TOP_K = 100
"""Of the objectives here with a top-k support."""


class Peaks:
    """A side whose run measures the peaks."""

    def __init__(self, device: str, side: int, copied_bytes: int) -> None:
        self.device, self.side, self.copied_bytes = torch.device(device), side, copied_bytes

    def run(self) -> dict[str, float]:
        peaks = {f"{name}_flops": self._matmul(dtype) for name, dtype in _DTYPES.items()}
        source = torch.ones(self.copied_bytes // 4, device=self.device)
        target = torch.empty_like(source)
        seconds = self._best(lambda: target.copy_(source))
        return peaks | {"bytes_per_second": 2 * self.copied_bytes / seconds}

    def _matmul(self, dtype: torch.dtype) -> float:
        a = torch.randn(self.side, self.side, device=self.device).to(dtype)
        b = torch.randn(self.side, self.side, device=self.device).to(dtype)
        out = torch.empty_like(a)
        return 2 * self.side**3 / self._best(lambda: torch.mm(a, b, out=out))

    def _best(self, work: Callable[[], Any], repeats: int = 8) -> float:
        """Seconds of the fastest repeat, which other processes disturbed least."""
        best = float("inf")
        for _ in range(repeats):
            self._synchronize()
            start = time.perf_counter()
            work()
            self._synchronize()
            best = min(best, time.perf_counter() - start)
        return best

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def side(job: dict[str, Any]) -> Side:
    """A job has `device`, `side` of the square matrices and `copied_bytes`."""
    return Peaks(job["device"], job["side_length"], job["copied_bytes"])


def step_operations(method: str, shape: Shape, workload: Workload, tokens: Tokens) -> dict[str, float]:
    """Operations of one step: `needed` at least, and `padded` as the peer computes it.

    Needed: for rows with a signal, every distinct prompt once, and the completions, without padding. The student has a
    forward and a backward pass (together three times the forward), the teacher a forward pass. The output head is
    applied at completion tokens, see `head_products`. Attention is causal.

    Padded: every row has the longest prompt's length, with the same passes. The head is applied at completion tokens.
    In GRPO without Triton (on a CPU) it is applied at every token; its kernel projects in the forward, and again in the
    backward.
    """
    has_teacher = method != "grpo"
    active = [row for row in range(workload.rows) if tokens.signal[row]]
    passes = [(3.0, tokens.prompts)] + ([(1.0, tokens.teacher_prompts)] if has_teacher else [])
    new = workload.new_tokens
    needed = padded = 0.0
    for weight, prompts in passes:
        distinct = {tuple(prompts[row]) for row in active}
        count = sum(map(len, distinct)) + len(active) * new
        pairs = sum(_causal(len(p)) for p in distinct) + sum(
            _causal(len(prompts[r]) + new, len(prompts[r])) for r in active
        )
        needed += weight * (2 * shape.block_weights * count + _attention(shape, pairs))
        width = max(map(len, prompts)) + new
        padded += weight * workload.rows * (2 * shape.block_weights * width + _attention(shape, _causal(width)))
    product = 2 * shape.vocabulary * shape.width
    needed += head_products(method, shape.vocabulary) * product * len(active) * new
    positions = new if has_teacher else max(map(len, tokens.prompts)) + new - 1
    padded += 4 * product * workload.rows * positions
    return {"needed": needed, "padded": padded}


def head_products(objective: str, vocabulary: int) -> float:
    """Number of products of [tokens × width] with the output head that an objective needs, by its name here.

    Three are the student's logits and the gradients of hidden states and weights. The fourth is the teacher's logits.
    With a renormalized top-k, only the student's logits are needed in full: gradients and the teacher's logits are
    needed at the top entries.
    """
    if objective in ("topk", "sdft_topk"):
        return 1 + 3 * min(1.0, TOP_K / vocabulary)
    return 3 if objective in ("policy_gradient", "grpo") else 4


def objective_operations(objective: str, *, tokens: int, vocabulary: int, width: int) -> float:
    """Operations of the objective without the model."""
    return head_products(objective, vocabulary) * 2.0 * tokens * vocabulary * width


def objective_bytes(objective: str, *, tokens: int, vocabulary: int, width: int, itemsize: int) -> float:
    """Bytes that a chunked implementation moves if a chunk of logits does not stay in the cache.

    The student's logits are written, and read for the normalizer or the top entries. A dense gradient reads and
    overwrites them, and two products read it. The teacher's logits are written and read twice. Hidden states, weights
    and their gradients are moved once each.
    """
    passes = {"topk": 2, "policy_gradient": 6}.get(objective, 9)
    return itemsize * (passes * tokens * vocabulary + 3.0 * vocabulary * width + 3.0 * tokens * width)


def _attention(shape: Shape, pairs: float) -> float:
    """Operations of scores and of their product with the values, for so many (query, key) pairs, in all layers."""
    return 4.0 * shape.layers * shape.heads * shape.head_dim * pairs


def _causal(end: int, start: int = 0) -> float:
    """Number of (query, key) pairs of the tokens from `start` to `end`, each with itself and all before it."""
    return (end * (end + 1) - start * (start + 1)) / 2

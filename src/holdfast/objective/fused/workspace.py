"""The memory that all chunks of one loss share.

Every chunk overwrites the buffers of the chunk before. Fresh memory for every chunk would cost a CPU page faults, tens
of megabytes at a time, and would raise the peak whenever old memory is not returned at once. The buffers live as long
as one loss: between two losses the model's forward and backward passes need the memory.
"""

import torch
from torch import Tensor


class Workspace:
    """Buffers of one loss.

    Args:
        vocabulary: V.
        dtype: of log-probabilities and probabilities.
        most_distributions: tokens × slots of the largest chunk.
    """

    def __init__(self, vocabulary: int, dtype: torch.dtype, device: torch.device, most_distributions: int) -> None:
        self._vocabulary = vocabulary
        # Full size at once: this is the largest buffer, and growing it would hold the old and the new one together.
        self._log_probs = torch.empty(most_distributions * vocabulary, dtype=dtype, device=device)
        # Probabilities are formed for a block of tokens at a time. How large the largest block is follows from the
        # chunks, so this buffer grows when a block needs more.
        self._probs = self._log_probs.new_empty(0)
        # One for each dtype of a head: the teacher's and the base's may be in another dtype than the student's.
        self._head_logits: dict[torch.dtype, Tensor] = {}
        self._softcap_slope: Tensor | None = None

    def log_probs(self, tokens: int, slots: int) -> Tensor:
        """[tokens, slots, V]: a chunk's logits, then its log-probabilities, in the end the gradient in its logits."""
        return self._log_probs[: tokens * slots * self._vocabulary].view(tokens, slots, self._vocabulary)

    def probs(self, tokens: int, slots: int) -> Tensor:
        """[tokens, slots, V]: a block's probabilities. Only one block needs them at a time."""
        size = tokens * slots * self._vocabulary
        if len(self._probs) < size:
            self._probs = self._log_probs.new_empty(size)
        return self._probs[:size].view(tokens, slots, self._vocabulary)

    def head_logits(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        """[n, V] as `like`, for a head in a narrower dtype: first its logits, in the end their gradient.

        The two uses never overlap: logits are widened into `log_probs` before anything else reads them.
        """
        self._head_logits[dtype] = _at_least(self._head_logits.get(dtype), like, dtype)
        return self._head_logits[dtype][: len(like)]

    def softcap_slope(self, like: Tensor) -> Tensor:
        """[n, V] as `like`: the derivative of the student's soft cap.

        The projection is the only time that the capped logits are known, and the derivative is needed for the gradient
        at the end of the chunk. So it has separate memory.
        """
        self._softcap_slope = _at_least(self._softcap_slope, like, like.dtype)
        return self._softcap_slope[: len(like)]


def _at_least(buffer: Tensor | None, like: Tensor, dtype: torch.dtype) -> Tensor:
    """The buffer, or a new one if it has fewer rows than `like`."""
    if buffer is not None and len(buffer) >= len(like):
        return buffer
    return torch.empty(like.shape, dtype=dtype, device=like.device)

"""KL from the model at the start to the model now, without keeping the start's weights.

What is kept: the start's sampled answers to some prompts and, at each token of them, the K most probable entries of its
distribution and the mass of all others. KL(start‖now) is then taken over these K + 1 outcomes. By the data-processing
inequality it is never above the KL over the whole vocabulary. It is equal where the vocabulary has at most K entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from holdfast.measure.response import PerToken, per_token
from holdfast.model.logprobs import vocabulary_logprobs
from holdfast.model.policy import Policy

KEPT = 1024
"""Entries of each distribution that are kept: 8 KB a token."""

ESTIMATOR = (
    f"base's own samples at temperature 1; its {KEPT} most probable entries and the rest as one, a lower bound of the "
    "KL over the whole vocabulary and equal to it where that has no more entries; standard error over prompts"
)


@dataclass(frozen=True)
class BaseDistributions:
    """The start's answers to prompts, and its distributions at their tokens.

    Attributes:
        names: suite and item of each prompt [R].
        prompts, completions: token ids [R][·].
        ids: the kept entries [N, K], int32, over all tokens of all completions in order.
        logprobs: their log-probabilities [N, K].
        rest: log of the mass of all other entries [N]; −inf if there are none.
    """

    names: Sequence[tuple[str, str]]
    prompts: Sequence[Sequence[int]]
    completions: Sequence[Sequence[int]]
    ids: Tensor
    logprobs: Tensor
    rest: Tensor

    @classmethod
    def of(
        cls,
        policy: Policy,
        names: Sequence[tuple[str, str]],
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        batch_tokens: int,
    ) -> "BaseDistributions":
        """Keep a policy's distributions on given completions, as the policy is now."""
        kept = min(KEPT, policy.head.weight.shape[0])
        tokens = sum(map(len, completions))
        ids = torch.zeros(tokens, kept, dtype=torch.int32)
        values, rest = torch.zeros(tokens, kept), torch.zeros(tokens)
        # Not packed: packing would replace the attention implementation of a model that its own trainer is training.
        scored = vocabulary_logprobs([policy], prompts, completions, batch_tokens=batch_tokens, may_pack=False)
        for index, (logprobs,) in scored:
            top = logprobs.topk(kept, dim=-1)
            ids[index], values[index] = top.indices.int().cpu(), top.values.float().cpu()
            rest[index] = _rest(logprobs, top.indices).float().cpu()
        return cls(names, prompts, completions, ids, values, rest)

    def kl(self, policy: Policy, batch_tokens: int) -> dict[tuple[str, str], tuple[float, int]]:
        """By prompt: the sum of KL(start‖policy) over its tokens, in nats, and the number of tokens."""
        lengths = [len(completion) for completion in self.completions]
        sums = torch.zeros(sum(lengths), dtype=torch.float64)
        scored = vocabulary_logprobs(
            [policy], self.prompts, self.completions, batch_tokens=batch_tokens, may_pack=False
        )
        for index, (logprobs,) in scored:
            ids = self.ids[index].to(logprobs.device).long()
            p, p_rest = self.logprobs[index].to(logprobs.device), self.rest[index].to(logprobs.device)
            kl = (p.exp() * (p - logprobs.gather(-1, ids))).sum(-1)
            if ids.shape[-1] < logprobs.shape[-1]:
                kl = kl + p_rest.exp() * (p_rest - _rest(logprobs, ids))
            # A KL divergence of 0 is a sum that cancels only up to rounding, and may come out below 0.
            sums[index] = kl.clamp_min(0).double().cpu()
        each = sums.split(lengths) if lengths else []
        return {name: (float(kl.sum()), len(kl)) for name, kl in zip(self.names, each, strict=True)}

    def save(self, path: Path) -> None:
        """Write the distributions. Names, prompts and completions are plain data, which the run directory keeps."""
        save_file({"ids": self.ids, "logprobs": self.logprobs, "rest": self.rest}, path)

    @classmethod
    def load(
        cls,
        path: Path,
        names: Sequence[tuple[str, str]],
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
    ) -> "BaseDistributions":
        """Read what `save` wrote."""
        tensors = load_file(path)
        return cls(names, prompts, completions, tensors["ids"], tensors["logprobs"], tensors["rest"])


def mean_kl(sums: dict[tuple[str, str], tuple[float, int]], suite: str | None = None) -> PerToken | None:
    """Mean per token with its standard error over prompts, of one suite or of all; None if nothing was kept."""
    own = {f"{name}/{prompt}": value for (name, prompt), value in sums.items() if suite in (None, name)}
    if not own:
        return None
    return per_token({k: [kl] for k, (kl, _) in own.items()}, {k: [count] for k, (_, count) in own.items()})


def _rest(logprobs: Tensor, ids: Tensor) -> Tensor:
    """Log of the mass outside the given entries [N, K] of distributions [N, V]."""
    return logprobs.scatter(-1, ids, -torch.inf).logsumexp(-1)

"""KL of the model at the start from the model now, without keeping the first one.

What the first model said to some prompts is kept, and at each of its tokens the K most probable entries of its
distribution with the mass of the rest. KL(base‖model) is then taken over these K + 1 outcomes. By the data-processing
inequality that is never above the KL over the whole vocabulary, and it is the same where the vocabulary has no more
than K entries; the mass that was put together is given with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from holdfast.measure.response import PerToken, per_token
from holdfast.model.hidden_states import padded_states
from holdfast.model.policy import Policy

KEPT = 1024
"""Entries of each distribution that are kept: 8 KB a token."""

LOGIT_BUDGET = 2**25
"""Entries of one [tokens × vocabulary] tensor: 128 MB in float32."""

ESTIMATOR = (
    f"base's own samples at temperature 1; its {KEPT} most probable entries and the rest as one, a lower bound of the "
    "KL over the whole vocabulary and equal to it where that has no more entries; standard error over prompts"
)


@dataclass(frozen=True)
class KeptBase:
    """The first model's answers to prompts, and its distributions at their tokens.

    Attributes:
        names: of the prompts [R], the suite first.
        prompts, completions: token ids [R][·].
        ids: the kept entries [N, K], over all tokens of all completions.
        logprobs: of them [N, K].
        rest: log of the mass of all others [N]; −inf where there are none.
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
    ) -> "KeptBase":
        """What a policy says of given completions now."""
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for logits in _logits(policy, prompts, completions, batch_tokens):
            logprobs = logits.log_softmax(-1)
            top = logprobs.topk(min(KEPT, logprobs.shape[-1]), dim=-1)
            parts.append((top.indices.int().cpu(), top.values.cpu(), _rest(logprobs, top.indices).cpu()))
        if not parts:
            empty = torch.zeros(0, 1)
            return cls(names, prompts, completions, empty.int(), empty, torch.zeros(0))
        ids, values, rest = (torch.cat(column) for column in zip(*parts, strict=True))
        return cls(names, prompts, completions, ids, values, rest)

    def kl(self, policy: Policy, batch_tokens: int) -> dict[tuple[str, str], tuple[float, int]]:
        """By prompt: the sum of KL(base‖policy) over its tokens, in nats, and their number."""
        sums: list[Tensor] = []
        start = 0
        for logits in _logits(policy, self.prompts, self.completions, batch_tokens):
            part = slice(start, start + len(logits))
            start += len(logits)
            ids = self.ids[part].to(logits.device).long()
            p, p_rest = self.logprobs[part].to(logits.device), self.rest[part].to(logits.device)
            logprobs = logits.log_softmax(-1)
            kl = (p.exp() * (p - logprobs.gather(-1, ids))).sum(-1)
            if ids.shape[-1] < logprobs.shape[-1]:
                kl = kl + p_rest.exp() * (p_rest - _rest(logprobs, ids))
            sums.append(kl.clamp_min(0).double().cpu())
        lengths = [len(completion) for completion in self.completions]
        each = torch.cat(sums).split(lengths) if sums else []
        return {name: (float(kl.sum()), len(kl)) for name, kl in zip(self.names, each, strict=True)}

    def save(self, path: Path) -> None:
        """Write the distributions; names, prompts and completions are plain data and kept elsewhere."""
        save_file({"ids": self.ids, "logprobs": self.logprobs, "rest": self.rest}, path)

    @classmethod
    def load(
        cls,
        path: Path,
        names: Sequence[tuple[str, str]],
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
    ) -> "KeptBase":
        """What `save` has written."""
        held = load_file(path)
        return cls(names, prompts, completions, held["ids"], held["logprobs"], held["rest"])


def mean_kl(sums: dict[tuple[str, str], tuple[float, int]], suite: str | None = None) -> PerToken | None:
    """Mean per token with its standard error over prompts, of one suite's or of all; None where nothing was kept."""
    own = {f"{name}/{prompt}": value for (name, prompt), value in sums.items() if suite in (None, name)}
    if not own:
        return None
    return per_token({k: [kl] for k, (kl, _) in own.items()}, {k: [count] for k, (_, count) in own.items()})


def _rest(logprobs: Tensor, ids: Tensor) -> Tensor:
    """Log of the mass outside of some entries [N, K] of distributions [N, V]."""
    return logprobs.scatter(-1, ids, -torch.inf).logsumexp(-1)


def _logits(
    policy: Policy, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], batch_tokens: int
) -> Iterator[Tensor]:
    """Logits [n, V], in float32, at all tokens of all completions in order, in parts."""
    per_part = max(1, LOGIT_BUDGET // policy.head.weight.shape[0])
    start = 0
    while start < len(prompts):
        end, longest = start, 0
        while end < len(prompts):
            longest = max(longest, len(prompts[end]) + len(completions[end]))
            if end > start and longest * (end + 1 - start) > batch_tokens:
                break
            end += 1
        rows = (prompts[start:end], completions[start:end], [range(len(c)) for c in completions[start:end]])
        for states in padded_states(policy, *rows).split(per_part):
            yield policy.logits(states).float()
        start = end

"""How far the policy's next-token distributions are from the base's, on sampled answers to a set's first prompts."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import torch

from holdfast import stop
from holdfast.config.settings import EvalSettings
from holdfast.data.seeds import derive_seed
from holdfast.evaluate.divergences import Divergences
from holdfast.measure.response import PerToken, per_token
from holdfast.model.base import Base
from holdfast.model.hidden_states import loss_token_logits
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.model.shard import whole
from holdfast.sampling.sampler import Completion, Request, Sampler

LOGIT_BUDGET = 2**27
"""Entries of one [tokens × vocabulary] tensor: half a gigabyte in float32; a single row always runs."""

Prompts = Mapping[str, Sequence[list[int]]]
"""Token ids of the first prompts of some sets, by set."""

Place = tuple[str, int, list[int]]
"""A set, the number of a prompt in it, and its token ids."""

Generate = Callable[[Sampler, Sequence[Request]], list[Completion]]


class AgainstBase:
    """Divergences of the base (A) and the policy (B), exact over the vocabulary at every token of sampled answers.

    Answers are sampled at temperature 1, one to each prompt. The base's are always the same ones, and kept; the
    random numbers of the policy's are those of the base's, so that an unchanged policy answers alike. Several
    processes take a share of the prompts each, and all have the whole result.
    """

    def __init__(self, policy: Policy, base: Base, settings: EvalSettings, generate: Generate) -> None:
        self.policy, self.base, self.settings, self._generate = policy, base, settings, generate
        self.world = Processes.current()
        self._answers: dict[tuple[str, int], list[int]] = {}

    def on_base_answers(self, prompts: Prompts) -> dict[str, list[Divergences]]:
        """On the base's answers to the first prompts of some sets."""

        def answered(own: Sequence[Place]) -> list[list[int]]:
            new = [place for place in own if place[:2] not in self._answers]
            with self.base.scoring() as base:
                self._answers |= {p[:2]: ids for p, ids in zip(new, self._sampled(base, new), strict=True)}
            return [self._answers[place[:2]] for place in own]

        return self._measured(prompts, answered)

    def on_own_answers(self, prompts: Prompts) -> dict[str, list[Divergences]]:
        """On the policy's own answers, sampled now."""
        return self._measured(prompts, lambda own: self._sampled(self.policy, own))

    def _sampled(self, policy: Policy, own: Sequence[Place]) -> list[list[int]]:
        requests = [Request(ids, seed=derive_seed("kl_to_base", name, i), temperature=1.0) for name, i, ids in own]
        return [c.ids for c in self._generate(Sampler(policy, stop.poll), requests)] if requests else []

    def _measured(
        self, prompts: Prompts, answers: Callable[[Sequence[Place]], list[list[int]]]
    ) -> dict[str, list[Divergences]]:
        """By set. All sets are sampled and scored together: a set by itself fills no batch."""
        places = [(name, i, ids) for name, own in prompts.items() for i, ids in enumerate(own)]
        mine = self.world.share(places)

        def compared() -> list[Divergences]:
            return self._divergences([ids for _, _, ids in mine], answers(mine)) if mine else []

        with whole(self.base.copy or self.policy), whole(self.policy):
            found = iter([each for part in self.world.each(compared) for each in part])
        return {name: list(islice(found, len(own))) for name, own in prompts.items()}

    def _divergences(self, prompts: Sequence[list[int]], completions: Sequence[list[int]]) -> list[Divergences]:
        found: list[Divergences] = []
        budget = max(1, self.settings.batch_tokens // 4)
        widest = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
        vocabulary = self.policy.head.weight.shape[0]
        per_batch = max(1, min(budget // widest, LOGIT_BUDGET // (max(map(len, completions)) * vocabulary)))
        for start in range(0, len(prompts), per_batch):
            stop.poll()
            part = slice(start, start + per_batch)
            lengths = [len(c) for c in completions[part]]
            rows = (prompts[part], completions[part], [range(length) for length in lengths])
            with self.base.scoring() as base:
                p = loss_token_logits(base, *rows).float().log_softmax(-1)
            with torch.no_grad():
                q = loss_token_logits(self.policy, *rows).float().log_softmax(-1)
            # Two numbers that should cancel do so only up to rounding, hence the bound.
            kl = [(x.exp() * (x - y)).sum(-1).clamp_min(0) for x, y in ((p, q), (q, p))]
            entropy = [-(x.exp() * x).sum(-1) for x in (p, q)]
            sums = torch.stack([*kl, *entropy]).double().cpu()
            for length, each in zip(lengths, sums.split(lengths, dim=1), strict=True):
                found.append(Divergences(length, *each.sum(1).tolist()))
        return found


def mean_per_token(found: Sequence[Divergences], field: str) -> PerToken:
    """A field of some answers per token, with its standard error over prompts."""
    return per_token(
        {str(i): [getattr(each, field)] for i, each in enumerate(found)},
        {str(i): [each.tokens] for i, each in enumerate(found)},
    )

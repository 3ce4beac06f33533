"""Distance of the policy's next-token distributions from the base's, on sampled answers to sets' first prompts."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice

from holdfast import stop
from holdfast.config.settings import EvalSettings
from holdfast.data.seeds import derive_seed
from holdfast.evaluation.divergences import Divergences, divergences
from holdfast.measure.response import PerToken, per_token
from holdfast.model.base import Base
from holdfast.model.logprobs import Scorer
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.model.shard import whole
from holdfast.sampling.sampler import Completion, Request, Sampler

PromptIds = Mapping[str, Sequence[list[int]]]
"""Token ids of the first prompts of some sets, by set."""

PromptOfSet = tuple[str, int, list[int]]
"""A set, the number of a prompt in it, and the prompt's token ids."""

Generate = Callable[[Sampler, Sequence[Request]], list[Completion]]


class AgainstBase:
    """Divergences of the base (A) and the policy (B), exact over the vocabulary at every token of sampled answers.

    One answer to each prompt is sampled at temperature 1. The base's answers are sampled once and kept. The policy uses
    the same random numbers as the base, so an unchanged policy gives the base's answers. Several processes take a share
    of the prompts each, and all return the whole result.
    """

    def __init__(self, policy: Policy, base: Base, settings: EvalSettings, generate: Generate) -> None:
        self.policy, self.base, self.settings, self._generate = policy, base, settings, generate
        self.world = Processes.current()
        self._base_answers: dict[tuple[str, int], list[int]] = {}

    def on_base_answers(self, prompts: PromptIds) -> dict[str, list[Divergences]]:
        """By set, one for each prompt: divergences on the base's answers."""

        def answers(own: Sequence[PromptOfSet]) -> list[list[int]]:
            new = [prompt for prompt in own if prompt[:2] not in self._base_answers]
            with self.base.scoring() as base:
                self._base_answers |= {p[:2]: ids for p, ids in zip(new, self._sample(base, new), strict=True)}
            return [self._base_answers[prompt[:2]] for prompt in own]

        return self._compare(prompts, answers)

    def on_own_answers(self, prompts: PromptIds) -> dict[str, list[Divergences]]:
        """By set, one for each prompt: divergences on answers that the policy samples now."""
        return self._compare(prompts, lambda own: self._sample(self.policy, own))

    def on_given_answers(
        self, answers: Mapping[str, Sequence[tuple[list[int], list[int]]]]
    ) -> dict[str, list[Divergences]]:
        """By set, one for each answer: divergences on answers that are given, such as demonstrations.

        Args:
            answers: token ids of prompt and answer, by set.
        """
        prompts = {name: [prompt for prompt, _ in own] for name, own in answers.items()}
        return self._compare(prompts, lambda own: [answers[name][i][1] for name, i, _ in own])

    def _sample(self, policy: Policy, own: Sequence[PromptOfSet]) -> list[list[int]]:
        requests = [Request(ids, seed=derive_seed("kl_to_base", name, i), temperature=1.0) for name, i, ids in own]
        return [c.ids for c in self._generate(Sampler(policy, stop.poll), requests)] if requests else []

    def _compare(
        self, prompts: PromptIds, answers: Callable[[Sequence[PromptOfSet]], list[list[int]]]
    ) -> dict[str, list[Divergences]]:
        # All sets together, because one set alone does not fill a batch.
        every = [(name, i, ids) for name, own in prompts.items() for i, ids in enumerate(own)]
        share = self.world.share(every)

        def compared() -> list[Divergences]:
            return self._divergences([ids for _, _, ids in share], answers(share)) if share else []

        with whole(self.base.copy or self.policy), whole(self.policy):
            results = iter([each for part in self.world.each(compared) for each in part])
        return {name: list(islice(results, len(own))) for name, own in prompts.items()}

    def _divergences(self, prompts: Sequence[list[int]], completions: Sequence[list[int]]) -> list[Divergences]:
        with ExitStack() as stack:
            # A copy of the base comes to the policy's device once for all batches, which may mean moving every weight.
            # Under LoRA the base is the policy without its adapter, so base and policy take turns within a batch.
            base: Scorer = self.base.scoring if self.base.copy is None else stack.enter_context(self.base.scoring())
            # The setting is a budget for sampling, where a token costs its keys and values. Here two models hold the
            # activations of every token of a forward pass.
            budget = max(1, self.settings.batch_tokens // 4)
            return divergences(base, self.policy, prompts, completions, batch_tokens=budget)


def mean_per_token(results: Sequence[Divergences], field: str) -> PerToken:
    """A field of some answers per token, with its standard error over prompts."""
    return per_token(
        {str(i): [getattr(each, field)] for i, each in enumerate(results)},
        {str(i): [each.tokens] for i, each in enumerate(results)},
    )

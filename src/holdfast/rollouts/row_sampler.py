"""From prompts to judged rows: samples completions, judges them and makes rows of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from holdfast import stop
from holdfast.config.settings import TrainSettings
from holdfast.data.rows import Row
from holdfast.data.seeds import derive_seed
from holdfast.model.base import Base
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.model.shard import whole
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.rollouts.prompt_pool import TaskPrompt
from holdfast.sampling.complete import complete
from holdfast.sampling.episodes import Episode
from holdfast.sampling.sampler import CompletionEngine, Request, Sampler


class RowSampler:
    """Samples rows from the student or from the base.

    Several processes sample and judge a share each. Afterwards every process has all rows.

    Args:
        policy: the student.
        engine: samples from the student.
        base: the frozen base, for recipes that sample from it; else None.
        spec: temperature, truncation, and who samples by default.
        train: limits of lengths and memory.
        seed: the run's seed.
    """

    def __init__(
        self,
        policy: Policy,
        engine: CompletionEngine,
        base: Base | None,
        spec: RolloutSpec,
        train: TrainSettings,
        seed: int,
    ) -> None:
        self._policy, self._engine, self._base = policy, engine, base
        self._spec, self._train, self._seed = spec, train, seed
        self._world = Processes.current()

    def request(self, prompt_ids: Sequence[int], seed: int) -> Request:
        """One completion, sampled with the recipe's temperature, top-k and top-p."""
        spec = self._spec
        return Request(prompt_ids, seed=seed, temperature=spec.temperature, top_k=spec.top_k, top_p=spec.top_p)

    def rows(
        self,
        prompts: Sequence[TaskPrompt],
        requests: Sequence[Request],
        source: Literal["student", "base"] | None = None,
    ) -> list[Row]:
        """One judged row for each request, in the order of the requests.

        A row has the prompt tokens of `prompts`, not those of its request: a request may show the model more than the
        row is trained with, such as a hint.

        Args:
            prompts: for each request, the task that judges it and the prompt of its row.
            requests: requests of one prompt should be neighbors, because then they share the prompt's cache.
            source: who samples; by default as the recipe says.
        """
        # Each process takes neighboring requests, so that most of them share their prompts.
        mine = self._world.share(range(len(requests)))
        my_owners = [(task, prompt.example) for task, prompt in (prompts[i] for i in mine)]
        my_requests = [requests[i] for i in mine]
        max_new_tokens = self._train.max_completion_length
        # Sampling keeps no activations for gradients, so that more tokens fit than in a training micro-batch.
        batch_tokens = 4 * self._train.micro_batch_tokens
        with self._sampling(source or self._spec.source) as engine:
            chat_format = self._policy.chat_format
            parts = self._world.each(
                lambda: complete(
                    engine,
                    chat_format,
                    my_requests,
                    my_owners,
                    max_new_tokens=max_new_tokens,
                    batch_tokens=batch_tokens,
                )
            )
        completed = [each for part in parts for each in part]
        return [
            Row(
                example=prompt.example,
                prompt_ids=prompt.prompt_ids,
                completion_ids=completion.ids,
                completion=text,
                sampled_logprobs=completion.logprobs,
                seed=request.seed,
                tool_mask=completion.tool_mask if isinstance(completion, Episode) else None,
                truncated=completion.truncated,
                verdict=verdict,
            )
            for (_, prompt), request, (completion, text, verdict) in zip(prompts, requests, completed, strict=True)
        ]

    def unjudged(
        self, prompts: Sequence[TaskPrompt], source: Literal["student", "base"], *name: int | str
    ) -> list[Row]:
        """One row for each prompt, sampled at temperature 1 without truncation, and without a verdict.

        Args:
            prompts: what is completed.
            source: who samples.
            name: of the random draws.
        """
        requests = [
            Request(prompt.prompt_ids, seed=derive_seed(self._seed, *name, place), temperature=1.0)
            for place, (_, prompt) in enumerate(prompts)
        ]
        rows = self.rows([(replace(task, verifier=None), prompt) for task, prompt in prompts], requests, source)
        for row in rows:
            row.verdict = None  # an environment judges its episodes without being asked
        return rows

    @contextmanager
    def _sampling(self, source: str) -> Iterator[CompletionEngine]:
        """The engine of a source. Within the context the weights are whole on every process."""
        if source == "student":
            with whole(self._policy):
                yield self._engine
            return
        assert self._base is not None
        with whole(self._base.copy or self._policy), self._base.scoring() as base:
            yield Sampler(base, stop.poll)

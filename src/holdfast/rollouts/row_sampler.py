"""From prompts to judged rows: samples completions, judges them and makes rows of them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Literal, Protocol

from holdfast import stop
from holdfast.config.settings import TrainSettings
from holdfast.data.rows import Row
from holdfast.data.seeds import derive_seed
from holdfast.model.logprobs import completion_logprobs
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.model.shard import whole
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.rollouts.prompt_pool import TaskPrompt
from holdfast.sampling.complete import complete
from holdfast.sampling.episodes import Episode
from holdfast.sampling.sampler import CompletionEngine, Request, Sampler


class FrozenModel(Protocol):
    """A model that does not learn: the base, or a teacher."""

    copy: Policy | None
    """Its own weights; None if they are the student's, perhaps with another adapter."""

    def scoring(self) -> AbstractContextManager[Policy]:
        """Within it, the policy that is this model, without gradients."""


SampledModel = Literal["student", "base", "teacher"]
"""Who can be sampled from."""


class RowSampler:
    """Samples rows from the student, from the base or from a teacher.

    Several processes sample and judge a share each. Afterwards every process has all rows.

    Args:
        policy: the student.
        engine: samples from the student.
        frozen: the models besides the student that the recipe samples from or that score its samples: `base`,
            `teacher`.
        spec: temperature, truncation, and who samples by default.
        train: limits of lengths and memory.
        seed: the run's seed.
    """

    def __init__(
        self,
        policy: Policy,
        engine: CompletionEngine,
        frozen: Mapping[str, FrozenModel],
        spec: RolloutSpec,
        train: TrainSettings,
        seed: int,
    ) -> None:
        self._policy, self._engine, self._frozen = policy, engine, frozen
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
        source: SampledModel | None = None,
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
                    workers=self._train.verifier_workers,
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

    def unjudged(self, prompts: Sequence[TaskPrompt], source: SampledModel, *name: int | str) -> list[Row]:
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
        model = self._frozen[source]
        with whole(model.copy or self._policy), model.scoring() as policy:
            yield Sampler(policy, stop.poll)

    def score(self, rows: Sequence[Row]) -> None:
        """Store the teacher's log-probabilities of the rows' own tokens, with the rows' prompts."""
        with self._frozen["teacher"].scoring() as policy:
            scored = completion_logprobs(
                policy, rows, temperature=self._spec.temperature, batch_tokens=self._train.micro_batch_tokens
            )
        for row, logprobs in zip(rows, scored, strict=True):
            row.teacher_logprobs = logprobs

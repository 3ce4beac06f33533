"""The rows of one rollout batch: prompts drawn for a step, completed by demonstrations, student or base, judged."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice

from holdfast import stop
from holdfast.config import TrainSettings
from holdfast.contexts import actions_prompt
from holdfast.errors import DataError
from holdfast.methods.base import Recipe
from holdfast.rollouts.episodes import Episode, play
from holdfast.rollouts.guidance import Hinted, guide_failing
from holdfast.rollouts.guides import GuidePool
from holdfast.rollouts.prompts import PromptTooLong, check_fits, encode_completion, encode_prompt
from holdfast.rollouts.rows import Group, Row
from holdfast.rollouts.sampler import Completion, CompletionEngine, Request, Sampler
from holdfast.rollouts.training_prompts import TrainingPrompt, demonstrated, longest_reprompt
from holdfast.seeds import derive_seed, numpy_rng
from holdfast.tasks.base import Example, Task, Verdict
from holdfast.teachers import Base
from holdfast.train.policy import Policy
from holdfast.train.shard import whole
from holdfast.train.world import World


class Collector:
    """Makes the rollout batches of a run; what it makes is named by (seed, task, batch) alone.

    Several processes sample and judge a share each, and all have all rows.

    Args:
        engine: samples from the student.
        base: samples where the recipe says so, in this process; may be None for other recipes.
    """

    def __init__(
        self,
        policy: Policy,
        engine: CompletionEngine,
        recipe: Recipe,
        train: TrainSettings,
        seed: int,
        base: Base | None = None,
    ) -> None:
        self.policy, self.engine, self.recipe, self.train, self.seed = policy, engine, recipe, train, seed
        self.base = base
        self.spec = recipe.rollouts()
        self.world = World.current()
        self.dropped: dict[str, int] = {}
        """Training examples left out of each task because they do not fit."""
        self.max_reprompt_length = longest_reprompt(policy, train)
        self.guidance = recipe.guidance()
        self.guides: GuidePool | None = None
        """What groups bring along, from when the run has gone back; see `holdfast.scout`."""
        self._told = False
        self._prompts: dict[str, list[TrainingPrompt]] = {}
        self._tasks: dict[str, Task] = {}

    def prepare(self, task: Task) -> None:
        """Encode a task's training prompts; those that do not fit are refused, or dropped and counted.

        Where every teacher prompt is known before sampling, it is checked too.

        Raises:
            DataError: a prompt does not fit, or none is left.
        """
        kept: list[TrainingPrompt] = []
        for example in task.train:
            try:
                kept.append(self._encode(example, task))
            except PromptTooLong:
                if self.train.long_prompts == "refuse":
                    raise
        self.dropped[task.name] = len(task.train) - len(kept)
        if not kept:
            raise DataError(
                f"none of the {len(task.train)} training examples fits",
                where=f"task {task.name!r}",
                mend="raise train.max_prompt_length or train.max_completion_length",
            )
        self._prompts[task.name] = kept
        self._tasks[task.name] = task

    def _encode(self, example: Example, task: Task) -> TrainingPrompt:
        tokenizer, kwargs = self.policy.tokenizer, self.policy.chat_template_kwargs
        where = f"{task.name}: {example.id}"
        prompt_ids = encode_prompt(tokenizer, example.messages, kwargs, where=where)
        check_fits(example.id, prompt_ids, self.train.max_prompt_length)
        if self.spec.is_sampled:
            probes = [Row(example, prompt_ids, [], sampled_logprobs=[])]
            if self.spec.with_demonstration:
                probes.append(Row(example, prompt_ids, []))
            if self.recipe.context_is_known:
                self.recipe.annotate([Group(example, probes)])
            for probe in probes:
                if probe.teacher_messages is not None:
                    self._encode_teacher_prompt(probe)
            if self.guidance is not None and example.actions is not None:
                self._hint_ids(example, len(example.actions))
            if not self.spec.with_demonstration:
                return TrainingPrompt(example, prompt_ids)
        ids, mask, text = demonstrated(self.policy.speech, task, example)
        if len(ids) > self.train.max_completion_length:
            raise PromptTooLong(
                example.id, len(ids), self.train.max_completion_length, "demonstration", "max_completion_length"
            )
        return TrainingPrompt(example, prompt_ids, ids, mask, text)

    def collect(
        self, task: Task, stage: int, batch: int, recipe: Recipe | None = None
    ) -> tuple[list[Group], dict[str, float]]:
        """The annotated rows of rollout batch `batch` (from 0) of a stage, and what the recipe says about them.

        Args:
            recipe: as controllers have set it; by default as it is configured.
        """
        prompts = self._draw(task.name, batch)
        if not self.spec.is_sampled:
            groups = [Group(p.example, [self._demonstrated(p, stage, batch, i)]) for i, p in enumerate(prompts)]
            for _, earlier in self._replayed(stage, batch):
                row = self._demonstrated(earlier, stage, batch, len(groups))
                row.replayed = True
                groups.append(Group(row.example, [row]))
        else:
            asked = [(task, prompt) for prompt in prompts] + self._replayed(stage, batch)
            groups = self._sampled(asked, stage, batch)
            if self.guidance is not None:
                guide_failing(groups[: len(prompts)], self.guidance, partial(self._hinted, asked, stage, batch))
            for row in (row for group in groups[len(prompts) :] for row in group.rows):
                row.replayed = True
            if self.spec.with_demonstration:
                for place, (group, prompt) in enumerate(zip(groups, prompts, strict=False)):
                    if self._brings_demonstration(batch * len(prompts) + place):
                        group.rows.append(self._demonstrated(prompt, stage, batch, place))
            if self.guides is not None:
                self._bring_guides(groups[: len(prompts)], stage, batch)
        return groups, self._annotate(groups, recipe or self.recipe)

    def _brings_demonstration(self, position: int) -> bool:
        """Whether the prompt drawn at a position of the stage is one of the share; to the prompt over a stage."""
        share = self.spec.demonstration_share
        return int((position + 1) * share) > int(position * share)

    def _annotate(self, groups: Sequence[Group], recipe: Recipe) -> dict[str, float]:
        """Annotate rows and encode their teacher prompts; returns what there is to say about it."""
        numbers, objective = dict(recipe.annotate(groups)), recipe.objective()
        without = 0
        for row in (row for group in groups for row in group.rows):
            if row.teacher_messages is None:
                continue
            try:
                self._encode_teacher_prompt(row)
            except PromptTooLong as error:
                # Known only now, in mid-run: the row goes without what the teacher says, and the user is told.
                if not self._told:
                    warnings.warn(f"{error.where}: {error.what}; such rows go without a teacher", stacklevel=2)
                self._told = True
                row.div = 0.0
                # A weight or an advantage that follows from the teacher does not exist without one.
                row.excluded |= objective.asks_teacher(ce=row.ce, div=0.0, advantage=row.advantage)
                without += 1
        if self.recipe.teacher() is not None:
            numbers["teacher_prompts_dropped"] = float(without)
        return numbers

    def kept_ids(self, task: str) -> frozenset[str]:
        """Training examples of a prepared task that fit."""
        return frozenset(prompt.example.id for prompt in self._prompts[task])

    def demonstrations(self, task: Task, count: int = 128) -> list[list[int]]:
        """The first demonstrations of a task in tokens, where it has any; the student need not learn from them."""
        policy = self.policy
        known = [(e.demonstration, e.id) for e in task.train[:count] if e.demonstration is not None]
        return [
            encode_completion(policy.tokenizer, text, policy.eos_ids, policy.chat_template_kwargs, where=where)
            for text, where in known
        ]

    def longest_prompt(self, task: str) -> int:
        """Tokens in the longest training prompt of a prepared task."""
        return max(len(prompt.prompt_ids) for prompt in self._prompts[task])

    def _draw(self, task: str, batch: int) -> list[TrainingPrompt]:
        """The prompts of a batch: the task's examples in one seeded shuffle after another, each once per epoch."""
        pool = self._prompts[task]
        first = batch * self.train.prompts_per_step
        drawn: list[TrainingPrompt] = []
        shuffles: dict[int, list[int]] = {}
        for position in range(first, first + self.train.prompts_per_step):
            epoch, place = divmod(position, len(pool))
            if epoch not in shuffles:
                shuffles[epoch] = numpy_rng(self.seed, "prompts", task, epoch).permutation(len(pool)).tolist()
            drawn.append(pool[shuffles[epoch][place]])
        return drawn

    def _replayed(self, stage: int, batch: int) -> list[tuple[Task, TrainingPrompt]]:
        """Prompts of earlier tasks: from buffers that the run's seed and the tasks' names decide, like draws.

        Over batches they are `replay_ratio` of the stage's own prompts, to the prompt.
        """
        earlier = list(self._prompts)[: max(0, stage - 1)]  # prepared in the order of stages
        pool = [(self._tasks[name], prompt) for name in earlier for prompt in self._buffer(name)]
        rate = self.spec.replay_ratio * self.train.prompts_per_step
        drawn: list[tuple[Task, TrainingPrompt]] = []
        for position in range(int(batch * rate), int((batch + 1) * rate)) if pool else ():
            epoch, place = divmod(position, len(pool))
            order = numpy_rng(self.seed, "replay", stage, epoch).permutation(len(pool))
            drawn.append(pool[order[place]])
        return drawn

    def _buffer(self, task: str) -> list[TrainingPrompt]:
        pool = self._prompts[task]
        kept = numpy_rng(self.seed, "replay buffer", task).permutation(len(pool))[: self.spec.replay_buffer_size]
        return [pool[index] for index in kept]

    def _demonstrated(self, prompt: TrainingPrompt, stage: int, batch: int, place: int) -> Row:
        assert prompt.demonstration_ids is not None
        return Row(
            example=prompt.example,
            prompt_ids=prompt.prompt_ids,
            completion_ids=prompt.demonstration_ids,
            completion=prompt.demonstration,
            seed=derive_seed(self.seed, "demonstration", stage, batch, place),
            tool_mask=prompt.demonstration_mask,
        )

    def _sampled(self, asked: Sequence[tuple[Task, TrainingPrompt]], stage: int, batch: int) -> list[Group]:
        """A group of samples for each prompt, judged by its own task."""
        count = self.spec.num_generations
        requests = [
            self.request(prompt.prompt_ids, derive_seed(self.seed, "rollout", stage, batch, place, generation))
            for place, (_, prompt) in enumerate(asked)
            for generation in range(count)
        ]
        rows = self.answered([each for each in asked for _ in range(count)], requests)
        return [Group(prompt.example, rows[i * count : (i + 1) * count]) for i, (_, prompt) in enumerate(asked)]

    def request(self, prompt_ids: Sequence[int], seed: int) -> Request:
        """One completion as the recipe samples them."""
        spec = self.spec
        return Request(prompt_ids, seed=seed, temperature=spec.temperature, top_k=spec.top_k, top_p=spec.top_p)

    def answered(self, asked: Sequence[tuple[Task, TrainingPrompt]], requests: Sequence[Request]) -> list[Row]:
        """A row for each request: the completion of what it asks, judged, as one of the training prompt beside it.

        Several processes sample a share each, and all have all rows. Requests of one prompt stand together best.
        """
        # Each process samples and judges neighbouring requests, so that most of them share their prompts.
        mine = self.world.share(range(len(requests)))
        owners = [(task, prompt.example) for task, prompt in (asked[i] for i in mine)]
        with self._sampling() as engine:
            parts = self.world.each(lambda: self._completed(engine, [requests[i] for i in mine], owners))
        completed = [each for part in parts for each in part]
        return [
            Row(
                example=prompt.example,
                prompt_ids=prompt.prompt_ids,
                completion_ids=said.ids,
                completion=text,
                sampled_logprobs=said.logprobs,
                seed=request.seed,
                tool_mask=said.tool_mask if isinstance(said, Episode) else None,
                truncated=said.truncated,
                verdict=verdict,
            )
            for (_, prompt), request, (said, text, verdict) in zip(asked, requests, completed, strict=True)
        ]

    def _hinted(
        self, asked: Sequence[tuple[Task, TrainingPrompt]], stage: int, batch: int, wanted: Sequence[Hinted]
    ) -> list[list[Row]]:
        """Rollouts of some prompts of the batch with the first of their actions shown."""
        owners, requests = [], []
        for each in wanted:
            _, prompt = asked[each.place]
            ids = self._hint_ids(prompt.example, each.actions)
            name = ("hint", stage, batch, each.place, each.purpose, each.actions)
            owners += [asked[each.place]] * each.count
            requests += [self.request(ids, derive_seed(self.seed, *name, i)) for i in range(each.count)]
        rows = iter(self.answered(owners, requests))
        return [list(islice(rows, each.count)) for each in wanted]

    def _hint_ids(self, example: Example, count: int) -> list[int]:
        assert self.guidance is not None
        assert example.actions is not None  # guaranteed by the recipe's needs
        messages = actions_prompt(example.messages, example.actions[:count], self.guidance.template)
        ids = encode_prompt(
            self.policy.tokenizer, messages, self.policy.chat_template_kwargs, where=f"hint of {example.id}"
        )
        check_fits(example.id, ids, self.max_reprompt_length, "prompt with a hint", "max_reprompt_length")
        return ids

    def prompts(self, task: str) -> Sequence[TrainingPrompt]:
        """All training prompts of a prepared task."""
        return self._prompts[task]

    def upcoming(self, task: str, first: int, last: int) -> list[TrainingPrompt]:
        """The prompts of rollout batches `first` to before `last`, each once."""
        drawn = (prompt for batch in range(first, last) for prompt in self._draw(task, batch))
        return list({prompt.example.id: prompt for prompt in drawn}.values())

    def _bring_guides(self, groups: Sequence[Group], stage: int, batch: int) -> None:
        """Add to each group a guide of its prompt, if there is one."""
        assert self.guides is not None
        for place, group in enumerate(groups):
            row = self.guides.row(group.example, derive_seed(self.seed, "guide", stage, batch, place))
            group.rows += [] if row is None else [row]
        if batch == self.guides.first_batch:
            groups[0].more_completions += self.guides.completions
            groups[0].more_tokens += self.guides.tokens

    @contextmanager
    def _sampling(self) -> Iterator[CompletionEngine]:
        """Within it, what samples, its weights whole on every process."""
        if self.spec.source == "student":
            with whole(self.policy):
                yield self.engine
            return
        assert self.base is not None
        with whole(self.base.copy or self.policy), self.base.scoring() as base:
            yield Sampler(base, stop.poll)

    def _completed(
        self, engine: CompletionEngine, requests: Sequence[Request], owners: Sequence[tuple[Task, Example]]
    ) -> list[tuple[Completion | Episode, str, Verdict | None]]:
        """Completions with their texts and, where something judges them, its verdicts; in the order of the requests.

        Args:
            owners: of each request, its task and its example.
        """
        most = self.train.max_completion_length
        held = 4 * self.train.micro_batch_tokens  # without gradients a token takes far less memory
        speech = self.policy.speech
        found: dict[int, tuple[Completion | Episode, str, Verdict | None]] = {}
        for task in {task.name: task for task, _ in owners if task.episodes is not None}.values():
            assert task.episodes is not None
            places = [i for i, (owner, _) in enumerate(owners) if owner.name == task.name]
            episodes = play(
                engine,
                speech,
                task.episodes,
                [requests[i] for i in places],
                [owners[i][1] for i in places],
                max_new_tokens=most,
                batch_tokens=held,
                poll=stop.poll,
            )
            found |= {i: (each, speech.text(each.ids), each.verdict) for i, each in zip(places, episodes, strict=True)}
        places = [i for i, (task, _) in enumerate(owners) if task.episodes is None]
        single = [requests[i] for i in places]
        completions = engine.generate(single, max_new_tokens=most, batch_tokens=held) if single else []
        for i, completion in zip(places, completions, strict=True):
            stop.poll()
            task, example = owners[i]
            text = speech.text(completion.ids)
            found[i] = (completion, text, task.verify(example, text) if task.verifier is not None else None)
        return [found[i] for i in range(len(owners))]

    def _encode_teacher_prompt(self, row: Row) -> None:
        assert row.teacher_messages is not None
        ids = encode_prompt(
            self.policy.tokenizer, row.teacher_messages, self.policy.chat_template_kwargs, where=row.example.id
        )
        check_fits(row.example.id, ids, self.max_reprompt_length, "teacher's prompt", "max_reprompt_length")
        row.teacher_prompt_ids = ids

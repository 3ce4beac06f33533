"""The rows of one rollout batch: prompts drawn for a step, completed by demonstrations, student or base, judged."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Literal

from holdfast import stop
from holdfast.config.settings import Columns, TrainSettings
from holdfast.data.chat import PromptTooLong, check_fits, encode_completion, encode_prompt
from holdfast.data.example import Example
from holdfast.data.rows import Group, Row
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Task
from holdfast.data.teacher_prompts import actions_prompt
from holdfast.errors import DataError
from holdfast.model.base import Base
from holdfast.model.context_length import longest_reprompt
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.model.shard import whole
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.penalty import FisherPenalty
from holdfast.recipes.parts.rollouts import Revision
from holdfast.rollouts.hints import Hinted, guide_failing
from holdfast.rollouts.near_future import GuidePool
from holdfast.rollouts.prompt_pool import Asked, PromptPool
from holdfast.rollouts.training_prompts import TrainingPrompt, demonstrated
from holdfast.sampling.complete import complete
from holdfast.sampling.episodes import Episode
from holdfast.sampling.sampler import CompletionEngine, Request, Sampler
from holdfast.tasks.files import read_records, records_to_examples


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
        self.world = Processes.current()
        self.dropped: dict[str, int] = {}
        """Training examples left out of each task because they do not fit."""
        self.max_reprompt_length = longest_reprompt(policy, train)
        self.guidance = recipe.hints()
        self.guides: GuidePool | None = None
        """What groups bring along, from when the run has gone back; see `holdfast.stream.near_future.triggers`."""
        self._told = False
        self.pool = PromptPool(seed, train.prompts_per_step)

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
                fix="raise train.max_prompt_length or train.max_completion_length",
            )
        self.pool.add(task, kept)

    def prepare_prompts(self) -> None:
        """Read and encode the file of prompts that the recipe names, where it names one.

        Raises:
            DataError: it cannot be read, or a prompt does not fit.
        """
        penalty = self.recipe.penalty()
        path = self.spec.replay_prompts or (penalty.prompts if isinstance(penalty, FisherPenalty) else None)
        if path is None:
            return
        task = Task(path, records_to_examples(read_records(path), Columns(), path), [])
        for example in task.train:
            try:
                self.pool.listed.append((task, TrainingPrompt(example, self._prompt(example, task))))
            except PromptTooLong:
                if self.train.long_prompts == "refuse":
                    raise

    def _prompt(self, example: Example, task: Task) -> list[int]:
        tokenizer, kwargs = self.policy.tokenizer, self.policy.chat_template_kwargs
        ids = encode_prompt(tokenizer, example.messages, kwargs, where=f"{task.name}: {example.id}")
        check_fits(example.id, ids, self.train.max_prompt_length)
        return ids

    def _encode(self, example: Example, task: Task) -> TrainingPrompt:
        prompt_ids = self._prompt(example, task)
        if self.spec.is_sampled:
            probes = [Row(example, prompt_ids, [], sampled_logprobs=[])]
            if self.spec.with_demonstration:
                probes.append(Row(example, prompt_ids, []))
            if self.recipe.context_from_example:
                self.recipe.annotate([Group(example, probes)])
            for probe in probes:
                if probe.teacher_messages is not None:
                    self._encode_teacher_prompt(probe)
            if self.guidance is not None and example.actions is not None:
                self._hint_ids(example, len(example.actions))
            if not self.spec.with_demonstration:
                asked = probes[0].teacher_prompt_ids if self.spec.prompt == "teacher" else None
                return TrainingPrompt(example, prompt_ids, asked_ids=asked)
        ids, mask, text = demonstrated(self.policy.chat_format, task, example)
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
        prompts = self.pool.draw(task.name, batch)
        earlier = self.pool.replayed(stage, batch, self.spec.replay_ratio, self.spec.replay_buffer_size)
        if not self.spec.is_sampled:
            groups = [Group(p.example, [self._demonstrated(p, stage, batch, i)]) for i, p in enumerate(prompts)]
            if self.spec.replay_source == "base":
                rows = self._said_to(earlier, "base", "replay", stage, batch)
            else:
                rows = [self._demonstrated(p, stage, batch, len(groups) + i) for i, (_, p) in enumerate(earlier)]
            groups += [Group(row.example, [row]) for row in rows]
        else:
            asked = [(task, prompt) for prompt in prompts] + earlier
            groups = self._sampled(asked, "rollout", stage, batch)
            if self.guidance is not None:
                guide_failing(groups[: len(prompts)], self.guidance, partial(self._hinted, asked, stage, batch))
            if (revision := (recipe or self.recipe).rollouts().revision) is not None:
                self._revise(asked, groups, revision, stage, batch)
            if self.spec.with_demonstration:
                for place, (group, prompt) in enumerate(zip(groups, prompts, strict=False)):
                    if self._brings_demonstration(batch * len(prompts) + place):
                        group.rows.append(self._demonstrated(prompt, stage, batch, place))
            if self.guides is not None:
                self._bring_guides(groups[: len(prompts)], stage, batch)
        for row in (row for group in groups[len(prompts) :] for row in group.rows):
            row.replayed = True
        for group in groups:
            group.batch = batch
        return groups, self._annotate(groups, recipe or self.recipe)

    def probe(self, task: Task, stage: int, prompts: int, recipe: Recipe) -> list[Row]:
        """Annotated samples of the same prompts of a stage whenever it is asked, from the same draws."""
        groups = self._sampled(self.pool.some(task.name, prompts, "learning probe"), "learning probe", stage)
        self._annotate(groups, recipe)
        return [row for group in groups for row in group.rows]

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
                self._tell(f"{error.where}: {error.what}", "a teacher")
                row.div = 0.0
                # A weight or an advantage that follows from the teacher does not exist without one.
                row.excluded |= objective.asks_teacher(ce=row.ce, div=0.0, advantage=row.advantage)
                without += 1
        if self.recipe.teacher() is not None:
            numbers["teacher_prompts_dropped"] = float(without)
        return numbers

    def demonstrations(self, task: Task, count: int = 128) -> list[list[int]]:
        """The first demonstrations of a task in tokens, where it has any; the student need not learn from them."""
        policy = self.policy
        known = [(e.demonstration, e.id) for e in task.train[:count] if e.demonstration is not None]
        return [
            encode_completion(policy.tokenizer, text, policy.eos_ids, policy.chat_template_kwargs, where=where)
            for text, where in known
        ]

    def sequences_before(self, stage: int) -> list[Row]:
        """What the recipe's penalty estimates Fisher information from, at the beginning of a stage (from 1).

        Sampled ones are the student's as it is now.
        """
        spec = self.recipe.penalty()
        assert isinstance(spec, FisherPenalty)
        if spec.sequences == "demonstrations" and stage == 1:
            return []
        chosen = self.pool.before(stage, spec.count)
        if spec.sequences == "demonstrations":
            return [self._demonstrated(prompt, stage, 0, place) for place, (_, prompt) in enumerate(chosen)]
        return self._said_to(chosen, "student", "Fisher information", stage)

    def _said_to(self, asked: Sequence[Asked], source: Literal["student", "base"], *name: int | str) -> list[Row]:
        """What the student or the base says to prompts at temperature 1; nobody judges it.

        Args:
            name: of the draws.
        """
        requests = [
            Request(prompt.prompt_ids, seed=derive_seed(self.seed, *name, place), temperature=1.0)
            for place, (_, prompt) in enumerate(asked)
        ]
        rows = self.answered([(replace(task, verifier=None), prompt) for task, prompt in asked], requests, source)
        for row in rows:
            row.verdict = None  # of an environment
        return rows

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

    def _sampled(self, asked: Sequence[Asked], *name: int | str) -> list[Group]:
        """A group of samples for each prompt, judged by its own task; `name` is that of their draws."""
        count = self.spec.num_generations
        requests = [
            self.request(prompt.asked_ids or prompt.prompt_ids, derive_seed(self.seed, *name, place, generation))
            for place, (_, prompt) in enumerate(asked)
            for generation in range(count)
        ]
        rows = self.answered([each for each in asked for _ in range(count)], requests)
        groups = [Group(prompt.example, rows[i * count : (i + 1) * count]) for i, (_, prompt) in enumerate(asked)]
        if self.spec.prompt == "teacher":
            for group in groups:
                group.more_completions = len(group.rows)
                group.more_tokens = sum(len(row.own_ids()) for row in group.rows)
                group.rows = [replace(r, source_logprobs=r.sampled_logprobs, sampled_logprobs=None) for r in group.rows]
        return groups

    def request(self, prompt_ids: Sequence[int], seed: int) -> Request:
        """One completion as the recipe samples them."""
        spec = self.spec
        return Request(prompt_ids, seed=seed, temperature=spec.temperature, top_k=spec.top_k, top_p=spec.top_p)

    def answered(
        self,
        asked: Sequence[Asked],
        requests: Sequence[Request],
        source: Literal["student", "base"] | None = None,
    ) -> list[Row]:
        """A row for each request: the completion of what it asks, judged, as one of the training prompt beside it.

        Several processes sample a share each, and all have all rows. Requests of one prompt stand together best.

        Args:
            source: who answers; by default as the recipe says.
        """
        # Each process samples and judges neighboring requests, so that most of them share their prompts.
        mine = self.world.share(range(len(requests)))
        owners = [(task, prompt.example) for task, prompt in (asked[i] for i in mine)]
        own = [requests[i] for i in mine]
        most, held = self.train.max_completion_length, 4 * self.train.micro_batch_tokens  # without gradients
        with self._sampling(source or self.spec.source) as engine:
            chat_format = self.policy.chat_format
            parts = self.world.each(
                lambda: complete(engine, chat_format, own, owners, max_new_tokens=most, batch_tokens=held)
            )
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

    def _hinted(self, asked: Sequence[Asked], stage: int, batch: int, wanted: Sequence[Hinted]) -> list[list[Row]]:
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

    def _bring_guides(self, groups: Sequence[Group], stage: int, batch: int) -> None:
        """Add to each group a guide of its prompt, if there is one."""
        assert self.guides is not None
        for place, group in enumerate(groups):
            row = self.guides.row(group.example, derive_seed(self.seed, "guide", stage, batch, place))
            group.rows += [] if row is None else [row]
        if batch == self.guides.first_batch:
            groups[0].more_completions += self.guides.completions
            groups[0].more_tokens += self.guides.tokens

    def _revise(self, asked: Sequence[Asked], groups: Sequence[Group], how: Revision, *name: int) -> None:
        """Let the student revise each answer of groups, one for each prompt; the revisions become rows of theirs."""
        begun: list[tuple[Group, Task, TrainingPrompt]] = []
        for (task, _), group in zip(asked, groups, strict=True):
            for row in group.rows:
                ids = [*row.prompt_ids, *self.policy.chat_format.tokens(how.beginning(row.completion, row.reward))]
                if len(ids) <= self.max_reprompt_length:
                    begun.append((group, task, TrainingPrompt(row.example, ids)))
                else:
                    self._tell(f"{row.example.id}: answer and cue make a prompt of {len(ids)} tokens", "a revision")
        requests = [
            self.request(prompt.prompt_ids, derive_seed(self.seed, "revision", *name, place))
            for place, (_, _, prompt) in enumerate(begun)
        ]
        rows = self.answered([(task, prompt) for _, task, prompt in begun], requests)
        for (group, _, _), row in zip(begun, rows, strict=True):
            row.revised = True
            group.rows.append(row)

    def _tell(self, what: str, lack: str) -> None:
        """Warn once in a run of rows that go without something."""
        if not self._told:
            warnings.warn(f"{what}; such rows go without {lack}", stacklevel=3)
        self._told = True

    @contextmanager
    def _sampling(self, source: str) -> Iterator[CompletionEngine]:
        """Within it, what samples, its weights whole on every process."""
        if source == "student":
            with whole(self.policy):
                yield self.engine
            return
        assert self.base is not None
        with whole(self.base.copy or self.policy), self.base.scoring() as base:
            yield Sampler(base, stop.poll)

    def _encode_teacher_prompt(self, row: Row) -> None:
        assert row.teacher_messages is not None
        ids = encode_prompt(
            self.policy.tokenizer, row.teacher_messages, self.policy.chat_template_kwargs, where=row.example.id
        )
        if row.teacher_beginning:
            ids += self.policy.chat_format.tokens(row.teacher_beginning)
        check_fits(row.example.id, ids, self.max_reprompt_length, "teacher's prompt", "max_reprompt_length")
        row.teacher_prompt_ids = ids

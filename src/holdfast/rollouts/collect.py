"""The rows of one rollout batch: which prompts are drawn, which sources add rows in which order, and who annotates."""

from collections.abc import Sequence

from holdfast.config.settings import TrainSettings
from holdfast.data.chat import PromptTooLong
from holdfast.data.rows import Group, Row
from holdfast.data.task import Task
from holdfast.errors import DataError
from holdfast.model.policy import Policy
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.penalty import FisherPenalty
from holdfast.rollouts.annotation import annotate
from holdfast.rollouts.fisher_sequences import fisher_sequences
from holdfast.rollouts.prompt_encoder import PromptEncoder
from holdfast.rollouts.prompt_pool import PromptPool, TaskPrompt
from holdfast.rollouts.rewriting import Rewrite, Rewriter, judging_task
from holdfast.rollouts.row_sampler import FrozenModel, RowSampler, SampledModel
from holdfast.rollouts.sources.demonstrations import Demonstrations
from holdfast.rollouts.sources.hints import HintedSamples
from holdfast.rollouts.sources.near_future import AnswerPool, NearFutureAnswers
from holdfast.rollouts.sources.replay import BaseReplay, TeacherReplay
from holdfast.rollouts.sources.revisions import Revisions
from holdfast.rollouts.sources.samples import Samples
from holdfast.rollouts.sources.source import BatchPrompts, RowSource
from holdfast.rollouts.training_prompts import TrainingPrompt, encode_training_prompts
from holdfast.rollouts.warn_once import WarnOnce
from holdfast.sampling.sampler import CompletionEngine, Request
from holdfast.tasks.load import load_prompts


class Collector:
    """Makes the rollout batches of a run. A batch follows from the seed, the task and its number, and nothing else.

    Args:
        policy: the student.
        engine: samples from the student.
        recipe: says where rows come from, and annotates them.
        train: sizes of batches, lengths and memory.
        seed: the run's seed.
        base: samples if the recipe asks the base. None for other recipes.
        teacher: the recipe's teacher, if the recipe samples from it or lets it score samples. None for others.

    Attributes:
        pool: the training prompts of all prepared tasks.
        dropped: by task name, how many training examples do not fit and are left out.
        near_future_answers: answers of the run's near future that groups get as an extra row. None until the
            run has gone back; see `holdfast.stream.near_future.triggers`.
    """

    def __init__(
        self,
        policy: Policy,
        engine: CompletionEngine,
        recipe: Recipe,
        train: TrainSettings,
        seed: int,
        base: FrozenModel | None = None,
        teacher: FrozenModel | None = None,
    ) -> None:
        self.policy, self.recipe, self.train, self.seed = policy, recipe, train, seed
        self.spec = recipe.rollout_spec()
        self.pool = PromptPool(seed, train.prompts_per_step)
        self.dropped: dict[str, int] = {}
        self.near_future_answers: AnswerPool | None = None
        self._encoder = PromptEncoder(policy, train)
        frozen = {name: each for name, each in (("base", base), ("teacher", teacher)) if each is not None}
        self._sampler = RowSampler(policy, engine, frozen, self.spec, train, seed)
        self._samples = Samples(self._sampler, self.spec, seed)
        self._warn = WarnOnce()
        self._rewriter = Rewriter(
            policy, self._sampler, (self._encoder.max_reprompt_length, train.max_completion_length), seed
        )

    def prepare(self, task: Task) -> None:
        """Encode a task's training prompts and put them into the pool.

        Examples that do not fit are refused or dropped, as `train.long_prompts` says. A teacher's prompt is checked too
        if its text is known before sampling.

        Raises:
            DataError: an example does not fit, or none is left.
        """
        kept = encode_training_prompts(task, self.recipe, self._encoder, self.train, self.seed)
        self.dropped[task.name] = len(task.train) - len(kept)
        if self.spec.rewriting is not None:
            judging_task(task, self.spec.rewriting)
        if not kept:
            raise DataError(
                f"none of the {len(task.train)} training examples fits",
                where=f"task {task.name!r}",
                fix="raise train.max_prompt_length or train.max_completion_length",
            )
        self.pool.add(task, kept)

    def prepare_prompts(self) -> None:
        """Read and encode the prompts that the recipe names, if it names any: a file, or a task of the lab.

        Raises:
            DataError: the file cannot be read, or a prompt does not fit.
            ConfigError: the lab has no such task.
        """
        penalty = self.recipe.penalty()
        path = self.spec.replay_prompts or (penalty.prompts if isinstance(penalty, FisherPenalty) else None)
        if path is None:
            return
        task = Task(path, load_prompts(path), [])
        for example in task.train:
            try:
                prompt_ids = self._encoder.student_prompt(example, task)
            except PromptTooLong:
                if self.train.long_prompts == "refuse":
                    raise
            else:
                self.pool.file_prompts.append((task, TrainingPrompt(example, prompt_ids)))

    def collect(
        self, task: Task, stage: int, batch: int, recipe: Recipe | None = None
    ) -> tuple[list[Group], dict[str, float]]:
        """Make a rollout batch.

        Args:
            task: the stage's own task.
            stage: from 1; 0 for a trial before the run.
            batch: the rollout batch within the stage, from 0.
            recipe: the recipe as controllers have set it; by default as it is configured.

        Returns:
            One group of annotated rows per prompt, the stage's own prompts first; and the recipe's metrics.
        """
        recipe = recipe or self.recipe
        prompts = BatchPrompts(
            stage,
            batch,
            own=[(task, prompt) for prompt in self.pool.draw(task.name, batch)],
            replayed=self.pool.replayed(stage, batch, self.spec.replay_ratio, self.spec.replay_buffer_size),
            first_replayed=self.pool.num_replayed(batch, self.spec.replay_ratio),
        )
        groups = [Group(prompt.example, batch=batch, stranger=prompt.stranger) for _, prompt in prompts.all]
        for source in self._sources(recipe):
            source.add_rows(prompts, groups)
        for group, (earlier, _) in zip(groups[len(prompts.own) :], prompts.replayed, strict=True):
            for row in group.rows:
                row.replayed, row.replayed_task = True, earlier.name
        if 0 < self.spec.scored_from_stage <= stage:
            self._sampler.score([row for group in groups for row in group.rows if row.is_sampled])
        return groups, self._annotate(groups, recipe)

    def _sources(self, recipe: Recipe) -> list[RowSource]:
        """The sources of a batch's rows, in the order in which they are called and their rows are appended."""
        spec, sampler, encoder = self.spec, self._sampler, self._encoder
        if not spec.is_sampled:
            if spec.replay_source == "base":
                return [Demonstrations(self.seed, replayed=False), BaseReplay(sampler)]
            if spec.replay_source == "teacher":
                return [Demonstrations(self.seed, replayed=False), TeacherReplay(sampler, spec, self.seed)]
            return [Demonstrations(self.seed, replayed=True)]
        sources: list[RowSource] = [self._samples]
        if (hints := self.recipe.hints()) is not None:
            sources.append(HintedSamples(sampler, encoder, hints, self.seed))
        # A controller may switch revisions on or off between batches, so this one asks the recipe as it is now.
        if (revision := recipe.rollout_spec().revision) is not None:
            sources.append(Revisions(sampler, encoder, revision, self._warn, self.seed))
        # Demonstrations and near-future answers come after the revisions: those revise the student's own answers only.
        if spec.with_demonstration:
            sources.append(Demonstrations(self.seed, replayed=True, share=spec.demonstration_share))
        if self.near_future_answers is not None:
            sources.append(NearFutureAnswers(self.near_future_answers, self.seed))
        return sources

    def probe(self, task: Task, stage: int, prompts: int, recipe: Recipe) -> list[Row]:
        """Annotated samples of `prompts` prompts of a task.

        Every call in a stage uses the same prompts and the same random draws, so that only the model differs.
        """
        chosen = self.pool.some(task.name, prompts, "learning probe")
        groups = [Group(prompt.example, stranger=prompt.stranger) for _, prompt in chosen]
        self._samples.fill(groups, chosen, "learning probe", stage)
        self._annotate(groups, recipe)
        return [row for group in groups for row in group.rows]

    def _annotate(self, groups: Sequence[Group], recipe: Recipe) -> dict[str, float]:
        metrics, without_teacher = annotate(groups, recipe, self._encoder, self._warn)
        # The configured recipe decides about this metric, so that all steps of a run log the same keys even if a
        # controller switches the teacher off.
        if self.recipe.teacher() is not None:
            metrics["teacher_prompts_dropped"] = float(without_teacher)
        if self.spec.replay_ratio:
            rows = [row for group in groups for row in group.rows if not row.excluded]
            metrics.setdefault("replayed_fraction", sum(row.replayed for row in rows) / max(1, len(rows)))
        return metrics

    def rewrite(self, task: Task, count: int | None = None) -> list[Rewrite]:
        """Rewrite the demonstrations of a task's training prompts, as the recipe says. `use_rewrites` takes them.

        Args:
            count: only so many, the first ones; None for all.
        """
        assert self.spec.rewriting is not None
        examples = [prompt.example for prompt in self.pool.of[task.name][:count]]
        return self._rewriter.rewrite(task, examples, self.spec.rewriting)

    def use_rewrites(self, task: Task, rewrites: Sequence[Rewrite]) -> None:
        """Train on rewritten demonstrations of a task, in this stage and in later ones that replay it."""
        texts = {each.id: each.text for each in rewrites if each.text is not None}
        self.pool.of[task.name] = [
            prompt if (text := texts.get(prompt.example.id)) is None else self._rewriter.prompt(prompt.example, text)
            for prompt in self.pool.of[task.name]
        ]

    def demonstrations(self, task: Task, count: int = 128) -> list[list[int]]:
        """Token ids of the demonstrations of a task's first `count` training examples that have one.

        The recipe need not train on them. Those that were rewritten are given as they are trained on.
        """
        trained = {prompt.example.id: prompt.example for prompt in self.pool.of[task.name]}
        return [
            self.policy.chat_format.encode_demonstration(trained.get(example.id, example), where=example.id).ids
            for example in task.train[:count]
            if example.demonstration is not None
        ]

    def sequences_before(self, stage: int) -> list[Row]:
        """The sequences from which the recipe's penalty estimates Fisher information, before a stage (from 1)."""
        penalty = self.recipe.penalty()
        assert isinstance(penalty, FisherPenalty)
        return fisher_sequences(penalty, self.pool, self._sampler, self.seed, stage)

    def teacher_prompt(self, row: Row) -> list[int]:
        """See `PromptEncoder.teacher_prompt`."""
        return self._encoder.teacher_prompt(row)

    def request(self, prompt_ids: Sequence[int], seed: int) -> Request:
        """See `RowSampler.request`."""
        return self._sampler.request(prompt_ids, seed)

    def answered(
        self,
        prompts: Sequence[TaskPrompt],
        requests: Sequence[Request],
        source: SampledModel | None = None,
    ) -> list[Row]:
        """See `RowSampler.rows`."""
        return self._sampler.rows(prompts, requests, source)

"""One recipe over one stream of tasks. All sets are evaluated before the first stage and after each stage."""

import warnings
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from holdfast import stop
from holdfast.config.load import dump_config, load_kept_config
from holdfast.config.settings import RunConfig, TrainSettings
from holdfast.config.trust import NO_WORD, UsersWord
from holdfast.data.task import all_sets
from holdfast.data.thoughts import split_thoughts
from holdfast.errors import ConfigError, RunError
from holdfast.evaluation.evaluator import Evaluator
from holdfast.judging.trial import try_judge
from holdfast.model.base import Base
from holdfast.model.context_length import configured_context, fit_to_context
from holdfast.model.hidden_states import longest_packed
from holdfast.model.load import load_policy, warn_of_slow_products
from holdfast.model.processes import Processes
from holdfast.model.shard import abandon, shard
from holdfast.model.stage_adapters import adapted_model
from holdfast.recipes.base.needs import require
from holdfast.rollouts.collect import Collector
from holdfast.sampling.episodes import try_reply
from holdfast.sampling.sampler import Sampler
from holdfast.stop import Stopped
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.budget import batch_problems, replay_problems, warmup_problems
from holdfast.stream.checkpoints import RunCheckpoints
from holdfast.stream.guard_actions import RunGuard, guard_settings
from holdfast.stream.intact import (
    base_measurements_to_repeat,
    drop_unused_rewrites,
    fault_outside,
    read_manifest,
    refuse_lost_checkpoints,
    refuse_lost_manifest,
    warn_of_changed_config,
)
from holdfast.stream.learner import Learner
from holdfast.stream.logs import last_step
from holdfast.stream.manifest import build_manifest, check_manifest, run_date, weights_hash
from holdfast.stream.measuring import Measuring
from holdfast.stream.near_future.answers import NearFuture
from holdfast.stream.observer import Observer
from holdfast.stream.position import Position
from holdfast.stream.rewind import Rewind
from holdfast.stream.rewriting import StageRewriting
from holdfast.stream.room import require_stage_room
from holdfast.stream.stage import StageLoop
from holdfast.stream.summarize import summarize
from holdfast.tasks.given import NOTHING_GIVEN, GivenSets
from holdfast.tasks.lm_eval import LmEvalSuite
from holdfast.tasks.load import load_stream
from holdfast.train.checkpoint import load_newest
from holdfast.train.penalty import penalty_of
from holdfast.train.teacher import Teacher


class Run:
    """Prepares a run, starts or resumes it, and walks through its stages. `StageLoop` takes the steps of a stage.

    `prepare` loads and checks everything and writes nothing. `start` and `resume` call it.

    Args:
        label: the recipe's name in the report.
        baseline: the evaluation before the first stage, from an earlier run with the same model and sets. Its key
            `responses` holds the answers. None: the run evaluates the model itself.
        given: the tasks and suites that the configuration only names.
    """

    def __init__(
        self,
        config: RunConfig,
        directory: RunDirectory,
        *,
        label: str | None = None,
        baseline: Mapping[str, Any] | None = None,
        observer: Observer | None = None,
        given: GivenSets = NOTHING_GIVEN,
    ) -> None:
        self.config, self.directory, self.baseline, self.given = config, directory, baseline, given
        self.label = label or config.recipe.name
        self.world = Processes.current()
        self.observer = observer if observer is not None and self.world.is_main else Observer()
        self.steps = [task.steps or config.train.steps for task in config.tasks]
        self._weights_hash = ""

    def prepare(self) -> None:
        """Load tasks and model, and check that they fit each other and the recipe.

        Raises:
            HoldfastError: the first problem that would stop the run.
        """
        self.config = config = fit_to_context(self.config, configured_context(self.config.model))
        if config.model.dtype == "bfloat16" and config.model.lora is None:
            raise ConfigError(
                "model.dtype bfloat16 without model.lora rounds most updates of a small learning rate to nothing",
                fix="use dtype float32 with train.bf16: true, or train an adapter with model.lora",
            )
        self.tasks, self.suites = load_stream(config, self.given)
        require(config.recipe, self.tasks)
        for each in all_sets(self.tasks, self.suites):
            if not isinstance(each, LmEvalSuite):
                try_judge(each)
        self._load_model()
        # Each process samples a share without waiting for the others, so sampling polls alone. `Processes.each`, which
        # collects the shares, raises on all processes what one has raised.
        self.collector = Collector(
            self.policy,
            Sampler(self.policy, stop.poll),
            config.recipe,
            config.train,
            config.seed,
            self.base,
            self.teacher,
        )
        for each in all_sets(self.tasks, self.suites):
            if each.episodes is not None:
                try_reply(self.policy.chat_format, each, each.test[0])
        for task in self.tasks:
            self.collector.prepare(task)
        self.collector.prepare_prompts()
        self.evaluator = Evaluator(self.policy, self.base, config.train, config.eval, self.observer.set_started)
        for each in all_sets(self.tasks, self.suites):
            self.evaluator.check(each)
        self.measuring = Measuring(
            self.evaluator, self.directory, self.tasks, self.suites, self.observer, self.baseline, config.model
        )
        self.guard = RunGuard(guard_settings(config), self.directory, self.teacher, self.policy.eos_ids)
        self.near_future = NearFuture(
            config.recipe.near_future(), self.directory, self.collector, self.policy, config.seed
        )
        self.near_future.check({task.name: steps for task, steps in zip(self.tasks, self.steps, strict=True)})
        self._assemble()
        if count := self.thoughts_left_out():
            warnings.warn(
                f"{count} demonstrations have thoughts, but the chat template closes them before the answer. They are "
                "left out",
                stacklevel=2,
            )
        for name, count in self.dropped().items():
            warnings.warn(f"{name}: {count} examples are too long and are left out", stacklevel=2)
        problems = batch_problems(
            config.train, {task.name: len(self.collector.pool.of[task.name]) for task in self.tasks}
        )
        problems += replay_problems(config.recipe, len(self.tasks))
        # A first try of a few steps is short on purpose, and its default warmup no mistake. `holdfast check` says it.
        if config.train.warmup_steps != TrainSettings().warmup_steps:
            problems += warmup_problems(config.train, self.steps)
        for problem in problems:
            warnings.warn(problem, stacklevel=2)

    def _load_model(self) -> None:
        """The student, and the base, teacher and penalty that the recipe asks for."""
        self.policy = load_policy(adapted_model(self.config), seed=self.config.seed)
        # Again, because the configuration file of a model with its own code does not tell.
        self.config = config = fit_to_context(self.config, self.policy.context_length)
        self.policy.today = self.date = self.world.main(lambda: run_date(read_manifest(self.directory)))
        warn_of_slow_products(self.policy, config.train)
        offload = config.train.offload_teacher
        self.base = Base(self.policy, offload=offload) if config.recipe.uses_base() or config.eval.kl_items else None
        spec = config.recipe.teacher()
        self.teacher = Teacher(spec, self.policy, self.base, offload=offload) if spec is not None else None
        self.penalty = penalty_of(config.recipe.penalty(), self.policy, len(self.tasks))
        if self.world.size > 1:
            self._shard()

    def _shard(self) -> None:
        """Shard all models over the processes. What needs whole weights is computed before."""
        self._weights_hash = weights_hash(self.policy)
        copies = [each.copy for each in (self.base, self.teacher) if each is not None and each.copy is not None]
        for policy in (self.policy, *copies):
            longest_packed(policy)  # measured by a forward pass, and cached
            shard(policy, self.world, offload=self.config.train.offload_teacher and policy is not self.policy)

    def _assemble(self) -> None:
        """Hand each part of the run what it needs."""
        poll = partial(stop.poll_together, self.world.highest)
        models = (self.policy, self.base, self.teacher, self.penalty)
        self.learner = Learner(self.config, self.tasks, self.steps, *models, self.collector, poll)
        self.rewriting = StageRewriting(self.directory, self.collector, self.tasks)
        self.checkpoints = RunCheckpoints(
            self.directory, self.learner, self.guard, self.near_future, self.measuring.kept
        )
        self.rewind = Rewind(
            self.config,
            self.directory,
            self.learner,
            self.collector,
            self.checkpoints,
            self.guard,
            self.near_future,
            self.observer,
        )
        self.stage_loop = StageLoop(
            self.config,
            self.directory,
            self.learner,
            self.collector,
            self.measuring,
            self.guard,
            self.near_future,
            self.checkpoints,
            self.rewind,
            self.observer,
        )

    def dropped(self) -> dict[str, int]:
        """How many examples of each task and suite are left out because they are too long; only sets with some."""
        return dict(Counter(self.collector.dropped) + Counter(self.evaluator.dropped))

    def thoughts_left_out(self) -> int:
        """How many demonstrations have thoughts that the chat template has no place for."""
        if self.policy.chat_format.template.facts.thoughts_in != "nowhere":
            return 0
        demonstrations = (example.demonstration for task in self.tasks for example in task.train)
        return sum(bool(text and split_thoughts(text)[0]) for text in demonstrations)

    def weights_hash(self) -> str:
        """SHA-256 of the weights as they were loaded."""
        return self._weights_hash or weights_hash(self.policy)

    def start(self) -> dict[str, Any]:
        """Run from the beginning in a new directory, and return the summary."""
        self.world.main(self.directory.refuse_existing)
        self.prepare()
        self.world.main(self.directory.create)
        try:
            self.world.main(lambda: self.directory.write_text(self.directory.config, dump_config(self.config)))
            self._write_manifest()
            self._announce(1, 0)
            return self._execute(Position(1, 0))
        finally:
            self.directory.lock.release()

    def resume(self) -> dict[str, Any]:
        """Resume from the newest undamaged checkpoint. The result is that of a run that was never interrupted.

        Raises:
            RunError: another process writes the run, or something that it relies on is missing or damaged.
        """
        self.world.main(self.directory.open_to_write)
        try:
            return self._resume()
        finally:
            self.directory.lock.release()

    def _resume(self) -> dict[str, Any]:
        self.world.main(lambda: warn_of_changed_config(self.directory))
        self.world.main(lambda: refuse_lost_manifest(self.directory))
        manifest = self.world.main(lambda: read_manifest(self.directory))
        self.prepare()
        if manifest is not None:
            where = str(self.directory.manifest)
            check_manifest(manifest, self.tasks, self.suites, self.weights_hash(), where=where)
        checkpoint = load_newest(self.directory.checkpoints, lambda found: fault_outside(self.directory, found))
        if checkpoint is None:
            self.world.main(lambda: refuse_lost_checkpoints(self.directory))
        # All checks are passed. Nothing has been written so far.
        self.world.main(self.directory.sweep)
        if manifest is None:  # the run was killed between writing its configuration and its manifest
            self._write_manifest()
        # Steps after the checkpoint are taken again, and write their lines again.
        self.world.main(lambda: self.directory.cut(checkpoint.position["logs"] if checkpoint else {}))
        saved = checkpoint.position if checkpoint is not None else {"stage": 1, "step": 0}
        self._announce(saved["stage"], saved["step"])
        self._mend_base_measurements(has_trained=checkpoint is not None)
        position = Position(1, 0) if checkpoint is None else self.checkpoints.resume(checkpoint)
        if position.step == 0:
            self.world.main(lambda: drop_unused_rewrites(self.directory, position.stage))
        return self._execute(position)

    def _announce(self, stage: int, step: int) -> None:
        """Tell the observer from where the run starts or goes on."""
        done = sum(self.steps[: stage - 1]) + step
        self.observer.run_started(self.label, len(self.tasks), sum(self.steps), done)

    def _mend_base_measurements(self, *, has_trained: bool) -> None:
        """Measure the base again if what was measured before the first stage is lost or damaged.

        The weights are still the base's: no checkpoint has been loaded yet. Later they never are again.

        Args:
            has_trained: a checkpoint is going to be loaded.
        """

        def to_repeat() -> bool:
            if not has_trained and not self.directory.evaluation(0).exists():
                return False  # the run was killed before it had measured it
            faults = base_measurements_to_repeat(self.directory)
            for fault in faults:
                warnings.warn(f"{fault.where}: {fault.what}; the base is measured again", stacklevel=2)
            return bool(faults)

        if self.world.main(to_repeat):
            self._evaluate(0)

    def _write_manifest(self) -> None:
        manifest = build_manifest(self.config, self.label, self.tasks, self.suites, self.weights_hash(), self.date)
        content = manifest | {"dropped": self.dropped()}
        self.world.main(lambda: self.directory.write_json(self.directory.manifest, content))

    def _execute(self, position: Position) -> dict[str, Any]:
        """Run from a position to the end, and return the summary.

        Raises:
            Stopped: a signal asked for it. The state after the latest optimizer step has been saved.
        """
        if position.step == 0:
            self.measuring.stage_done()  # a process may have been killed before it removed what the stage had kept
        try:
            if position.stage <= len(self.tasks):
                self._require_room(position.stage)  # before the base is measured, which may take long
            if not self.world.main(lambda: self.directory.evaluation(0).exists()):
                self._evaluate(0)
                self.world.main(lambda: self._summarize("running"))
            self.guard.watch(*self.world.main(self.measuring.retention_before))
            # A run that can go back needs a checkpoint before its first step. Later stages have the last stage's.
            may_go_back = self.guard.acts or self.near_future.acts
            if position.trainer is None and may_go_back and position.stage == 1:
                self.checkpoints.save(position)
            for stage in range(position.stage, len(self.tasks) + 1):
                if self.guard.changes.ends == "run":
                    break
                if stage > position.stage or position.trainer is None:
                    position = self.learner.start_stage(stage)
                self._require_room(stage)
                self.rewriting.prepare(stage, position.step)
                self.stage_loop.train(position)
                self.learner.end_stage(stage)
                self._evaluate(stage)
                self.measuring.refine(stage, self.world.main(partial(last_step, self.directory, stage)))
                seen = self.world.main(partial(self.measuring.stage_end, stage))
                self.guard.see_stage_end(*seen, is_last=stage == len(self.tasks), observer=self.observer)
                after = Position(stage + 1, 0)
                # Before the checkpoint: it holds the next stage's guard, and counts as that stage's first healthy one.
                self.guard.start_stage(self.checkpoints.number(after))
                self.near_future.start_stage()
                self.checkpoints.save(after)
                self.measuring.stage_done()
                self.world.main(lambda: self._summarize("running"))
        except Stopped:
            abandon(self.policy)  # the step under way may have left gradients, and weights gathered from their shards
            self.checkpoints.save_interrupted()
            raise
        status = "stopped" if self.guard.changes.ends else "complete"
        summary = self.world.main(lambda: self._summarize(status))
        self.observer.run_done(summary)
        return summary

    def _require_room(self, stage: int) -> None:
        """Check that there is room on the disk for what a stage writes."""
        self.world.main(lambda: require_stage_room(self.directory, self.config, self.learner, stage))

    def _evaluate(self, stage: int) -> None:
        """Save the model of a stage and evaluate it. Stage 0 is the model before training, which is not saved again."""
        if stage:
            folder = self.directory.model(stage)
            self.world.main(self.directory.lock.check)
            self.policy.save_folder(folder, merged=True)
            self.world.main(lambda: self.directory.note_folder(folder))
        self.measuring.evaluate(stage)

    def _summarize(self, status: str) -> dict[str, Any]:
        sets, parameters = (self.tasks, self.suites), self.policy.parameter_counts()
        return summarize(self.directory, self.config, self.label, *sets, parameters=parameters, status=status)


def open_run(
    path: Path,
    observer: Observer | None = None,
    given: GivenSets = NOTHING_GIVEN,
    *,
    word: UsersWord = NO_WORD,
) -> Run:
    """The run in a directory, with the configuration that the directory holds.

    Args:
        given: the tasks and suites that the configuration only names.
        word: the user's, as for `load_kept_config`.

    Raises:
        RunError: it is not a run directory.
    """
    directory = RunDirectory(path)
    if not directory.config.exists():
        raise RunError("is not a run directory: config.yaml is missing", where=str(path), fix="name a run directory")
    config = load_kept_config(directory.config, RunConfig, word)
    # Without a manifest the run was killed before it began. Only a comparison, which restarts it, gives another label.
    manifest = read_manifest(directory)
    label = None if manifest is None else manifest["label"]
    return Run(config, directory, label=label, observer=observer, given=given)

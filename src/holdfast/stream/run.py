"""One recipe over one stream: stages in order, everything evaluated before the first and after each."""

import time
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from holdfast import stop
from holdfast.config.load import dump_config, load_kept_config
from holdfast.config.settings import RunConfig
from holdfast.data.batch_metrics import EMPTY_BATCH, rollout_numbers, some_rows
from holdfast.data.rows import Row
from holdfast.data.seeds import derive_seed
from holdfast.data.task import all_sets
from holdfast.errors import ConfigError, RunError
from holdfast.evaluate.evaluator import Evaluator
from holdfast.guard.guard import Decision
from holdfast.model.base import Base
from holdfast.model.context_length import check_context
from holdfast.model.hidden_states import longest_packed
from holdfast.model.load import load_policy, tell_of_slow_products
from holdfast.model.processes import Processes
from holdfast.model.shard import abandon, shard
from holdfast.model.stage_adapters import adapted_model
from holdfast.recipes.base.needs import require
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Sampler
from holdfast.stop import Stopped
from holdfast.store.files import json_safe, read_json, write_json, write_text
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.controls import Controls
from holdfast.stream.guarding import Guarding, guard_of
from holdfast.stream.learning import learning_probe
from holdfast.stream.logs import cut_lengths, steps_before
from holdfast.stream.manifest import build_manifest, check_manifest, weights_hash
from holdfast.stream.measuring import Measuring
from holdfast.stream.near_future.going_back import GoesBack
from holdfast.stream.near_future.scouting import Scouting
from holdfast.stream.observer import Observer
from holdfast.stream.position import Keepers, Position, RolloutBatch, as_groups, restored
from holdfast.stream.summarize import summarize
from holdfast.tasks.lm_eval import LmEvalSuite
from holdfast.tasks.load import load_stream, try_verifier
from holdfast.train.checkpoint import Checkpoint, load_newest, remove_between, save_checkpoint
from holdfast.train.fisher import fisher_information
from holdfast.train.penalty import penalty_of
from holdfast.train.step import NotFiniteError, StageTrainer, learning_rate
from holdfast.train.teacher import Teacher


class Run(GoesBack):
    """A stream under way. `prepare` loads and checks everything and writes nothing; `execute` does the work.

    Args:
        baseline: the evaluation before the first stage as an earlier run with the same model and sets found it, with
            what it keeps of its answers under `responses`.
        label: the recipe's name in the report.
    """

    def __init__(
        self,
        config: RunConfig,
        directory: RunDirectory,
        *,
        label: str | None = None,
        baseline: Mapping[str, Any] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.config, self.directory, self.baseline = config, directory, baseline
        self.label = label or config.recipe.name
        self.world = Processes.current()
        self.observer = observer if observer is not None and self.world.is_main else Observer()
        self.steps = [task.steps or config.train.steps for task in config.tasks]
        self._weights_hash = ""

    def prepare(self) -> None:
        """Load tasks and model and check that they fit each other and the recipe.

        Raises:
            HoldfastError: the first thing that cannot work.
        """
        config = self.config
        if config.model.dtype == "bfloat16" and config.model.lora is None:
            raise ConfigError(
                "model.dtype bfloat16 without model.lora: most updates of a small learning rate would round to nothing",
                fix="use dtype float32 with train.bf16: true, or train an adapter with model.lora",
            )
        self.tasks, self.suites = load_stream(config)
        require(config.recipe, self.tasks)
        for each in all_sets(self.tasks, self.suites):
            if not isinstance(each, LmEvalSuite):
                try_verifier(each)
        self.policy = load_policy(adapted_model(config), seed=config.seed)
        tell_of_slow_products(self.policy, config.train)
        check_context(self.policy, config.train, config.eval)
        offload = config.train.offload_teacher
        self.base = Base(self.policy, offload=offload) if config.recipe.uses_base() or config.eval.kl_items else None
        spec = config.recipe.teacher()
        self.teacher = Teacher(spec, self.policy, self.base, offload=offload) if spec is not None else None
        self.penalty = penalty_of(config.recipe.penalty(), self.policy, len(self.tasks))
        if self.world.size > 1:
            self._spread()
        self.collector = Collector(
            self.policy, Sampler(self.policy, stop.poll), config.recipe, config.train, config.seed, self.base
        )
        for task in self.tasks:
            self.collector.prepare(task)
        self.collector.prepare_prompts()
        self.evaluator = Evaluator(self.policy, self.base, config.train, config.eval, self.observer.set_started)
        for each in all_sets(self.tasks, self.suites):
            self.evaluator.check(each)
        self.measuring = Measuring(
            self.evaluator, self.directory, self.tasks, self.suites, self.observer, self.baseline, config.model
        )
        self.guarding = Guarding(guard_of(config), self.directory, self.teacher, self.policy.eos_ids)
        self.scouting = Scouting(config.recipe.near_future(), self.directory, self.collector, self.policy, config.seed)
        self.scouting.check({task.name: steps for task, steps in zip(self.tasks, self.steps, strict=True)})
        for name, count in self.dropped().items():
            warnings.warn(f"{name}: {count} examples do not fit and are left out", stacklevel=2)

    def _spread(self) -> None:
        """Shard all that is loaded over the processes, once what must be asked of whole weights is known."""
        self._weights_hash = weights_hash(self.policy)
        copies = [each.copy for each in (self.base, self.teacher) if each is not None and each.copy is not None]
        for policy in (self.policy, *copies):
            longest_packed(policy)
            shard(policy, self.world, offload=self.config.train.offload_teacher and policy is not self.policy)

    def dropped(self) -> dict[str, int]:
        """Examples of tasks and suites, train and test, that are left out because they do not fit; none not named."""
        counts = Counter(self.collector.dropped) + Counter(self.evaluator.dropped)
        return dict(counts)

    def start(self) -> dict[str, Any]:
        """Run from the beginning in a new directory; returns the summary."""
        self.world.main(self.directory.refuse_existing)
        self.prepare()
        self.world.main(self.directory.create)
        self.world.main(lambda: write_text(self.directory.config, dump_config(self.config)))
        self._write_manifest()
        return self._execute(Position(1, 0))

    def resume(self) -> dict[str, Any]:
        """Go on from the newest whole checkpoint; the result is that of a run that was never interrupted."""
        self.prepare()
        self.world.main(self.directory.sweep)
        path = self.directory.manifest
        manifest = self.world.main(lambda: read_json(path) if path.exists() else None)
        if manifest is not None:
            check_manifest(manifest, self.tasks, self.suites, self.weights_hash(), where=str(path))
        else:
            self._write_manifest()
        checkpoint = load_newest(self.directory.checkpoints)
        self.world.main(lambda: self.directory.cut(checkpoint.position["logs"] if checkpoint else {}))
        if checkpoint is None:
            return self._execute(Position(1, 0))
        self.guarding.load(checkpoint.position.get("guard", {}))
        self._load_scouting(checkpoint)
        if (to := checkpoint.position.get("went_back_to")) is not None:  # killed before that was done, perhaps
            self._forget_undone(to, checkpoint.number)
        return self._execute(self._restored(checkpoint))

    def _restored(self, checkpoint: Checkpoint) -> Position:
        position = restored(checkpoint, self.policy, self._keepers(), self.tasks, self._trainer, self._controls)
        if position.step == 0 and position.stage <= len(self.tasks):
            # Where the guard went back to a stage's start, its teacher has been started, and perhaps changed since.
            begun = checkpoint.position.get("guard", {}).get("remedies", {}).get("roll_backs", 0)
            position = self._begun(position.stage, teacher_too=not begun)
        return position

    def _load_scouting(self, checkpoint: Checkpoint, *, all_of_it: bool = True) -> None:
        stage = checkpoint.position["stage"]
        task = self.tasks[stage - 1] if stage <= len(self.tasks) else None
        self.scouting.load(checkpoint.position.get("scouting", {}), task, all_of_it=all_of_it)

    def _begun(self, stage: int, *, teacher_too: bool = True) -> Position:
        """The beginning of a stage."""
        if self.teacher is not None and teacher_too:
            self.teacher.start_stage()
        if self.penalty is not None:
            before, train = self.collector.sequences_before, self.config.train
            self.penalty.begin(stage, lambda: fisher_information(self.policy, before(stage), train, self._poll))
        return Position(stage, 0, self._trainer(), controls=self._controls(stage))

    def _keepers(self) -> Keepers:
        held = {"teacher": self.teacher, "penalty": self.penalty}
        return {name: keeper for name, keeper in held.items() if keeper is not None}

    def _write_manifest(self) -> None:
        manifest = build_manifest(self.config, self.label, self.tasks, self.suites, self.weights_hash())
        self.world.main(lambda: write_json(self.directory.manifest, manifest | {"dropped": self.dropped()}))

    def weights_hash(self) -> str:
        """SHA-256 of the weights as they were loaded."""
        return self._weights_hash or weights_hash(self.policy)

    def _trainer(self) -> StageTrainer:
        recipe = self.config.recipe
        return StageTrainer(self.policy, self.teacher, self.base, recipe.objective(), self.config.train, self.penalty)

    def _controls(self, stage: int) -> Controls:
        return Controls(self.config.recipe, self.steps[stage - 1], self.config.seed, stage)

    def _execute(self, position: Position) -> dict[str, Any]:
        """Run from a position to the end; asked to end before that, save what the last step left: `Stopped`."""
        self._unsaved: Position | None = None
        done = sum(self.steps[: position.stage - 1]) + position.step
        self.observer.run_started(self.label, len(self.tasks), sum(self.steps), done)
        try:
            if not self.world.main(lambda: self.directory.evaluation(0).exists()):
                self._evaluate(0)
                self.world.main(lambda: self._summarize("running"))
            self.guarding.reference, self.guarding.probe_items = self.world.main(self.measuring.retention_before)
            self.guarding.watch()
            goes_back = self.guarding.acts or self.scouting.acts
            if position.trainer is None and goes_back and position.stage == 1:
                self._save(position)  # where the first stage can be begun anew from
            for stage in range(position.stage, len(self.tasks) + 1):
                if self.guarding.remedies.ends == "run":
                    break
                if stage > position.stage or position.trainer is None:
                    position = self._begun(stage)
                self._train_stage(position)
                self._evaluate(stage)
                after = Position(stage + 1, 0)
                self.guarding.begin_stage(self._number(after))
                self.scouting.begin_stage()
                self._save(after)
                self._unsaved = None
                self.world.main(lambda: self._summarize("running"))
        except Stopped:
            abandon(self.policy)
            if self._unsaved is not None:
                self._save(self._unsaved, is_due=False)
            raise
        status = "stopped" if self.guarding.remedies.ends else "complete"
        summary = self.world.main(lambda: self._summarize(status))
        self.observer.run_done(summary)
        return summary

    def _poll(self) -> None:
        """Leave what is under way, on all processes alike, where any of them was asked to end."""
        if number := self.world.highest(stop.asked()):
            raise Stopped(number)

    def _train_stage(self, position: Position) -> None:
        """Optimizer steps from a position to the end of its stage; `_unsaved` follows them."""
        stage = position.stage
        steps, task = self.steps[stage - 1], self.tasks[stage - 1]
        settings = self.config.train
        self.observer.stage_started(stage, task.name, steps, position.step)
        self._taken_before = self.world.main(lambda: steps_before(self.directory, stage))
        position = self._probe(position, steps)
        iterations = self.config.recipe.rollouts().num_iterations
        while (position.step < steps or self.scouting.due) and not self.guarding.remedies.ends:
            self._poll()
            if self.scouting.due:
                position = self._near_future(position)
                continue
            trainer, controls = position.trainer, position.controls
            assert trainer is not None
            assert controls is not None
            trainer.poll = self._poll
            step = position.step
            torch.manual_seed(derive_seed(self.config.seed, "step", stage, step))
            started = time.perf_counter()
            controlled = controls.settings(step)
            recipe = controls.recipe(controlled)
            trainer.objective = recipe.objective()
            batch, fresh, probed = position.batch, {}, {}
            is_first = batch is None
            if batch is None:
                probed = learning_probe(self.config.recipe, self.collector, task, position)
                groups, said = self.collector.collect(task, stage, step // iterations, recipe)
                fresh = rollout_numbers(groups)
                for spent in ("completions", "generated_tokens"):
                    fresh[spent] += probed.pop(spent, 0)
                batch = RolloutBatch([row for group in groups for row in group.rows], dict(said), fresh)
                self.guarding.mask(batch.rows)
            is_last = (step + 1) % iterations == 0 or step + 1 == steps
            rate = learning_rate(settings, step, steps) * self.guarding.remedies.rate
            where = f"stage {stage} ({task.name}), step {step + 1}"
            end: NotFiniteError | None = None
            try:
                numbers = trainer.step(batch.rows, rate, where=where, first=is_first, more=not is_last)
            except NotFiniteError as error:
                trainer.forget()
                end, numbers = error, error.numbers | {"learning_rate": rate}
            # A step that took nothing moves neither a teacher that follows nor controllers.
            if is_last and self.teacher is not None and end is None:
                self.teacher.after_rollout_batch(batch.measured)
            elif is_last and self.teacher is not None:
                self.teacher.after_lost_batch()
            if self.teacher is not None and self.teacher.spec.kind in ("periodic", "gated"):
                numbers["teacher_refreshes"] = self.teacher.refreshes
            position = Position(stage, step + 1, trainer, None if is_last else batch, controls)
            self._unsaved = position
            record = {"stage": stage, "step": step + 1, "task": task.name} | numbers | EMPTY_BATCH | fresh | batch.said
            record |= controlled | probed
            self.scouting.see(step + 1, record, batch.rows, fresh=is_first)
            if end is None:
                controls.see(record)
            decisions = self._record(record | {"seconds": time.perf_counter() - started}, batch.rows)
            if end is not None and not self.guarding.goes_on_after_not_finite:
                self.guarding.write(decisions, [f"the run ends: {end.what}"], self.observer)
                raise end
            position = self._decided(position, decisions)
            if "roll_back" in {action for decision in decisions for action in decision.actions}:
                continue
            is_regular = position.step % settings.save_steps == 0 and position.step < steps
            if is_regular:
                self._keep_rollouts(position, batch.rows)
            if is_regular or self.scouting.wants_checkpoint(position.step):
                self._save(position)
                self._unsaved = None
            position = self._probe(position, steps)

    def _record(self, record: dict[str, Any], rows: list[Row]) -> list[Decision]:
        """Write down an optimizer step; what the guard decides on it."""
        if self.world.is_main:
            self.directory.append("metrics.jsonl", json_safe(record))
        self.observer.step_done(record)
        return self.guarding.see(record | {"global_step": self._taken_before + record["step"]}, rows)

    def _probe(self, position: Position, steps: int) -> Position:
        """Probe where that is due; the position to go on from, if the guard decides on it."""
        if self.guarding.remedies.ends or not self.measuring.probe_is_due(position.step, steps):
            return position
        record = self.measuring.probe(position.stage, position.step)
        return position if record is None else self._decided(position, self.guarding.see_probe(record))

    def _decided(self, position: Position, decisions: list[Decision]) -> Position:
        """Carry out what the guard has decided, all at once; the position to go on from."""
        if not decisions:
            return position
        actions = {action for decision in decisions for action in decision.actions} - {"warn"}
        if "roll_back" in actions:
            return self._rolled_back(position, decisions, actions)
        did = self.guarding.apply(actions, self._demonstrations(position.stage), rolled_back=False)
        self.guarding.write(decisions, did, self.observer)
        return position

    def _demonstrations(self, stage: int) -> list[list[int]]:
        return self.collector.demonstrations(self.tasks[stage - 1])

    def _evaluate(self, stage: int) -> None:
        """Keep the model of a stage, and evaluate it; stage 0 is the model that the run begins with."""
        if stage:
            self.policy.save_folder(self.directory.model(stage), merged=True)
        self.measuring.evaluate(stage)

    def _number(self, position: Position) -> int:
        """Of a checkpoint: optimizer steps until there, and what roll-backs add so that the newest has the highest."""
        return sum(self.steps[: position.stage - 1]) + position.step + self.guarding.undone + self.scouting.undone

    def _save(self, position: Position, *, is_due: bool = True, went_back_to: Checkpoint | None = None) -> None:
        """Write a checkpoint of a position, with the weights as they are.

        Args:
            is_due: an uninterrupted run would write it too, so that the guard may go back to it.
            went_back_to: the checkpoint that a roll-back took the position from.
        """
        number = self._number(position)
        if is_due and went_back_to is None:
            self.guarding.saving(number, position.step)
            self.scouting.saving(number, position.step)
        groups, saved = as_groups(position, self.policy, self._keepers())
        saved["logs"] = self.directory.lengths()
        if went_back_to is not None:
            saved["logs"] = cut_lengths(saved["logs"], went_back_to.position["logs"])
            saved["went_back_to"] = went_back_to.number
        if guard := self.guarding.as_json():
            saved["guard"] = guard
        if scouting := self.scouting.as_json():
            saved["scouting"] = scouting
        spared = self.guarding.spared() | self.scouting.spared()
        save_checkpoint(self.directory.checkpoints, number, groups, saved, spare=spared)

    def _forget_undone(self, went_back_to: int, newest: int) -> None:
        """Remove the checkpoints that a way back has undone: the logs no longer hold what they are the state after."""
        self.world.main(lambda: remove_between(self.directory.checkpoints, went_back_to, newest))

    def _keep_rollouts(self, position: Position, rows: list[Row]) -> None:
        for row in some_rows(rows) if self.world.is_main else ():
            self.directory.append("rollouts.jsonl", {"stage": position.stage, "step": position.step, **row})

    def _summarize(self, status: str) -> dict[str, Any]:
        sets, parameters = (self.tasks, self.suites), self.policy.parameter_counts()
        return summarize(self.directory, self.config, self.label, *sets, parameters=parameters, status=status)


def open_run(path: Path, observer: Observer | None = None) -> Run:
    """The run in a directory, as its resolved configuration says.

    Raises:
        RunError: it is no run directory.
    """
    directory = RunDirectory(path)
    if not directory.config.exists():
        raise RunError("is not a run directory: there is no config.yaml", where=str(path), fix="name one that is")
    config = load_kept_config(directory.config, RunConfig)
    # Where there is no manifest, the run was killed before it began; only a comparison gives labels of its own.
    label = read_json(directory.manifest)["label"] if directory.manifest.exists() else None
    return Run(config, directory, label=label, observer=observer)

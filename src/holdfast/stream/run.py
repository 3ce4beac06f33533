"""One recipe over one stream: stages in order, everything evaluated before the first and after each."""

import time
import warnings
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from holdfast import __version__
from holdfast.config import RunConfig, dump_config, dump_recipe, load_config
from holdfast.errors import ConfigError, RunError
from holdfast.guard.alarms import Alarms, repetition
from holdfast.measure.summary import build_run_summary, json_safe
from holdfast.rollouts.collect import Collector, check_context
from holdfast.rollouts.rows import Group, Row
from holdfast.rollouts.sampler import Sampler
from holdfast.seeds import derive_seed
from holdfast.store import RunDirectory, read_json, write_json, write_text
from holdfast.stream.evaluate import Evaluator, set_descriptions
from holdfast.stream.manifest import build_manifest, check_manifest
from holdfast.stream.observer import Observer
from holdfast.tasks.base import Suite, Task, all_sets
from holdfast.tasks.load import load_stream, require
from holdfast.teachers import Base, Teacher
from holdfast.train.checkpoint import Checkpoint, load_newest, save_checkpoint
from holdfast.train.model import load_policy
from holdfast.train.step import StageTrainer, learning_rate

ROLLOUTS_KEPT = 4
"""Training completions written to rollouts.jsonl at each checkpoint."""


class Run:
    """A stream under way. `prepare` loads and checks everything and writes nothing; `execute` does the work.

    Args:
        baseline: the evaluation before the first stage as an earlier run with the same model and sets found it.
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
        self.observer = observer or Observer()
        self.steps = [task.steps or config.train.steps for task in config.tasks]

    def prepare(self) -> None:
        """Load tasks and model and check that they fit each other and the recipe.

        Raises:
            HoldfastError: the first thing that cannot work.
        """
        config = self.config
        if config.model.dtype == "bfloat16" and config.model.lora is None:
            raise ConfigError(
                "model.dtype bfloat16 without model.lora: most updates of a small learning rate would round to nothing",
                mend="use dtype float32, or train an adapter with model.lora, whose weights are float32",
            )
        self.tasks, self.suites = load_stream(config)
        require(config.recipe, self.tasks)
        for each in all_sets(self.tasks, self.suites):
            _try_verifier(each)
        self.policy = load_policy(config.model, seed=config.seed)
        check_context(self.policy, config.train, config.eval)
        self.base = Base(self.policy) if self._needs_base() else None
        spec = config.recipe.teacher()
        self.teacher = Teacher(spec, self.policy, self.base) if spec is not None else None
        self.collector = Collector(self.policy, Sampler(self.policy), config.recipe, config.train, config.seed)
        for task in self.tasks:
            self.collector.prepare(task)
        self.evaluator = Evaluator(self.policy, self.base, config.train, config.eval, self.observer.set_started)
        for each in all_sets(self.tasks, self.suites):
            self.evaluator.check(each)
        for name, count in self.dropped().items():
            warnings.warn(f"{name}: {count} examples do not fit and are left out", stacklevel=2)

    def dropped(self) -> dict[str, int]:
        """Examples of tasks and suites, train and test, that are left out because they do not fit; none not named."""
        counts = Counter(self.collector.dropped) + Counter(self.evaluator.dropped)
        return dict(counts)

    def _needs_base(self) -> bool:
        teacher = self.config.recipe.teacher()
        restarts = teacher is not None and teacher.kind != "live" and teacher.stage_start == "base"
        return restarts or bool(self.config.recipe.objective().reference_kl) or bool(self.config.eval.kl_items)

    def start(self) -> dict[str, Any]:
        """Run from the beginning in a new directory; returns the summary."""
        self.directory.refuse_existing()
        self.prepare()
        self.directory.create()
        write_text(self.directory.config, dump_config(self.config))
        self._write_manifest()
        return self._execute(stage=1, step=0, trainer=None)

    def resume(self) -> dict[str, Any]:
        """Go on from the newest whole checkpoint; the result is that of a run that was never interrupted."""
        self.prepare()
        self.directory.sweep()
        manifest = self.directory.manifest
        if manifest.exists():
            check_manifest(read_json(manifest), self.tasks, self.suites, self.policy, where=str(manifest))
        else:
            self._write_manifest()
        checkpoint = load_newest(self.directory.checkpoints)
        if checkpoint is None:
            self.directory.cut({})
            return self._execute(stage=1, step=0, trainer=None)
        position = checkpoint.position
        self.directory.cut(position["logs"])
        with torch.no_grad():
            for name, parameter in self.policy.named_trainable().items():
                parameter.copy_(checkpoint.tensors["policy"][name])
        if self.teacher is not None and "teacher" in checkpoint.tensors:
            self.teacher.load_state(dict(checkpoint.tensors["teacher"]))
        trainer = None
        if position["step"] > 0:
            trainer = self._trainer()
            trainer.load_state(dict(checkpoint.tensors["optimizer"]))
        return self._execute(stage=position["stage"], step=position["step"], trainer=trainer)

    def _write_manifest(self) -> None:
        manifest = build_manifest(self.config, self.label, self.tasks, self.suites, self.policy)
        write_json(self.directory.manifest, manifest | {"dropped": self.dropped()})

    def _trainer(self) -> StageTrainer:
        recipe = self.config.recipe
        return StageTrainer(self.policy, self.teacher, self.base, recipe.objective(), self.config.train)

    def _execute(self, stage: int, step: int, trainer: StageTrainer | None) -> dict[str, Any]:
        """Run from optimiser step `step` (from 0) of stage `stage` (from 1) to the end."""
        self.alarms = Alarms(self.directory.records("metrics.jsonl"))
        self.observer.run_started(self.label, len(self.tasks), sum(self.steps), sum(self.steps[: stage - 1]) + step)
        if not self.directory.evaluation(0).exists():
            self._evaluate(0)
            self._summarise("running")
        for number in range(stage, len(self.tasks) + 1):
            if trainer is None:
                step = 0
                if self.teacher is not None:
                    self.teacher.start_stage()
                trainer = self._trainer()
            self._train_stage(number, step, trainer)
            trainer = None
            self._evaluate(number)
            self._save(number + 1, 0, None)
            self._summarise("running")
        self._summarise("complete")
        summary = read_json(self.directory.summary)
        self.observer.run_done(summary)
        return summary

    def _train_stage(self, stage: int, first: int, trainer: StageTrainer) -> None:
        """Optimiser steps `first` (from 0) to the end of a stage. A checkpoint falls between rollout batches only."""
        steps, task = self.steps[stage - 1], self.tasks[stage - 1]
        iterations = self.config.recipe.rollouts().num_iterations
        settings = self.config.train
        self.observer.stage_started(stage, task.name, steps, first)
        step, saved = first, first
        while step < steps:
            torch.manual_seed(derive_seed(self.config.seed, "step", stage, step))
            started = time.perf_counter()
            groups, said = self.collector.collect(task, stage, step // iterations)
            rows = [row for group in groups for row in group.rows]
            for iteration in range(min(iterations, steps - step)):
                where = f"stage {stage} ({task.name}), step {step + 1}"
                rate = learning_rate(settings, step, steps)
                numbers = trainer.step(rows, rate, where=where, remember=iteration == 0 and iterations > 1)
                step += 1
                last = iteration + 1 == iterations or step == steps
                if last and self.teacher is not None:
                    self.teacher.after_rollout_batch()
                fresh = (
                    _rollout_numbers(groups, sampled=self.collector.spec.source == "student") if iteration == 0 else {}
                )
                record = {"stage": stage, "step": step, "task": task.name} | numbers | _EMPTY_BATCH | fresh | said
                record["seconds"] = time.perf_counter() - started
                started = time.perf_counter()
                self.directory.append("metrics.jsonl", json_safe(record))
                self.observer.step_done(record)
                for alarm in self.alarms.see(record):
                    self.directory.append("alarms.jsonl", alarm.as_json())
                    self.observer.alarm(alarm)
            self._probe(stage, step, steps, iterations)
            if step - saved >= settings.save_steps and step < steps:
                self._keep_rollouts(stage, step, rows)
                self._save(stage, step, trainer)
                saved = step

    def _probe(self, stage: int, step: int, steps: int, iterations: int) -> None:
        every = self.config.eval.probe_steps
        if not every or step >= steps or step % every >= iterations:
            return
        started = time.perf_counter()
        retention = [suite for suite in self.suites if suite.kind == "retention"]
        scores = self.evaluator.probe(self.tasks[:stage], retention)
        kl = None
        if self.base is not None and self.config.eval.kl_items:
            kl = sum(self.evaluator.kl_to_base(task)[0] for task in self.tasks) / len(self.tasks)
        record = {"stage": stage, "step": step, "task": self.tasks[stage - 1].name, "scores": scores, "kl_to_base": kl}
        self.directory.append("probes.jsonl", record | {"seconds": time.perf_counter() - started})

    def _evaluate(self, stage: int) -> None:
        """Evaluate after a stage (0: before the first) and keep the model."""
        started = time.perf_counter()
        self.observer.evaluation_started(stage, len(self.tasks) + len(self.suites))
        if stage == 0 and self.baseline is not None:
            result = dict(self.baseline) | {"seconds": 0.0}
        else:
            task = self.tasks[stage - 1].name if stage else None
            result = self.evaluator.evaluate(stage, task, self.tasks, self.suites).as_json()
            result["seconds"] = time.perf_counter() - started
        if stage:
            self.policy.save_folder(self.directory.model(stage), merged=True)
        write_json(self.directory.evaluation(stage), json_safe(result))
        self.observer.evaluation_done(stage, {name: s["mean"] for name, s in result["sets"].items()})

    def _save(self, stage: int, step: int, trainer: StageTrainer | None) -> None:
        tensors: dict[str, Mapping[str, torch.Tensor]] = {"policy": dict(self.policy.named_trainable())}
        if trainer is not None:
            tensors["optimizer"] = trainer.state()
        if self.teacher is not None and self.teacher.state():
            tensors["teacher"] = self.teacher.state()
        position = {"stage": stage, "step": step, "logs": self.directory.lengths()}
        number = sum(self.steps[: stage - 1]) + step
        save_checkpoint(self.directory.checkpoints, number, Checkpoint(tensors, position))

    def _keep_rollouts(self, stage: int, step: int, rows: list[Row]) -> None:
        for row in rows[:: max(1, len(rows) // ROLLOUTS_KEPT)][:ROLLOUTS_KEPT]:
            record = {"stage": stage, "step": step, "id": row.example.id, "completion": row.completion}
            record |= {"reward": row.verdict.reward if row.verdict else None, "truncated": row.truncated}
            record["teacher_prompt"] = row.teacher_messages[-1]["content"] if row.teacher_messages else None
            self.directory.append("rollouts.jsonl", record)

    def _summarise(self, status: str) -> None:
        evaluations = [
            read_json(path) for n in range(len(self.tasks) + 1) if (path := self.directory.evaluation(n)).exists()
        ]
        probes = list(self.directory.records("probes.jsonl"))
        seconds = sum(e["seconds"] for e in evaluations) + sum(p["seconds"] for p in probes)
        total, trainable = self.policy.parameter_counts()
        counts = {name: s["n"] for name, s in evaluations[0]["sets"].items()}
        model = self.config.model
        summary = build_run_summary(
            name=self.config.name,
            label=self.label,
            holdfast_version=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            recipe=dump_recipe(self.config.recipe),
            wiring=self.config.recipe.wiring(),
            seed=self.config.seed,
            order=[task.name for task in self.tasks],
            model={
                "path": model.path,
                "parameters": total,
                "trainable_parameters": trainable,
                "dtype": model.dtype,
            },
            status=status,
            sets=set_descriptions(self.tasks, self.suites, counts),
            evaluations=evaluations,
            metrics=list(self.directory.records("metrics.jsonl")),
            probes=probes,
            probe_items=self.config.eval.probe_items if probes else None,
            alarms=list(self.directory.records("alarms.jsonl")),
            eval_seconds=seconds,
        )
        write_json(self.directory.summary, summary)


def _try_verifier(each: Task | Suite) -> None:
    """Judge two answers, so that a verifier that cannot judge is found before anything is written."""
    if each.verifier is not None:
        for completion in ("", each.test[0].demonstration or "no answer"):
            each.verify(each.test[0], completion)


_EMPTY_BATCH = {"prompts": 0, "completions": 0, "generated_tokens": 0}
"""What a second step on the same rollouts adds to the budget."""


def _rollout_numbers(groups: list[Group], *, sampled: bool) -> dict[str, Any]:
    rows = [row for group in groups for row in group.rows]
    lengths = [len(row.completion_ids) for row in rows]
    judged = [row.verdict.reward for row in rows if row.verdict is not None]
    return {
        "reward": sum(judged) / len(judged) if judged else None,
        "completion_length": sum(lengths) / len(lengths),
        "repetition": sum(repetition(row.completion_ids) for row in rows) / len(rows),
        "truncated_fraction": sum(row.truncated for row in rows) / len(rows),
        "prompts": len(groups),
        "completions": len(rows) if sampled else 0,
        "generated_tokens": sum(lengths) if sampled else 0,
    }


def open_run(path: Path, observer: Observer | None = None) -> Run:
    """The run in a directory, as its resolved configuration says.

    Raises:
        RunError: it is no run directory.
    """
    directory = RunDirectory(path)
    if not directory.config.exists():
        raise RunError("is not a run directory: there is no config.yaml", where=str(path), mend="name one that is")
    config = load_config(directory.config, RunConfig)
    # Where there is no manifest, the run was killed before it began; only a comparison gives labels of its own.
    label = read_json(directory.manifest)["label"] if directory.manifest.exists() else None
    return Run(config, directory, label=label, observer=observer)

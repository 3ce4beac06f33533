"""Watch any training loop: retention probes, drift, artifacts and the guard, written to a run directory."""

import math
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn

from holdfast.config.template_kwargs import collision
from holdfast.data.failures import add_failures, count_failures
from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError, HoldfastError, ModelError, RunError
from holdfast.evaluation.set_answers import ScoredBy, SetAnswers
from holdfast.guard import Decision, GuardSettings
from holdfast.integrations.base_distributions import BaseDistributions, mean_kl
from holdfast.integrations.evaluation_mode import evaluation_mode, refuse_unsupported
from holdfast.integrations.metric_names import rename_metrics
from holdfast.integrations.probe_schedule import ProbeSchedule
from holdfast.integrations.questions import ItemName, Questions, answer_records, text_metrics
from holdfast.integrations.suites import load_suites
from holdfast.integrations.tokenizers import tokenizer_of
from holdfast.integrations.watched_guard import WatchedGuard
from holdfast.integrations.watched_run import WatchedRun
from holdfast.integrations.weight_snapshot import write_weights
from holdfast.model.load import as_policy
from holdfast.model.processes import Processes
from holdfast.summary.responses import Answers

PROBE_SHARE = 0.05
"""Default share of the training time that probes may take."""

LEFT_TO_THE_LOOP = "left to the training loop, which received the decision"
"""The outcome of a decision that asks for more than a warning when no `on_decision` was given."""


class Watcher:
    """Watches a model that a loop trains. It changes nothing about the training.

    Call `start`, then `step` after every optimizer step, then `finish`::

        watcher = Watcher(["data/arithmetic.jsonl"], output_dir="runs/watched")
        watcher.start(model, tokenizer)
        for batch in batches:
            watcher.step({"loss": train_on(batch)})
        watcher.finish()

    Args:
        suites: retention benchmarks; see `holdfast.integrations.suites.load_suites`.
        output_dir: the run directory: a new one, or that of a run that is resumed.
        items: how many of each suite's items are asked, from the first on.
        max_new_tokens: longest answer.
        probe_steps: optimizer steps between probes. None: as often as `probe_share` allows. 0: only start and end.
        probe_share: share of the training time that probes may take, if `probe_steps` is None.
        kl_items: prompts of each suite on which KL to the start's weights is measured; 0 leaves KL out.
        score: a suite's score is its share of answers with the full reward (accuracy), or its mean reward.
        guard: the guard's settings, or only its mode.
        on_decision: carries out what a decision asks for and returns the outcome in words. Called on every process.
            None: decisions are recorded and returned, and the caller carries them out.
        reward_range: the lowest and highest reward of this training; the guard's bounds are scaled to it. None: 0 to 1
            until a reward is well outside; from then on the range seen so far, with a warning.
        drift: whether to write the trained weights to disk at the start, so that drift can be measured at the end.
        task: name of the training in the report.
        demonstrations: completions that the model is trained on, as text. Phrases that grow in its answers are compared
            with them.
        batch_tokens: tokens of one forward pass, a bound on memory; see `Sampler.generate`.
        chat_template_kwargs: passed to the chat template.
    """

    def __init__(
        self,
        suites: Sequence[str | Path | Suite | Task],
        output_dir: str | Path,
        *,
        items: int = 32,
        max_new_tokens: int = 128,
        probe_steps: int | None = None,
        probe_share: float = PROBE_SHARE,
        kl_items: int = 8,
        score: ScoredBy = "accuracy",
        guard: GuardSettings | Literal["warn", "act", "off"] = "warn",
        on_decision: Callable[[Decision], str] | None = None,
        reward_range: tuple[float, float] | None = None,
        drift: bool = True,
        task: str = "training",
        demonstrations: Sequence[str] = (),
        batch_tokens: int = 16384,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value, least in (
            ("items", items, 1),
            ("max_new_tokens", max_new_tokens, 1),
            ("kl_items", kl_items, 0),
        ):
            if value < least:
                raise ConfigError(f"{name} is {value}", fix=f"set it to {least} or more")
        if not 0 < probe_share < 1:
            raise ConfigError(f"probe_share is {probe_share}", fix="set it between 0 and 1, such as 0.05")
        if reward_range is not None and not reward_range[0] < reward_range[1]:
            raise ConfigError(f"reward_range is {reward_range}", fix="give the lowest reward, then the highest")
        if problem := collision(chat_template_kwargs or {}):
            raise ConfigError(f"chat_template_kwargs: {problem}")
        if isinstance(demonstrations, str):
            raise ConfigError("demonstrations is one text", fix="give a list of texts")
        self.suites = load_suites(suites, items)
        if task in {suite.name for suite in self.suites}:
            raise ConfigError(f"task and suite are both named {task!r}", fix="give another `task` name")
        self.guard = guard if isinstance(guard, GuardSettings) else GuardSettings(mode=guard)
        self.on_decision = on_decision or (
            lambda decision: "warned" if decision.actions == ("warn",) else LEFT_TO_THE_LOOP
        )
        self.run = WatchedRun(Path(output_dir), self.suites, task, items, self.guard, demonstrations)
        self._reward_range = reward_range
        self.task, self.score = task, score
        self._max_new_tokens, self._batch_tokens = max_new_tokens, batch_tokens
        self._kl_items, self._drift = kl_items, drift
        self._kwargs = dict(chat_template_kwargs or {})
        self._schedule = ProbeSchedule(probe_share, probe_steps)
        self._started = False

    def start(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        step: int = 0,
        trainer: str = "loop",
        autocast: torch.dtype | None = None,
        counts_anew: bool = False,
    ) -> None:
        """Evaluate the model before its first step or, with `step`, take up the record of a resumed training.

        Args:
            model: a transformers model, or one inside a PEFT model. It is watched from now on.
            tokenizer: with a chat template, or a processor that has such a tokenizer.
            step: optimizer steps taken so far, 0 for a new training. Otherwise the run directory is continued, and its
                records of later steps are removed.
            trainer: name of the trainer in the report.
            autocast: dtype of the forward passes, if it differs from the weights' dtype.
            counts_anew: whether the trainer's `num_tokens` restarts at 0 when it resumes.

        Raises:
            HoldfastError: the model or the run directory cannot be used.
        """
        refuse_unsupported(model)
        self.model, self._autocast = model, autocast
        self.world = Processes(dist.get_rank(), dist.get_world_size()) if _is_distributed() else Processes()
        self.global_step, self._seconds = step, 0.0
        tokenizer = tokenizer_of(tokenizer)
        if step:
            self.world.main(lambda: self.run.resume_at(step))
        else:
            self.world.main(self.run.create)
        with evaluation_mode(model):
            self.policy = as_policy(model, tokenizer, where="the watched model", chat_template_kwargs=self._kwargs)
            self.questions = Questions(
                self.policy, self.suites, self.world, self._max_new_tokens, self._batch_tokens, self.score
            )
        self.run.describe(self.policy, trainer)
        has_start = self.world.main(self.run.has_start)
        self._total_tokens = self.world.main(self.run.total_tokens)
        # If the training began without a watcher, the tokens before this point are unknown.
        self._counted_tokens = 0.0 if counts_anew or not step else self._total_tokens if has_start else None
        seconds = self._load_start() if has_start else self._evaluate_start()
        if self.world.is_main:
            self._guard = WatchedGuard(
                self.guard,
                reward_range=self._reward_range,
                reference=self.run.start_scores(),
                probe_items={suite.name: len(suite.test) for suite in self.suites},
                first=self.first,
                records=self.run.records,
            )
        self._started = True
        self._schedule.begin(seconds)

    def _evaluate_start(self) -> float:
        """Evaluate the start and keep the results. Returns the seconds that asking took."""
        began = time.perf_counter()
        with evaluation_mode(self.model, self._autocast):
            answers = self.questions.answer()
            names, completions = self.questions.sample(self._kl_items)
            prompts = [self.questions.prompt_ids[name] for name in names]
            self.base = BaseDistributions.of(self.policy, names, prompts, completions, self._batch_tokens)
        seconds = time.perf_counter() - began
        self.first: Answers = answer_records(answers)

        def keep() -> None:
            if self._drift:
                self._keep_weights(self.run.start / "weights")
            self.run.keep_start(self.first, self.base, self.questions.evaluation(0, None, answers), seconds)
            self.run.summarize("running")

        self.world.main(keep)
        return seconds

    def _keep_weights(self, folder: Path) -> None:
        try:
            with evaluation_mode(self.model):
                write_weights(self.model, folder)
        except ModelError as error:
            warnings.warn(f"drift is not measured: {error}", stacklevel=2)
            shutil.rmtree(folder)

    def _load_start(self) -> float:
        """Load what the start kept. Returns the seconds that asking took then."""

        def load() -> float:
            self.first, names, completions, seconds = self.run.load_start()
            prompts = [self.questions.prompt_ids[name] for name in names]
            path = self.run.start / "base.safetensors"
            self.base = BaseDistributions.load(path, names, prompts, completions)
            return seconds

        return self.world.main(load)

    def step(self, metrics: Mapping[str, Any] | None = None) -> list[Decision]:
        """Record that an optimizer step was taken, and probe if a probe is due.

        Args:
            metrics: of the step, under our names or a trainer's; see `holdfast.integrations.metric_names.METRIC_NAMES`.

        Returns:
            The guard's decisions, with their outcomes.
        """
        self._require_start()
        self.count(self.global_step + 1)
        decisions = self.see(metrics) if metrics else []
        return decisions + self.probe_if_due()

    @property
    def is_started(self) -> bool:
        return self._started

    def skip(self) -> None:
        """The time since the last step was not training time, such as an evaluation or a checkpoint."""
        self._schedule.skip()

    def _decide(self, new: Sequence[Decision]) -> list[Decision]:
        """Have decisions carried out, and record them with their outcomes."""
        decided = [replace(decision, outcome=self.on_decision(decision)) for decision in new]

        def write() -> None:
            for decision in decided:
                self.run.append("decisions.jsonl", decision.as_json())
                where = f"{decision.rule} at step {decision.step}"
                warnings.warn(f"{where}: {decision.message} ({decision.outcome})", stacklevel=6)

        if decided:
            self.world.main(write)
        return decided

    def count(self, step: int) -> None:
        """Optimizer step `step` has just ended."""
        self.global_step = step
        self._seconds += self._schedule.step()

    def see(self, metrics: Mapping[str, Any]) -> list[Decision]:
        """Take in the metrics of the steps since the last call. Every process must call it."""
        self._require_start()
        began = time.perf_counter()
        known = rename_metrics(metrics)
        known |= self._count_tokens(known.pop("num_tokens", None))
        line = {"stage": 1, "step": self.global_step, "task": self.task, **known, "seconds": self._seconds}
        self._seconds = 0.0

        def apply_rules() -> list[Decision]:
            new = self._guard.see(line)
            self.run.append("metrics.jsonl", line)
            return new

        decisions = self._decide(self.world.main(apply_rules))
        self._schedule.spent(time.perf_counter() - began)
        return decisions

    def _count_tokens(self, count: float | None) -> dict[str, float]:
        """From a trainer's running count of tokens: the tokens since the last line, and the total."""
        if count is None:
            return {}
        before, self._counted_tokens = self._counted_tokens, count
        if before is None:
            return {}
        grown = max(0.0, count - before)
        self._total_tokens += grown
        return {"trained_tokens": grown, "num_tokens": self._total_tokens}

    def see_gradients(self) -> list[Decision]:
        """Check that the gradients are finite. Call it before the optimizer applies them.

        Every process must call it. The gradients must be those of all processes together, as under DDP.
        """
        self._require_start()
        if self.guard.mode == "off" or not self.guard.rules.not_finite.action:
            return []
        began = time.perf_counter()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None and not p.grad.is_sparse]
        norm = float(nn.utils.get_total_norm(gradients)) if gradients else 0.0
        if not math.isfinite(norm):
            # The squares of large, finite gradients may overflow. The largest entry does not, but takes longer.
            norm = float(nn.utils.get_total_norm(gradients, math.inf))
        self._schedule.spent_within_step(time.perf_counter() - began)
        if math.isfinite(norm):
            return []
        step = self.global_step + 1
        return self._decide(self.world.main(lambda: self._guard.see_gradients(step, self.task, norm)))

    def probe_if_due(self) -> list[Decision]:
        """Probe if the schedule says so. Every process must call it after the same steps."""
        if self._schedule.needs_plan():
            # Processes measure different times. The main process decides, or they would probe at different steps.
            self._schedule.set_plan(self.world.main(self._schedule.plan))
        return self.probe() if self._schedule.is_due(self.global_step) else []

    def probe(self) -> list[Decision]:
        """Evaluate the model now and add a line to `probes.jsonl`. Returns the guard's decisions."""
        self._require_start()
        began = time.perf_counter()
        if (asked := self._ask()) is None:
            self._schedule.probed(time.perf_counter() - began)
            return []
        answers, kl_sums = asked
        records, kl = answer_records(answers), mean_kl(kl_sums)
        line: dict[str, Any] = {
            "stage": 1,
            "step": self.global_step,
            "task": self.task,
            "scores": self._scores(answers),
            "nll": {name: v for name, own in answers.items() if (v := own.mean_nll()) is not None},
            "kl_to_base": None if kl is None else kl.mean,
            **text_metrics(answers),
            "answers": {name: list(own.texts) for name, own in answers.items()},
            **add_failures(count_failures(own.judged) for own in answers.values()),
        }
        line["seconds"] = time.perf_counter() - began

        def apply_rules() -> list[Decision]:
            self.run.append("probes.jsonl", line)
            return self._guard.see_probe(line, records)

        new = self.world.main(apply_rules)
        self._schedule.probed(time.perf_counter() - began)
        return self._decide(new)

    def _scores(self, answers: Mapping[str, SetAnswers]) -> dict[str, float]:
        """Mean score of each judged suite."""
        return {name: v for name, own in answers.items() if (v := own.mean_score(self.score)) is not None}

    def _ask(self) -> tuple[dict[str, SetAnswers], dict[ItemName, tuple[float, int]]] | None:
        """Greedy answers, and KL sums by prompt. None, with a warning, if the model cannot answer, as with NaN weights.

        An error here must not end someone else's training.
        """
        with evaluation_mode(self.model, self._autocast):
            try:
                answers = self.questions.answer()
                return answers, self.world.main(lambda: self.base.kl(self.policy, self._batch_tokens))
            except RunError as error:
                warnings.warn(f"the model cannot answer any more: {error}", stacklevel=5)
                return None

    def finish(
        self,
        *,
        status: Literal["complete", "stopped"] = "complete",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Evaluate the end, measure what changed since the start and write the summary.

        Args:
            status: `stopped` if the training ended early.
            progress: receives the progress of the drift measurement; see `holdfast.evaluation.drift.drift`.

        Returns:
            The summary. If the model can no longer answer, its status is `stopped` and it has no evaluation of the end.
        """
        self._require_start()
        began = time.perf_counter()
        if (asked := self._ask()) is None:
            return self.world.main(lambda: self.run.summarize("stopped"))
        answers, kl_sums = asked
        kl = mean_kl(kl_sums)
        end = {"stage": 1, "step": max(1, self.global_step), "task": self.task}
        end |= {"scores": self._scores(answers), "kl_to_base": None if kl is None else kl.mean}
        self._decide(self.world.main(lambda: self._guard.see_end(end)))

        def write() -> dict[str, Any]:
            evaluation = self.questions.evaluation(1, self.task, answers)
            divergence: dict[str, Any] = {}
            for name, metrics in evaluation.sets.items():
                if (kl := mean_kl(kl_sums, name)) is not None:
                    metrics |= {"kl_to_base": kl.mean, "kl_to_base_se": kl.se}
                    divergence[name] = {"n_kl": kl.prompts, "kl_base_to_model": kl.mean, "kl_base_to_model_se": kl.se}
            records = answer_records(answers)
            self.run.keep_end(records, self.first, divergence, evaluation, time.perf_counter() - began)
            self._measure_drift(progress)
            return self.run.summarize(status)

        summary = self.world.main(write)
        self._schedule.skip()
        return summary

    def _measure_drift(self, progress: Callable[[str, int, int], None] | None) -> None:
        """Compare the weights with those of the start. The copy of the end's weights is deleted afterwards."""
        first, last = self.run.start / "weights", self.run.start / "weights-now"
        if not first.is_dir():
            return
        from holdfast.evaluation.drift import drift

        try:
            with evaluation_mode(self.model):
                write_weights(self.model, last)
            self.run.keep_drift(drift(first, last, earlier=(), progress=progress))
        except HoldfastError as error:
            warnings.warn(f"drift is not measured: {error}", stacklevel=2)
        finally:
            shutil.rmtree(last, ignore_errors=True)

    def _require_start(self) -> None:
        if not self._started:
            raise RunError("the watcher was not started", fix="call start(model, tokenizer) before the first step")


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1

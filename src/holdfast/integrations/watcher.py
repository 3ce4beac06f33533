"""A watcher for any training loop: probes, drift, artifacts and the guard, in a run directory of its own."""

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

from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError, HoldfastError, RunError
from holdfast.guard import Decision, GuardSettings
from holdfast.integrations.guards import Guards
from holdfast.integrations.kept_base import KeptBase, mean_kl
from holdfast.integrations.names import translate
from holdfast.integrations.pace import QuestionRate
from holdfast.integrations.questions import Name, Questions, Reply, answers_by_set, reading
from holdfast.integrations.record import WatchedRun
from holdfast.integrations.snapshot import write_weights
from holdfast.integrations.suites import load_suites
from holdfast.integrations.undisturbed import refuse_unusable, undisturbed
from holdfast.model.load import as_policy
from holdfast.model.processes import Processes
from holdfast.summary.responses import Answers

SHARE = 0.05
"""Of the training's time, for probes, where no cadence is set."""

LEFT = "left to the loop, which was told"
"""The outcome of a decision that asks for more than a warning where nothing was given to carry it out."""


class Watcher:
    """Watches a model that a loop trains, and changes nothing about its training.

    `start`, then `step` after every optimizer step, then `finish`::

        watcher = Watcher(["data/arithmetic.jsonl"], output_dir="runs/watched")
        watcher.start(model, tokenizer)
        for batch in batches:
            watcher.step({"loss": train_on(batch)})
        watcher.finish()

    Args:
        suites: what the model is asked; see `holdfast.integrations.suites.load_suites`.
        output_dir: the run directory, new or of a run that is resumed; `holdfast report` shows it.
        items: asked of each suite, from the first on.
        max_new_tokens: of an answer.
        probe_steps: optimizer steps between probes; None: as often as `probe_share` pays for; 0: only start and end.
        probe_share: of the time of training that probes may take, where `probe_steps` is None.
        kl_items: prompts of each suite for KL to the start's weights; 0 leaves it out.
        score: what a suite is scored by, the share of answers with the full reward or the mean reward.
        guard: the guard's settings, or its mode alone.
        on_decision: carries out what a decision asks for, and says in words what came of it; called on every process.
            None: decisions are written down, and what they ask for is left to whoever reads them.
        reward_range: the lowest and the highest reward that the training can give, which the guard's bounds are taken
            on. None: 0 to 1, until a reward lies well beyond; then the range seen so far, which a warning says.
        drift: whether the trained weights are kept at the start, on disk, to measure the drift at the end.
        task: what the training is called in the report.
        demonstrations: completions that it is trained on, as text; what has grown in the answers is compared with them.
        batch_tokens: memory's measure of one forward pass; see `Sampler.generate`.
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
        probe_share: float = SHARE,
        kl_items: int = 8,
        score: Literal["accuracy", "reward"] = "accuracy",
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
                raise ConfigError(f"{name} is {value}", fix=f"it is at least {least}")
        if not 0 < probe_share < 1:
            raise ConfigError(f"probe_share is {probe_share}", fix="it is a share of 1, such as 0.05")
        if reward_range is not None and not reward_range[0] < reward_range[1]:
            raise ConfigError(f"reward_range is {reward_range}", fix="give the lowest reward, then the highest")
        if isinstance(demonstrations, str):
            raise ConfigError("demonstrations is one text", fix="give a list of them")
        self.suites = load_suites(suites, items)
        if task in {suite.name for suite in self.suites}:
            raise ConfigError(f"task and suite are both named {task!r}", fix="name the task otherwise")
        self.guard = guard if isinstance(guard, GuardSettings) else GuardSettings(mode=guard)
        self.on_decision = on_decision or (lambda decision: "warned" if decision.actions == ("warn",) else LEFT)
        self.record = WatchedRun(Path(output_dir), self.suites, task, items, self.guard, demonstrations)
        self._reward_range = reward_range
        self.task, self.score = task, score
        self._max_new_tokens, self._batch_tokens = max_new_tokens, batch_tokens
        self._kl_items, self._drift = kl_items, drift
        self._kwargs = dict(chat_template_kwargs or {})
        self._pace = QuestionRate(probe_share, probe_steps)
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
        """Look at a model for the first time, before its first step or, with `step`, where its training goes on.

        Args:
            model: a transformers model, or one inside a PEFT model; watched from now on.
            tokenizer: with a chat template.
            step: optimizer steps that it has taken, 0 for a new run. The run directory is then gone on with, and
                what it says of later steps is taken back.
            trainer: what trains it, for the report.
            autocast: the dtype that forward passes are computed in, where it is another than the weights'.
            counts_anew: whether its `num_tokens` begins at 0 when it is resumed.

        Raises:
            HoldfastError: the model or the run directory cannot be used.
        """
        refuse_unusable(model)
        self.model, self._autocast = model, autocast
        self.world = Processes(dist.get_rank(), dist.get_world_size()) if _is_distributed() else Processes()
        self.global_step, self._seconds = step, 0.0
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        if not getattr(tokenizer, "chat_template", None):
            raise ConfigError("has no chat template", where="the tokenizer", fix="set tokenizer.chat_template")
        if step:
            self.world.main(lambda: self.record.go_on(step))
        else:
            self.world.main(self.record.create)
        with undisturbed(model):
            self.policy = as_policy(model, tokenizer, where="the watched model", chat_template_kwargs=self._kwargs)
            self.questions = Questions(self.policy, self.suites, self.world, self._max_new_tokens, self._batch_tokens)
        self.record.describe(self.policy, trainer)
        is_known = self.world.main(self.record.has_start)
        self._total_tokens = self.world.main(self.record.total_tokens)
        # Of a training that was begun without a watcher the tokens before are not known.
        self._counted = 0.0 if counts_anew or not step else self._total_tokens if is_known else None
        expected = self._restore() if is_known else self._look_at_start()
        if self.world.is_main:
            self._guards = Guards(
                self.guard,
                reward_range=self._reward_range,
                reference=self.record.scores_of_start(),
                probe_items={suite.name: len(suite.test) for suite in self.suites},
                first=self.first,
                records=self.record.records,
            )
        self._started = True
        self._pace.begin(expected)

    def _look_at_start(self) -> float:
        """Ask and keep; the seconds that asking took."""
        began = time.perf_counter()
        with undisturbed(self.model, self._autocast):
            replies = self.questions.answer()
            names, completions = self.questions.sample(self._kl_items)
            prompts = [self.questions.prompts[name] for name in names]
            self.base = KeptBase.of(self.policy, names, prompts, completions, self._batch_tokens)
        seconds = time.perf_counter() - began
        self.first: Answers = answers_by_set(self.suites, replies)

        def keep() -> None:
            if self._drift:
                self._keep_weights(self.record.start / "weights")
            self.record.keep_start(self.first, self.base, self.questions.evaluation(replies, self.score), seconds)
            self.record.summarize("running")

        self.world.main(keep)
        return seconds

    def _keep_weights(self, folder: Path) -> None:
        try:
            write_weights(self.model, folder)
        except TypeError as error:
            warnings.warn(f"drift is left out: {error}", stacklevel=2)
            shutil.rmtree(folder)

    def _restore(self) -> float:
        """Take back what was kept; the seconds that asking took then."""

        def read() -> float:
            self.first, names, completions, seconds = self.record.load_start()
            prompts = [self.questions.prompts[name] for name in names]
            self.base = KeptBase.load(self.record.start / "base.safetensors", names, prompts, completions)
            return seconds

        return self.world.main(read)

    def step(self, numbers: Mapping[str, Any] | None = None) -> list[Decision]:
        """An optimizer step was taken; probes where that is due.

        Args:
            numbers: what is known of it, under our names or a trainer's; see `holdfast.integrations.names.NAMES`.

        Returns:
            The guard's decisions, with what came of them.
        """
        self._require_start()
        self.count(self.global_step + 1)
        decisions = self.see(numbers) if numbers else []
        return decisions + self.probe_if_due()

    @property
    def is_started(self) -> bool:
        return self._started

    def skip(self) -> None:
        """What has passed since the last step was not training."""
        self._pace.skip()

    def _decide(self, found: Sequence[Decision]) -> list[Decision]:
        """Have decisions carried out, and write down what came of them."""
        decided = [replace(decision, outcome=self.on_decision(decision)) for decision in found]

        def written() -> None:
            for decision in decided:
                self.record.append("decisions.jsonl", decision.as_json())
                where = f"{decision.rule} at step {decision.step}"
                warnings.warn(f"{where}: {decision.message} ({decision.outcome})", stacklevel=6)

        if decided:
            self.world.main(written)
        return decided

    def count(self, step: int) -> None:
        """Optimizer step `step` has ended just now."""
        self.global_step = step
        self._seconds += self._pace.step()

    def see(self, numbers: Mapping[str, Any]) -> list[Decision]:
        """Take in the numbers of the steps since the last call; on several processes all must call it."""
        self._require_start()
        began = time.perf_counter()
        known = translate(numbers)
        known |= self._count_tokens(known.pop("num_tokens", None))
        line = {"stage": 1, "step": self.global_step, "task": self.task, **known, "seconds": self._seconds}
        self._seconds = 0.0

        def seen() -> list[Decision]:
            found = self._guards.see(line)
            self.record.append("metrics.jsonl", line)
            return found

        decisions = self._decide(self.world.main(seen))
        self._pace.spent(time.perf_counter() - began)
        return decisions

    def _count_tokens(self, count: float | None) -> dict[str, float]:
        """What a trainer's count of all tokens says of those since the last line, and the total with them."""
        if count is None:
            return {}
        before, self._counted = self._counted, count
        if before is None:
            return {}
        grown = max(0.0, count - before)
        self._total_tokens += grown
        return {"trained_tokens": grown, "num_tokens": self._total_tokens}

    def see_gradients(self) -> list[Decision]:
        """Called before the optimizer moves the weights: looks whether the gradients that it will move by are finite.

        On several processes all must call it, and the gradients must be those of all, as under DDP.
        """
        self._require_start()
        if self.guard.mode == "off" or not self.guard.rules.not_finite.action:
            return []
        began = time.perf_counter()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None and not p.grad.is_sparse]
        norm = float(nn.utils.get_total_norm(gradients)) if gradients else 0.0
        if not math.isfinite(norm):
            # Squares overflow where gradients are large but finite. The largest entry does not, and takes longer.
            norm = float(nn.utils.get_total_norm(gradients, math.inf))
        self._pace.aside(time.perf_counter() - began)
        if math.isfinite(norm):
            return []
        step = self.global_step + 1
        return self._decide(self.world.main(lambda: self._guards.see_gradients(step, self.task, norm)))

    def probe_if_due(self) -> list[Decision]:
        """Probe where the cadence says so; on several processes all must call it after the same steps."""
        if self._pace.wants_plan():
            self._pace.set_plan(self.world.main(self._pace.plan))
        return self.probe() if self._pace.is_due(self.global_step) else []

    def probe(self) -> list[Decision]:
        """Ask the model now, and write a line of `probes.jsonl`; the guard's decisions that follow."""
        self._require_start()
        began = time.perf_counter()
        if (asked := self._ask()) is None:
            self._pace.looked_for(time.perf_counter() - began)
            return []
        replies, sums = asked
        answers = answers_by_set(self.suites, replies)
        scores = {name: sum(v) / len(v) for name, v in self.questions.scores(replies, self.score).items()}
        kl = mean_kl(sums)
        line: dict[str, Any] = {
            "stage": 1,
            "step": self.global_step,
            "task": self.task,
            "scores": scores,
            "kl_to_base": None if kl is None else kl.mean,
            **reading(replies),
            "answers": {name: [each["text"] for each in own] for name, own in answers.items()},
        }
        line["seconds"] = time.perf_counter() - began

        def seen() -> list[Decision]:
            self.record.append("probes.jsonl", line)
            return self._guards.see_probe(line, answers)

        found = self.world.main(seen)
        self._pace.looked_for(time.perf_counter() - began)
        return self._decide(found)

    def _ask(self) -> tuple[dict[Name, Reply], dict[Name, tuple[float, int]]] | None:
        """What the model says now; None, with a warning, where it says nothing any more, as one of NaNs.

        Somebody else's training is not ended by that.
        """
        with undisturbed(self.model, self._autocast):
            try:
                replies = self.questions.answer()
                return replies, self.world.main(lambda: self.base.kl(self.policy, self._batch_tokens))
            except RunError as error:
                warnings.warn(f"the model cannot be asked any more: {error}", stacklevel=5)
                return None

    def finish(
        self,
        *,
        status: Literal["complete", "stopped"] = "complete",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Look at the model for the last time, measure what changed and write the summary.

        Args:
            status: `stopped` where the training ended before it was to.
            progress: told how far the drift is; see `holdfast.evaluate.drift.drift`.

        Returns:
            The summary; of a model that can no longer be asked it says `stopped`, and nothing of how it ended.
        """
        self._require_start()
        began = time.perf_counter()
        if (asked := self._ask()) is None:
            return self.world.main(lambda: self.record.summarize("stopped"))
        replies, sums = asked

        def written() -> dict[str, Any]:
            evaluation = self.questions.evaluation(replies, self.score)
            divergence: dict[str, Any] = {}
            for name, values in evaluation["sets"].items():
                if (kl := mean_kl(sums, name)) is not None:
                    values |= {"kl_to_base": kl.mean, "kl_to_base_se": kl.se}
                    divergence[name] = {"n_kl": kl.prompts, "kl_base_to_model": kl.mean, "kl_base_to_model_se": kl.se}
            answers = answers_by_set(self.suites, replies)
            self.record.keep_end(answers, self.first, divergence, evaluation, time.perf_counter() - began)
            self._measure_drift(progress)
            return self.record.summarize(status)

        summary = self.world.main(written)
        self._pace.skip()
        return summary

    def _measure_drift(self, progress: Callable[[str, int, int], None] | None) -> None:
        """Compare the weights with those of the start; what was kept for that goes."""
        first, last = self.record.start / "weights", self.record.start / "weights-now"
        if not first.is_dir():
            return
        from holdfast.evaluate.drift import drift

        try:
            write_weights(self.model, last)
            self.record.keep_drift(drift(first, last, earlier=(), progress=progress))
        except HoldfastError as error:
            warnings.warn(f"drift is left out: {error}", stacklevel=2)
        finally:
            shutil.rmtree(last, ignore_errors=True)

    def _require_start(self) -> None:
        if not self._started:
            raise RunError("the watcher was not started", fix="call start(model, tokenizer) before the first step")


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1

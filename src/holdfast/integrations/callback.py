"""A callback for transformers and TRL trainers: retention probes, drift, artifacts and the guard."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError
from holdfast.guard import Decision
from holdfast.integrations.trainer_actions import TrainerActions
from holdfast.integrations.watcher import Watcher

WINDOWS = {"GRPO": 4, "SDPO": 4, "SDFT": 2}
"""By trainer, how many windows of logged lines the guard's rules need before one can fire.

Rules over rewards need four, others two. Trainers that are not listed log nothing that these rules read.
"""

COUNTS_ANEW = "SFT"
"""The trainer whose `num_tokens` restarts at 0 when it resumes. GRPO keeps it in the checkpoint."""


class HoldfastCallback(TrainerCallback):
    """Watches the training of a `transformers.Trainer`, or of TRL's SFT, GRPO, SDFT or SDPO trainer.

    ::

        from holdfast.integrations import HoldfastCallback
        trainer = SFTTrainer(..., callbacks=[HoldfastCallback(["data/arithmetic.jsonl"], output_dir="runs/watched")])
        trainer.train()

    The training is the same, bit for bit, unless the guard acts.

    Args:
        suites, output_dir, settings: see `holdfast.integrations.Watcher`. With `guard="act"`, or settings of that mode,
            the callback does what a rule asks for, as far as a callback can. The decision's outcome says what it did.
    """

    def __init__(self, suites: Sequence[str | Path | Suite | Task], output_dir: str | Path, **settings: Any) -> None:
        self.watcher = Watcher(suites, output_dir, on_decision=self._carry_out, **settings)
        self._actions = TrainerActions(self.watcher.guard)
        self._event: tuple[TrainingArguments, TrainerState, TrainerControl, dict[str, Any]] | None = None
        self._is_before_update = False

    def _carry_out(self, decision: Decision) -> str:
        assert self._event is not None
        outcome = self._actions.carry_out(decision, *self._event)
        if self._is_before_update and decision.actions != ("warn",):
            outcome += "; " + self._actions.drop_gradients(self._event[-1]["model"])
        return outcome

    def _warn_of_few_logs(self, kinds: Sequence[str], args: TrainingArguments, state: TrainerState) -> None:
        """Warn if the training logs too few lines for the guard's rules to fire."""
        lines = [WINDOWS[kind] * self.watcher.guard.window for kind in kinds if kind in WINDOWS]
        if not lines or self.watcher.guard.mode == "off" or not state.is_world_process_zero:
            return
        every = max(1, int(state.logging_steps))
        logged = state.max_steps // every if args.logging_strategy == "steps" else 0
        if logged >= lines[0]:
            return
        if state.max_steps < lines[0]:
            fix = f"The training is too short for the guard's window of {self.watcher.guard.window}."
        elif args.logging_strategy != "steps":
            fix = "Set logging_strategy='steps'."
        else:
            fix = f"Set logging_steps={state.max_steps // lines[0]} or less."
        what = "logged metrics" if "SDFT" in kinds else "the reward"
        warnings.warn(
            f"the guard's rules over {what} cannot fire: they need {lines[0]} logged lines, but {logged} of "
            f"{state.max_steps} steps will be logged. {fix}",
            stacklevel=3,
        )

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        kinds = [kind.__name__.removesuffix("Config").removesuffix("Arguments") for kind in type(args).__mro__]
        trainer = kinds[0]
        self._warn_of_few_logs(kinds, args, state)
        processing_class = kwargs.get("processing_class")
        if processing_class is None:
            what = "the trainer was made without a processing_class, so there is no tokenizer to ask the model with"
            raise ConfigError(what, where="HoldfastCallback", fix="give processing_class=tokenizer to the trainer")
        self.watcher.start(
            kwargs["model"],
            processing_class,
            step=state.global_step,
            trainer={"Training": "transformers"}.get(trainer, trainer),
            autocast=torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None,
            counts_anew=COUNTS_ANEW in kinds,
        )

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._actions.before_step(args, kwargs["model"])

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.fp16:  # the loss scaler checks the gradients itself and skips such a step
            return
        self._event, self._is_before_update = (args, state, control, kwargs), True
        try:
            self.watcher.see_gradients()
        finally:
            self._is_before_update = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._event = args, state, control, kwargs
        self.watcher.count(state.global_step)
        if state.global_step < state.max_steps:  # the end is evaluated in full anyway
            self.watcher.probe_if_due()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> TrainerControl:
        # Evaluations log "eval_loss" and the end of training "train_loss". Only steps log "loss".
        if not logs or "loss" not in logs or not self.watcher.is_started:
            return control
        self._event = args, state, control, kwargs
        self.watcher.see(logs)
        return control

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.watcher.skip()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.watcher.skip()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        ended_early = self._actions.has_ended and state.global_step < state.max_steps
        self.watcher.finish(status="stopped" if ended_early else "complete")

"""holdfast in a transformers or TRL trainer: retention probes, drift, artifacts and the guard, as a callback."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.data.task import Suite, Task
from holdfast.guard import Decision
from holdfast.integrations.actions import Actions
from holdfast.integrations.watcher import Watcher

WINDOWS = {"GRPO": 4, "SDPO": 4, "SDFT": 2}
"""Windows of logged lines that the guard's rules need before they can fire: four for rewards, two for other numbers.

The trainers that log what such rules are about.
"""

COUNTS_ANEW = "SFT"
"""The trainer whose `num_tokens` begins at 0 when it is resumed; GRPO's is part of the checkpoint."""


class HoldfastCallback(TrainerCallback):
    """Watches the training of a `transformers.Trainer`, or of TRL's SFT, GRPO, SDFT or SDPO trainer.

    ::

        from holdfast.integrations import HoldfastCallback
        trainer = SFTTrainer(..., callbacks=[HoldfastCallback(["data/arithmetic.jsonl"], output_dir="runs/watched")])
        trainer.train()

    The training itself stays as it is, bit for bit, unless the guard acts.

    Args:
        suites, output_dir, settings: see `holdfast.integrations.Watcher`. With `guard="act"`, or settings of that mode,
            what a rule asks for is done as far as a callback can, and the decision's outcome says what was.
    """

    def __init__(self, suites: Sequence[str | Path | Suite | Task], output_dir: str | Path, **settings: Any) -> None:
        self.watcher = Watcher(suites, output_dir, on_decision=self._carry_out, **settings)
        self._actions = Actions(self.watcher.guard)
        self._event: tuple[TrainingArguments, TrainerState, TrainerControl, dict[str, Any]] | None = None
        self._is_moving = False

    def _carry_out(self, decision: Decision) -> str:
        assert self._event is not None
        outcome = self._actions.carry_out(decision, *self._event)
        if self._is_moving and decision.actions != ("warn",):
            outcome += "; " + self._actions.drop_gradients(self._event[-1]["model"])
        return outcome

    def _warn_of_blindness(self, kinds: Sequence[str], args: TrainingArguments, state: TrainerState) -> None:
        """Say where too few lines are logged for the guard's rules over them."""
        lines = [WINDOWS[kind] * self.watcher.guard.window for kind in kinds if kind in WINDOWS]
        if not lines or self.watcher.guard.mode == "off" or not state.is_world_process_zero:
            return
        every = max(1, int(state.logging_steps))
        logged = state.max_steps // every if args.logging_strategy == "steps" else 0
        if logged >= lines[0]:
            return
        if state.max_steps < lines[0]:
            fix = f"the training is too short for them with the guard's window of {self.watcher.guard.window}"
        elif args.logging_strategy != "steps":
            fix = "set logging_strategy='steps'"
        else:
            fix = f"set logging_steps={state.max_steps // lines[0]} or less"
        what = "what is logged" if "SDFT" in kinds else "the reward"
        warnings.warn(
            f"the guard's rules over {what} will see nothing: they need {lines[0]} logged lines, and of "
            f"{state.max_steps} steps {logged} are logged; {fix}",
            stacklevel=3,
        )

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        kinds = [kind.__name__.removesuffix("Config").removesuffix("Arguments") for kind in type(args).__mro__]
        trainer = kinds[0]
        self._warn_of_blindness(kinds, args, state)
        self.watcher.start(
            kwargs["model"],
            kwargs["processing_class"],
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
        if args.fp16:  # the loss scaler looks itself, and leaves such a step out
            return
        self._event, self._is_moving = (args, state, control, kwargs), True
        try:
            self.watcher.see_gradients()
        finally:
            self._is_moving = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._event = args, state, control, kwargs
        self.watcher.count(state.global_step)
        if state.global_step < state.max_steps:  # at the end all is measured anyway
            self.watcher.probe_if_due()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> TrainerControl:
        # Evaluations log "eval_loss", the end of training "train_loss"; only steps log "loss".
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
        is_cut = self._actions.has_ended and state.global_step < state.max_steps
        self.watcher.finish(status="stopped" if is_cut else "complete")

"""holdfast in a transformers or TRL trainer: retention probes, drift, artifacts and the guard, as a callback."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.guard import Decision
from holdfast.integrations.actions import Actions
from holdfast.integrations.watcher import Watcher
from holdfast.tasks.base import Suite, Task


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
        self._actions = Actions(self.watcher.guard.rate_factor)
        self._event: tuple[TrainingArguments, TrainerState, TrainerControl, dict[str, Any]] | None = None

    def _carry_out(self, decision: Decision) -> str:
        assert self._event is not None
        return "; ".join(self._actions.carry_out(action, *self._event) for action in decision.actions)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trainer = type(args).__name__.removesuffix("Config").removesuffix("Arguments")
        self.watcher.start(
            kwargs["model"],
            kwargs["processing_class"],
            step=state.global_step,
            trainer={"Training": "transformers"}.get(trainer, trainer),
            autocast=torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None,
        )

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._actions.before_step(args, kwargs["model"])

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
        self.watcher.finish()

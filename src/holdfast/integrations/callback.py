"""holdfast in a transformers or TRL trainer: retention probes, drift, artifacts and the guard, as a callback."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.errors import ConfigError, did_you_mean
from holdfast.guard import RULES
from holdfast.integrations.actions import Actions
from holdfast.integrations.watcher import Watcher
from holdfast.tasks.base import Suite, Task

ACTIONS = ("warn", "stop", "save", "lower_rate", "freeze_teacher", "refresh_teacher", "roll_back")


class HoldfastCallback(TrainerCallback):
    """Watches the training of a `transformers.Trainer`, or of TRL's SFT, GRPO, SDFT or SDPO trainer.

    ::

        from holdfast.integrations import HoldfastCallback
        trainer = SFTTrainer(..., callbacks=[HoldfastCallback(["data/arithmetic.jsonl"], output_dir="runs/watched")])
        trainer.train()

    The training itself stays as it is, bit for bit, unless an action is asked for and a rule fires.

    Args:
        suites, output_dir, settings: see `holdfast.integrations.Watcher`.
        actions: by rule of the guard, what is done when it fires: "warn" (what is done where nothing is named),
            "stop", "save" a checkpoint, "lower_rate", "freeze_teacher", "refresh_teacher", "roll_back". What this
            trainer does not allow is said in the decision's outcome.
    """

    def __init__(
        self,
        suites: Sequence[str | Path | Suite | Task],
        output_dir: str | Path,
        *,
        actions: Mapping[str, Sequence[str]] | None = None,
        **settings: Any,
    ) -> None:
        self.watcher = Watcher(suites, output_dir, **settings)
        self._wanted = {
            rule: [names] if isinstance(names, str) else list(names) for rule, names in (actions or {}).items()
        }
        for rule, names in self._wanted.items():
            if rule not in RULES:
                raise ConfigError(f"no rule {rule!r}", where="actions", mend=did_you_mean(rule, RULES))
            for name in names:
                if name not in ACTIONS:
                    raise ConfigError(f"no action {name!r}", where="actions", mend=did_you_mean(name, ACTIONS))
        self._actions = Actions()

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
        for decision in self.watcher.see(logs):
            wanted = self._wanted.get(decision.rule, ["warn"])
            outcome = "; ".join(self._actions.carry_out(name, args, state, control, kwargs) for name in wanted)
            self.watcher.decide(decision, wanted, outcome)
        return control

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.watcher.skip()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.watcher.skip()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.watcher.finish()

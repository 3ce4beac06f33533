"""What can be done to somebody else's training from a callback, and what is said where it cannot."""

import sys
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

TEACHER = "teacher"
"""The name of the adapter that TRL's SDFT and SDPO trainers average under LoRA."""


class Actions:
    """Carries out actions on a transformers or TRL trainer; each returns what came of it, in words.

    The teachers of TRL's SDFTTrainer and SDPOTrainer are moved by callbacks of theirs, which a callback of another's
    cannot reach. One that is a model of its own reads its settings from the training arguments at every step, and is
    held by them; one that is an adapter is put back before each step.

    Args:
        rate_factor: what `lower_rate` multiplies the learning rate by, to the end of the training.
    """

    def __init__(self, rate_factor: float = 0.5) -> None:
        self._rate_factor = rate_factor
        self._held: dict[str, Tensor] = {}
        self._refreshing: tuple[float, int] | None = None
        self._refreshed = False

    def carry_out(
        self, action: str, args: TrainingArguments, state: TrainerState, control: TrainerControl, kwargs: dict[str, Any]
    ) -> str:
        """Do one action.

        Args:
            action: one of the guard's (`holdfast.guard.settings.Action`).
            kwargs: what the trainer gave the callback: `model`, `optimizer`, `lr_scheduler`.
        """
        if action == "warn":
            return "warned"
        if action in ("stop", "end_stage"):  # there is one stage
            control.should_training_stop = True
            return f"training stops after step {state.global_step}"
        if action == "lower_rate":
            return self._lower_rate(kwargs.get("optimizer"), kwargs.get("lr_scheduler"))
        if action == "freeze_teacher":
            return self._freeze(args, kwargs["model"])
        if action == "refresh_teacher":
            return self._refresh(args, kwargs["model"])
        if action == "roll_back":
            control.should_training_stop = True
            newest = get_last_checkpoint(args.output_dir) if args.output_dir else None
            where = f"resume_from_checkpoint={newest!r}" if newest else "there is no checkpoint to go back to"
            return f"not rolled back, which a callback cannot do; training stops instead: {where}"
        return f"{action} is not done: a callback cannot do it in this trainer"

    def before_step(self, args: TrainingArguments, model: Any) -> None:
        """Called at the beginning of every optimiser step."""
        if self._refreshing is not None and self._refreshed:
            args.teacher_update_rate, args.teacher_sync_steps = self._refreshing
            self._refreshing = None
        self._refreshed = self._refreshing is not None  # at the end of this step
        if self._held:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if name in self._held:
                        parameter.copy_(self._held[name])

    def _lower_rate(self, optimizer: Any, scheduler: Any) -> str:
        if optimizer is None:
            return "the learning rate is not lowered: the trainer shows no optimizer"
        for group in optimizer.param_groups:
            for key in ("lr", "initial_lr"):
                if key in group:
                    group[key] = group[key] * self._rate_factor
        scheduler = getattr(scheduler, "scheduler", scheduler)
        if hasattr(scheduler, "base_lrs"):
            scheduler.base_lrs = [rate * self._rate_factor for rate in scheduler.base_lrs]
        if hasattr(scheduler, "_last_lr"):
            scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]
        rate = optimizer.param_groups[0]["lr"]
        return f"the learning rate is {rate:.3g} from here, {self._rate_factor:g} of the schedule's"

    def _freeze(self, args: TrainingArguments, model: Any) -> str:
        kind = getattr(args, "teacher_model_kind", None)
        if kind != "ema":
            return f"the teacher is not frozen: {_no_average(kind)}"
        if TEACHER in getattr(model, "peft_config", {}):
            parameters = model.named_parameters()
            self._held = {name: p.detach().clone() for name, p in parameters if f".{TEACHER}." in name}
        else:
            args.teacher_sync_steps = sys.maxsize
        return "the teacher stands still from here"

    def _refresh(self, args: TrainingArguments, model: Any) -> str:
        kind = getattr(args, "teacher_model_kind", None)
        if kind != "ema":
            return f"the teacher is not refreshed: {_no_average(kind)}"
        if TEACHER in getattr(model, "peft_config", {}):
            return "the teacher is not refreshed: TRL keeps the average of an adapter where a callback cannot reach it"
        if self._refreshing is None:
            self._refreshing = args.teacher_update_rate, args.teacher_sync_steps
        args.teacher_update_rate, args.teacher_sync_steps = 1.0, 1
        self._refreshed = False
        return "the teacher takes the student's weights at the end of the next step"


def _no_average(kind: str | None) -> str:
    return "this trainer has none" if kind is None else f"teacher_model_kind {kind!r} keeps no average"

"""Carry out the guard's decisions on a transformers or TRL trainer, and say what could not be done."""

import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from holdfast.guard import Decision, GuardSettings

TEACHER = "teacher"
"""Name of the adapter that TRL's SDFT and SDPO trainers average under LoRA."""

ENDING = ("roll_back", "end_stage", "stop")
"""Actions that end the training. Other actions of the same decision then have nothing left to act on."""

UNTIL_EXIT = "until this process ends; a resumed training starts without it"


class TrainerActions:
    """Carries out decisions on a trainer, and describes each outcome in words.

    In TRL's SDFTTrainer and SDPOTrainer a callback of their own updates the teacher. Another callback cannot stop it
    directly. A teacher that is a separate model is frozen through the training arguments, which that callback reads at
    every step. A teacher that is an adapter is restored before every step.

    Attributes:
        has_ended: whether a decision has ended the training.
    """

    def __init__(self, settings: GuardSettings) -> None:
        self._rate_factor, self._window = settings.rate_factor, settings.window
        self.has_ended = False
        self._frozen_teacher: dict[str, Tensor] = {}
        self._settings_before_refresh: tuple[float, int] | None = None
        self._refreshes_at_step_end = False

    def carry_out(
        self,
        decision: Decision,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        kwargs: dict[str, Any],
    ) -> str:
        """Do what a decision asks for, and return the outcome.

        Args:
            kwargs: what the trainer passed to the callback: `model`, `optimizer`, `lr_scheduler`.
        """
        ending = [action for action in decision.actions if action in ENDING]
        if not ending:
            return "; ".join(self._do(action, args, kwargs) for action in decision.actions)
        self.has_ended = control.should_training_stop = True
        outcomes = [f"training stops after step {decision.step}"]
        if "roll_back" in ending:
            outcomes.append(self._how_to_roll_back(decision, args, state))
        elif left := [action for action in decision.actions if action not in ENDING]:
            outcomes.append(f"{', '.join(left)} not done, because the training stops")
        return "; ".join(outcomes)

    def drop_gradients(self, model: Any) -> str:
        """Clear the gradients, so that the optimizer step changes nothing."""
        for parameter in model.parameters():
            parameter.grad = None
        return "the gradients of this step are dropped: no weight changes"

    def before_step(self, args: TrainingArguments, model: Any) -> None:
        """Call at the beginning of every optimizer step."""
        if self._settings_before_refresh is not None and self._refreshes_at_step_end:
            # The refresh happened at the end of the last step, so the average continues with its own settings.
            args.teacher_update_rate, args.teacher_sync_steps = self._settings_before_refresh
            self._settings_before_refresh = None
        self._refreshes_at_step_end = self._settings_before_refresh is not None
        if self._frozen_teacher:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if name in self._frozen_teacher:
                        parameter.copy_(self._frozen_teacher[name])

    def _do(self, action: str, args: TrainingArguments, kwargs: dict[str, Any]) -> str:
        if action == "warn":
            return "warned"
        if action == "lower_rate":
            return self._lower_rate(kwargs.get("optimizer"), kwargs.get("lr_scheduler"))
        if action == "freeze_teacher":
            return self._freeze_teacher(args, kwargs["model"])
        if action == "refresh_teacher":
            return self._refresh_teacher(args, kwargs["model"])
        return f"{action} is not done: a callback cannot do it in this trainer"

    def _how_to_roll_back(self, decision: Decision, args: TrainingArguments, state: TrainerState) -> str:
        """What the user should do, because a callback can restore neither weights nor data."""
        # What fired the rule shows in the last two windows, so a checkpoint from before them is likely to be healthy.
        latest = decision.step - 2 * self._window * max(1, int(state.logging_steps))
        checkpoint = _newest_checkpoint(args.output_dir, latest)
        if checkpoint is None:
            why = "not rolled back: a callback cannot do it, and there is no checkpoint from two windows ago"
            if latest > 0:
                why += f" (step {latest} or earlier)"
            start = "start again"
        else:
            why = "not rolled back: a callback cannot do it; the newest checkpoint from two windows ago is "
            why += str(checkpoint)
            start = "continue from it"
        about_teacher = {"freeze_teacher", "refresh_teacher"} & set(decision.actions)
        if about_teacher and getattr(args, "teacher_model_kind", None) == "ema":
            resume = "" if checkpoint is None else f" and resume_from_checkpoint={str(checkpoint)!r}"
            change = f"with teacher_sync_steps={state.max_steps + 1}, which freezes the teacher{resume}"
        else:
            change = f"with learning_rate={self._rate_factor * args.learning_rate:.3g} or other data"
            if checkpoint is not None:
                change += (
                    f", in a new training with model={str(checkpoint)!r}: a resumed training keeps the checkpoint's "
                    "learning rate and would end here again"
                )
        return f"{why}; {start} {change}"

    def _lower_rate(self, optimizer: Any, scheduler: Any) -> str:
        if optimizer is None:
            return "the learning rate is not lowered: the trainer gives its callbacks no optimizer"
        for group in optimizer.param_groups:
            for key in ("lr", "initial_lr"):
                if key in group:
                    group[key] = group[key] * self._rate_factor
        # Schedulers compute each rate from base_lrs, so the group's own rate alone would last for one step.
        scheduler = getattr(scheduler, "scheduler", scheduler)
        if hasattr(scheduler, "base_lrs"):
            scheduler.base_lrs = [rate * self._rate_factor for rate in scheduler.base_lrs]
        if hasattr(scheduler, "_last_lr"):
            scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]
        rate = optimizer.param_groups[0]["lr"]
        return (
            f"the learning rate is {rate:.3g} from now on, {self._rate_factor:g} of the schedule's; checkpoints saved "
            "from now on keep it in the optimizer's state"
        )

    def _freeze_teacher(self, args: TrainingArguments, model: Any) -> str:
        kind = getattr(args, "teacher_model_kind", None)
        if kind != "ema":
            return f"the teacher is not frozen: {_no_average(kind)}"
        if TEACHER in getattr(model, "peft_config", {}):
            parameters = model.named_parameters()
            self._frozen_teacher = {name: p.detach().clone() for name, p in parameters if f".{TEACHER}." in name}
        else:
            args.teacher_sync_steps = sys.maxsize
        return f"the teacher is frozen {UNTIL_EXIT}"

    def _refresh_teacher(self, args: TrainingArguments, model: Any) -> str:
        kind = getattr(args, "teacher_model_kind", None)
        if kind != "ema":
            return f"the teacher is not refreshed: {_no_average(kind)}"
        if TEACHER in getattr(model, "peft_config", {}):
            return "the teacher is not refreshed: a callback cannot access TRL's average of an adapter"
        if self._settings_before_refresh is None:
            self._settings_before_refresh = args.teacher_update_rate, args.teacher_sync_steps
        # An average with rate 1 is a copy of the student.
        args.teacher_update_rate, args.teacher_sync_steps = 1.0, 1
        self._refreshes_at_step_end = False
        return "the teacher takes the student's weights at the end of the next step"


def _no_average(kind: str | None) -> str:
    return "this trainer has none" if kind is None else f"teacher_model_kind {kind!r} keeps no average"


def _newest_checkpoint(folder: str | None, latest: int) -> Path | None:
    """The newest complete checkpoint of step `latest` or earlier."""
    if not folder or not Path(folder).is_dir():
        return None
    checkpoints: dict[int, Path] = {}
    for path in Path(folder).iterdir():
        name = re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name)
        if name and int(name[1]) <= latest and (path / "trainer_state.json").is_file():
            checkpoints[int(name[1])] = path
    return checkpoints[max(checkpoints)] if checkpoints else None

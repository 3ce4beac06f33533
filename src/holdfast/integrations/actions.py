"""What can be done to somebody else's training from a callback, and what is said where it cannot."""

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
"""The name of the adapter that TRL's SDFT and SDPO trainers average under LoRA."""

ENDING = ("roll_back", "end_stage", "stop")
"""Actions after which nothing is left to do: what else a decision asks for would end with the process."""

HELD = "to the end of this process: a training that is resumed begins without it"


class Actions:
    """Carries out decisions on a transformers or TRL trainer, and says in words what came of them.

    The teachers of TRL's SDFTTrainer and SDPOTrainer are moved by callbacks of theirs, which a callback of another's
    cannot reach. One that is a model of its own reads its settings from the training arguments at every step, and is
    held by them; one that is an adapter is put back before each step.

    Attributes:
        has_ended: whether a decision has ended the training.
    """

    def __init__(self, settings: GuardSettings) -> None:
        self._rate_factor, self._window = settings.rate_factor, settings.window
        self.has_ended = False
        self._held: dict[str, Tensor] = {}
        self._refreshing: tuple[float, int] | None = None
        self._refreshed = False

    def carry_out(
        self,
        decision: Decision,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        kwargs: dict[str, Any],
    ) -> str:
        """Do what a decision asks for.

        Args:
            kwargs: what the trainer gave the callback: `model`, `optimizer`, `lr_scheduler`.
        """
        ending = [action for action in decision.actions if action in ENDING]
        if not ending:
            return "; ".join(self._do(action, args, kwargs) for action in decision.actions)
        self.has_ended = control.should_training_stop = True
        said = [f"training stops after step {decision.step}"]
        if "roll_back" in ending:
            said.append(self._way_back(decision, args, state))
        elif left := [action for action in decision.actions if action not in ENDING]:
            said.append(f"{', '.join(left)} not done, since it ends")
        return "; ".join(said)

    def drop_gradients(self, model: Any) -> str:
        """Let the optimizer's step move nothing."""
        for parameter in model.parameters():
            parameter.grad = None
        return "the gradients of this step are dropped: no weight moves by it"

    def before_step(self, args: TrainingArguments, model: Any) -> None:
        """Called at the beginning of every optimizer step."""
        if self._refreshing is not None and self._refreshed:
            args.teacher_update_rate, args.teacher_sync_steps = self._refreshing
            self._refreshing = None
        self._refreshed = self._refreshing is not None  # at the end of this step
        if self._held:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if name in self._held:
                        parameter.copy_(self._held[name])

    def _do(self, action: str, args: TrainingArguments, kwargs: dict[str, Any]) -> str:
        if action == "warn":
            return "warned"
        if action == "lower_rate":
            return self._lower_rate(kwargs.get("optimizer"), kwargs.get("lr_scheduler"))
        if action == "freeze_teacher":
            return self._freeze(args, kwargs["model"])
        if action == "refresh_teacher":
            return self._refresh(args, kwargs["model"])
        return f"{action} is not done: a callback cannot do it in this trainer"

    def _way_back(self, decision: Decision, args: TrainingArguments, state: TrainerState) -> str:
        """What a user who wants to go back is to do: a callback can put back neither weights nor data."""
        latest = decision.step - 2 * self._window * max(1, int(state.logging_steps))
        found = _newest_checkpoint(args.output_dir, latest)
        if found is None:
            said = "not rolled back: a callback cannot; there is no checkpoint of two windows before"
            if latest > 0:
                said += f", of step {latest} or earlier"
            where = "begin anew"
        else:
            said = f"not rolled back: a callback cannot; the newest checkpoint of two windows before is {found}"
            where = "go on from it"
        wanted = {"freeze_teacher", "refresh_teacher"} & set(decision.actions)
        if wanted and getattr(args, "teacher_model_kind", None) == "ema":
            resume = "" if found is None else f" and resume_from_checkpoint={str(found)!r}"
            change = f"with teacher_sync_steps={state.max_steps + 1}, so that the teacher stands still{resume}"
        else:
            change = f"with learning_rate={self._rate_factor * args.learning_rate:.3g} or other data"
            if found is not None:
                change += (
                    f", in a new training with model={str(found)!r}: one that is resumed keeps the checkpoint's rate "
                    "and would come here again"
                )
        return f"{said}; {where} {change}"

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
        return (
            f"the learning rate is {rate:.3g} from here, {self._rate_factor:g} of the schedule's; checkpoints that are "
            "saved from here on hold it with the optimizer's state"
        )

    def _freeze(self, args: TrainingArguments, model: Any) -> str:
        kind = getattr(args, "teacher_model_kind", None)
        if kind != "ema":
            return f"the teacher is not frozen: {_no_average(kind)}"
        if TEACHER in getattr(model, "peft_config", {}):
            parameters = model.named_parameters()
            self._held = {name: p.detach().clone() for name, p in parameters if f".{TEACHER}." in name}
        else:
            args.teacher_sync_steps = sys.maxsize
        return f"the teacher stands still from here {HELD}"

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


def _newest_checkpoint(folder: str | None, latest: int) -> Path | None:
    """The newest whole checkpoint of step `latest` or earlier."""
    if not folder or not Path(folder).is_dir():
        return None
    found: dict[int, Path] = {}
    for path in Path(folder).iterdir():
        name = re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name)
        if name and int(name[1]) <= latest and (path / "trainer_state.json").is_file():
            found[int(name[1])] = path
    return found[max(found)] if found else None

"""Lengths of prompts and completions, checked against the model's context length."""

from typing import TYPE_CHECKING

from holdfast.config.settings import EvalSettings, TrainSettings
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.model.policy import Policy


def longest_reprompt(policy: "Policy", train: TrainSettings) -> int:
    """The longest prompt for the teacher, in tokens.

    It is `train.max_reprompt_length`. By default a prompt and a completion fit, as far as the model's context allows.
    """
    if train.max_reprompt_length is not None:
        return train.max_reprompt_length
    room = train.max_prompt_length + train.max_completion_length
    limit = policy.context_length
    return room if limit is None else min(room, limit - train.max_completion_length)


def check_context(policy: "Policy", train: TrainSettings, evaluation: EvalSettings) -> None:
    """Check that prompts and completions together fit the model's context.

    Raises:
        ConfigError: they do not fit.
    """
    limit = policy.context_length
    longest = {"train.max_completion_length": train.max_completion_length}
    if evaluation.max_completion_length is not None:
        longest["eval.max_completion_length"] = evaluation.max_completion_length
    sums = {f"train.max_prompt_length + {setting}": train.max_prompt_length + n for setting, n in longest.items()}
    if train.max_reprompt_length is not None:
        reprompt = train.max_reprompt_length + train.max_completion_length
        sums["train.max_reprompt_length + train.max_completion_length"] = reprompt
    for terms, wanted in sums.items():
        if limit is not None and wanted > limit:
            raise ConfigError(
                f"{terms} is {wanted}, but the model's context length is {limit} tokens",
                fix=f"lower them to at most {limit} together",
            )

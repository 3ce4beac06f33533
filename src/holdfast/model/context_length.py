"""Lengths of prompts and completions, fitted to the model's context.

Lengths that the user wrote are kept, or refused if they do not fit. Defaults give way: a completion gets at most a
quarter of the context, because prompts of teachers are long, and a prompt what is left of it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from transformers import CONFIG_MAPPING, PretrainedConfig

from holdfast.config.settings import EvalSettings, ModelSettings, StreamSettings, TrainSettings
from holdfast.errors import ConfigError
from holdfast.model.quiet import quiet
from holdfast.store.bundled import base_folder

if TYPE_CHECKING:
    from holdfast.model.policy import Policy

AnyStream = TypeVar("AnyStream", bound=StreamSettings)

PROMPT, COMPLETION, REPROMPT = "max_prompt_length", "max_completion_length", "max_reprompt_length"


def longest_reprompt(policy: "Policy", train: TrainSettings) -> int:
    """The longest prompt for the teacher, in tokens.

    It is `train.max_reprompt_length`. By default a prompt and a completion fit, as far as the model's context allows.
    """
    if train.max_reprompt_length is not None:
        return train.max_reprompt_length
    room = train.max_prompt_length + train.max_completion_length
    limit = policy.context_length
    return room if limit is None else min(room, limit - train.max_completion_length)


def configured_context(model: ModelSettings) -> int | None:
    """The context length in tokens that the model's config.json implies. No weights are loaded and no code is run.

    None if that file does not tell. What is wrong with the model is said when it is loaded.
    """
    try:
        with quiet():
            folder = base_folder(model.path) or Path(os.path.expanduser(model.path))
            path = str(folder) if folder.is_dir() else model.path
            raw, _ = PretrainedConfig.get_config_dict(path, revision=model.revision)
            config = CONFIG_MAPPING[raw["model_type"]].from_dict(raw).get_text_config(decoder=True)
    except (OSError, KeyError, ValueError, TypeError):
        return None
    length = getattr(config, "max_position_embeddings", None)
    return length if isinstance(length, int) else None


def fit_to_context(config: AnyStream, limit: int | None) -> AnyStream:
    """The configuration with lengths that fit; see `fit_lengths`."""
    fitted = fit_lengths(config.train, config.eval, limit)
    return config if fitted == config.train else config.model_copy(update={"train": fitted})


def fit_lengths(train: TrainSettings, evaluation: EvalSettings, limit: int | None) -> TrainSettings:
    """Training settings in which a prompt and a completion together fit the model's context.

    Args:
        train: lengths that are not set are defaults, and are lowered if necessary.
        evaluation: may set a longest answer of its own, which has to fit too.
        limit: the context in tokens; None if there is no known limit.

    Raises:
        ConfigError: lengths that are set do not fit.
    """
    if limit is None:
        return train
    written = {name: getattr(train, name) for name in (PROMPT, COMPLETION, REPROMPT) if name in train.model_fields_set}
    longest_written = max(written.get(PROMPT) or 0, written.get(REPROMPT) or 0)
    completion = train.max_completion_length
    if COMPLETION not in written:
        room = limit - longest_written if longest_written else limit // 4
        completion = min(completion, max(1, room))
    answers = max(completion, evaluation.max_completion_length or 0)
    prompt = train.max_prompt_length
    if PROMPT not in written:
        prompt = min(prompt, max(1, limit - answers))
    fitted = train.model_copy(update={PROMPT: prompt, COMPLETION: completion})
    _check(fitted, evaluation, limit, {f"train.{name}" for name in written})
    # Equal settings keep their record of what was set.
    return train if fitted == train else fitted


def lowered_lengths(before: TrainSettings, after: TrainSettings, limit: int | None) -> list[str]:
    """What `fit_lengths` has lowered, in words.

    Args:
        before, after: its argument and its result.
        limit: the context in tokens.
    """
    return [
        f"train.{name} is {getattr(after, name)} instead of {getattr(before, name)}: the model's context has {limit} "
        "tokens"
        for name in (PROMPT, COMPLETION)
        if getattr(before, name) != getattr(after, name)
    ]


def _check(train: TrainSettings, evaluation: EvalSettings, limit: int, written: set[str]) -> None:
    completions = {f"train.{COMPLETION}": train.max_completion_length}
    if evaluation.max_completion_length is not None:
        completions[f"eval.{COMPLETION}"] = evaluation.max_completion_length
        written = written | {f"eval.{COMPLETION}"}
    prompts = {f"train.{PROMPT}": train.max_prompt_length}
    sums = [(p, c) for p in prompts for c in completions]
    if train.max_reprompt_length is not None:
        prompts[f"train.{REPROMPT}"] = train.max_reprompt_length
        sums.append((f"train.{REPROMPT}", f"train.{COMPLETION}"))
    for prompt, completion in sums:
        wanted = prompts[prompt] + completions[completion]
        if wanted <= limit:
            continue
        own = [name for name in (prompt, completion) if name in written]
        if len(own) == 1:
            length = (prompts | completions)[own[0]]
            other = "completion" if own[0] == prompt else "prompt"
            raise ConfigError(
                f"{own[0]} is {length}, which leaves no room for a {other}: the model's context length is {limit} "
                "tokens",
                fix=f"lower it below {limit}",
            )
        raise ConfigError(
            f"{prompt} + {completion} is {wanted}, but the model's context length is {limit} tokens",
            fix=f"lower them to at most {limit} together",
        )

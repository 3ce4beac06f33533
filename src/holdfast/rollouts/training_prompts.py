"""Training examples in tokens: prompts, demonstrations, and the check that they fit."""

from dataclasses import dataclass, replace

from holdfast.config.settings import TrainSettings
from holdfast.data.chat import ChatFormat, Demonstration, PromptTooLong
from holdfast.data.example import Example
from holdfast.data.rows import Group, Row
from holdfast.data.task import Task
from holdfast.recipes.base.recipe import Recipe
from holdfast.rollouts.prompt_encoder import PromptEncoder
from holdfast.rollouts.strangers import strangers
from holdfast.sampling.episodes import demonstration_episode


@dataclass(frozen=True)
class TrainingPrompt:
    """A training example in tokens."""

    example: Example
    prompt_ids: list[int]
    """The student's prompt."""
    demonstration: Demonstration | None = None
    """The demonstration; None if the recipe does not train on it."""
    sampling_prompt_ids: list[int] | None = None
    """The prompt that is sampled from, if it is the teacher's; None if it is `prompt_ids`."""
    stranger: Example | None = None
    """Another example, if the recipe shows the teacher one."""


def encode_training_prompts(
    task: Task, recipe: Recipe, encoder: PromptEncoder, train: TrainSettings, seed: int
) -> list[TrainingPrompt]:
    """Encode a task's training examples.

    An example that does not fit is left out with `train.long_prompts: drop`.

    Args:
        seed: the run's seed, for drawing strangers.

    Raises:
        DataError: an example does not fit with `train.long_prompts: refuse`, or the chat template refuses it.
    """
    others = strangers(task.train, task.name, seed) if recipe.shows_strangers() else {}
    kept = []
    for example in task.train:
        try:
            prompt = _encode(example, others.get(example.id), task, recipe, encoder, train.max_completion_length)
            kept.append(replace(prompt, stranger=others.get(example.id)))
        except PromptTooLong:
            if train.long_prompts == "refuse":
                raise
    return kept


def _encode(
    example: Example,
    stranger: Example | None,
    task: Task,
    recipe: Recipe,
    encoder: PromptEncoder,
    max_completion_length: int,
) -> TrainingPrompt:
    """Encode an example and check every prompt of it whose text is known before sampling."""
    spec, hints = recipe.rollout_spec(), recipe.hints()
    prompt_ids = encoder.student_prompt(example, task)
    if spec.is_sampled:
        # Stand-ins for the rows of this example. Annotating them shows which teacher's prompts the recipe will ask for.
        stand_ins = [Row(example, prompt_ids, [], sampled_logprobs=[])]
        if spec.with_demonstration:
            stand_ins.append(Row(example, prompt_ids, []))
        if recipe.context_from_example:
            recipe.annotate([Group(example, stand_ins, stranger=stranger)])
        for row in stand_ins:
            if row.teacher_messages is not None:
                row.teacher_prompt_ids = encoder.teacher_prompt(row)
        if hints is not None and example.actions is not None:
            encoder.hinted_prompt(example, len(example.actions), hints.template)  # the longest hint
        if not spec.with_demonstration:
            teacher_ids = stand_ins[0].teacher_prompt_ids if spec.prompt == "teacher" else None
            return TrainingPrompt(example, prompt_ids, sampling_prompt_ids=teacher_ids)
    demonstration = encode_demonstration(encoder.chat_format, task, example, prompt_ids)
    if (length := len(demonstration.ids)) > max_completion_length:
        raise PromptTooLong(example.id, length, max_completion_length, "demonstration", "max_completion_length")
    return TrainingPrompt(example, prompt_ids, demonstration)


def encode_demonstration(
    chat_format: ChatFormat, task: Task, example: Example, prompt_ids: list[int] | None = None
) -> Demonstration:
    """A demonstration in tokens.

    If the task has several turns and the example has actions, each action is one turn. The demonstration's text, if
    there is one, is the last turn.

    Args:
        prompt_ids: of the example's own prompt, if they are known.

    Raises:
        DataError: the text contains an end-of-turn token, or the environment ends before the last action.
    """
    where = f"{task.name}: {example.id}"

    if task.episodes is None or example.actions is None:
        # The recipe's needs guarantee that there is one.
        return chat_format.encode_demonstration(example, prompt_ids=prompt_ids, where=where)

    def encode(text: str) -> list[int]:
        return chat_format.encode_completion(text, messages=example.messages, tools=example.tools, where=where)

    last = [] if example.demonstration is None else [example.demonstration]
    episode = demonstration_episode(chat_format, task, example, [*example.actions, *last], encode)
    if prompt_ids is None:
        prompt_ids = chat_format.encode_example(example, where=where)
    return Demonstration(prompt_ids, episode.ids, episode.tool_mask, chat_format.decode_episode(episode.ids))

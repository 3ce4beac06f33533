"""Token ids of every prompt that a rollout batch needs, with a check of their lengths.

There are four kinds of prompts: the student's own, the teacher's, the student's with a hint, and the student's with
its own answer to revise. All but the first may have `max_reprompt_length` tokens.
"""

from holdfast.config.settings import TrainSettings
from holdfast.data.chat import ChatFormat, check_fits
from holdfast.data.example import Example
from holdfast.data.rows import Row
from holdfast.data.task import Task
from holdfast.data.teacher_prompts import actions_prompt
from holdfast.errors import DataError
from holdfast.model.context_length import longest_reprompt
from holdfast.model.policy import Policy
from holdfast.recipes.parts.rollouts import Revision


class PromptEncoder:
    """Encodes prompts for one policy.

    Attributes:
        max_reprompt_length: longest prompt of a teacher, with a hint or for a revision, in tokens.
    """

    def __init__(self, policy: Policy, train: TrainSettings) -> None:
        self.max_reprompt_length = longest_reprompt(policy, train)
        self._policy, self._max_prompt_length = policy, train.max_prompt_length

    @property
    def chat_format(self) -> ChatFormat:
        return self._policy.chat_format

    def student_prompt(self, example: Example, task: Task) -> list[int]:
        """The example's own messages.

        Raises:
            PromptTooLong: they do not fit into `train.max_prompt_length`.
        """
        ids = self.chat_format.encode_example(example, where=f"{task.name}: {example.id}")
        check_fits(example.id, ids, self._max_prompt_length)
        return ids

    def teacher_prompt(self, row: Row) -> list[int]:
        """The row's `teacher_messages`, then its `teacher_prefix`.

        Raises:
            PromptTooLong: they do not fit into `train.max_reprompt_length`.
        """
        assert row.teacher_messages is not None
        if row.trains_earlier_turns:
            return self._prompt_before_earlier_turns(row)
        ids = self.chat_format.encode_teacher_prompt(row.example, row.teacher_messages, where=row.example.id)
        if row.teacher_prefix:
            ids += self.chat_format.encode_prefill(row.teacher_prefix)
        check_fits(row.example.id, ids, self.max_reprompt_length, "teacher's prompt", "max_reprompt_length")
        return ids

    def _prompt_before_earlier_turns(self, row: Row) -> list[int]:
        """The prompt of a row that trains on earlier turns too. The teacher must see no more than it."""
        if list(row.teacher_messages or ()) != list(row.example.messages):
            raise DataError(
                "this recipe's teacher sees more than the prompt, so it cannot score earlier turns of a demonstration",
                where=f"example {row.example.id!r}",
                fix="train on the last turn only",
            )
        return list(row.prompt_ids)

    def hinted_prompt(self, example: Example, count: int, template: str) -> list[int]:
        """The example's messages with the first `count` of its actions, as `template` shows them.

        Raises:
            PromptTooLong: they do not fit into `train.max_reprompt_length`.
        """
        assert example.actions is not None  # guaranteed by the recipe's needs
        messages = actions_prompt(example.messages, example.actions[:count], template)
        ids = self.chat_format.encode_teacher_prompt(example, messages, where=f"hint of {example.id}")
        check_fits(example.id, ids, self.max_reprompt_length, "prompt with a hint", "max_reprompt_length")
        return ids

    def revision_prompt(self, row: Row, revision: Revision) -> list[int]:
        """A row's prompt and answer, then the cue that follows from its reward. The length is not checked."""
        return [*row.prompt_ids, *self.chat_format.encode_prefill(revision.prefix(row.completion, row.reward))]

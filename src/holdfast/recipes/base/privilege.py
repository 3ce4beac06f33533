"""What a teacher sees besides the prompt: the example's own demonstration, a stranger's, or nothing."""

from typing import Literal

from holdfast.data.example import Example, Message
from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import (
    OTHER_EXAMPLE_TEMPLATE,
    demonstration_prompt,
    last_user_message,
    other_example_prompt,
)
from holdfast.recipes.base.recipe import Recipe

Privilege = Literal["own", "stranger", "none"]


class PrivilegeSettings(Recipe):
    """A recipe whose teacher sees a demonstration or a solution in a template, and controls for what it is worth."""

    privilege: Privilege = "own"
    """What the teacher sees. `own`: the example's demonstration or solution, which is the method. The others are
    controls. `stranger`: prompt and demonstration of another example of the task, always the same one, in a template
    that says so (arXiv 2608.09228). `none`: the template with nothing in that place, so that only its words are left
    (arXiv 2609.20612)."""

    def shows_strangers(self) -> bool:
        return self.privilege == "stranger"

    def shown_example(self, group: Group) -> Example | None:
        """The example that the teacher sees; None for `none`."""
        if self.privilege != "stranger":
            return group.example if self.privilege == "own" else None
        assert group.stranger is not None  # guaranteed by `holdfast.recipes.base.needs`
        return group.stranger

    def conversation(self, group: Group, shown: str, template: str) -> tuple[Message, ...]:
        """The teacher's conversation.

        Args:
            shown: the text of `shown_example`'s demonstration or solution; "" without an example.
            template: has the places {prompt} and {demonstration}; not used for a stranger.
        """
        if self.privilege == "stranger":
            assert group.stranger is not None
            question = last_user_message(group.stranger.messages)
            return other_example_prompt(group.example.messages, question, shown, OTHER_EXAMPLE_TEMPLATE)
        return demonstration_prompt(group.example.messages, shown, template)

"""What only the teacher sees: the re-prompt that adds a demonstration, a sibling's success or feedback.

Every piece of text is inserted as a value, never as part of a format string that is formatted again, so braces in
a user's text survive. The student's own attempt is never shown (SDPO, ablation in table 6: it lowers exploration).
"""

import math
import re
from collections.abc import Sequence

from holdfast.data.example import Example, Message
from holdfast.errors import DataError

DEMONSTRATION_TEMPLATE = (
    "{prompt}\n\nThis is an example for a response to the question:\n{demonstration}\n\n"
    "Now answer with a response of your own, including the thinking process."
)
"""SDFT's teacher prompt in our words: the question, the demonstration, a call for a response of one's own."""

REFERENCE_TEMPLATE = (
    "{prompt}\n\nHere is a reference solution to this problem:\n{demonstration}\n\n"
    "Understand it and the reason for each of its steps. Then derive the same final answer, step by step, yourself."
)
"""OPSD's teacher prompt in our words."""

REPROMPT_TEMPLATE = "{prompt}{solution}{feedback}\n\nCorrectly solve the original question."

SOLUTION_TEMPLATE = "\n\nCorrect solution:\n{solution}"

FEEDBACK_TEMPLATE = "\n\nThe following is feedback from your unsuccessful earlier attempt:\n{feedback}"

PLAN_TEMPLATE = "{prompt}\n\nThis is a plan for the answer:\n{plan}"

ACTIONS_TEMPLATE = (
    "{prompt}\n\nThese actions were taken by somebody who succeeded:\n{actions}\n\n"
    "There may be more to do than they show."
)
"""ActGuide-RL's hint in our words: it may show a part alone."""

TRANSLATION_TEMPLATE = "{prompt}\n\nThink about whether this request is safe, then answer it."
"""What MSD's teacher is told beside the translated prompt, in our words."""

_THINK_BLOCK = re.compile(r"<think>.*?</think>\s*", re.DOTALL)


def fill(template: str, **values: str) -> str:
    """Put values into the named places of a template, in one pass, leaving every other brace alone."""
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m.group(1), m.group(0)), template)


def require_places(setting: str, template: str, *places: str) -> None:
    """Refuse a user's template in which one of these values has no place.

    Raises:
        ValueError: naming the setting and what it lacks.
    """
    for place in places:
        if f"{{{place}}}" not in template:
            raise ValueError(f"{setting} has no place {{{place}}}")


def with_last_user_message(messages: Sequence[Message], content: str) -> tuple[Message, ...]:
    """The same conversation with the content of its last user message replaced; system and earlier turns stay."""
    index = _last_user_turn(messages)
    return (*messages[:index], Message(role="user", content=content), *messages[index + 1 :])


def last_user_message(messages: Sequence[Message]) -> str:
    """The content of a conversation's last user message."""
    return messages[_last_user_turn(messages)]["content"]


def _last_user_turn(messages: Sequence[Message]) -> int:
    for index in reversed(range(len(messages))):
        if messages[index]["role"] == "user":
            return index
    raise DataError("a conversation without a user message", fix="a prompt needs a message with the role `user`")


def privileged_text(example: Example) -> str:
    """What the teacher is shown of an example: its privileged context, else its demonstration, else its solution."""
    text = example.privileged_context if example.privileged_context is not None else example.demonstration
    if text is not None:
        return text
    assert example.solution is not None  # guaranteed by a recipe's needs
    return "\n".join(example.solution)


def exposed_steps(solution: Sequence[str], exposure: float, *, keep_answer: bool = False) -> str:
    """The first ⌈exposure · n⌉ of a solution's n steps, one a line.

    Args:
        exposure: from 0 to 1.
        keep_answer: the last step, which states the answer, is shown in any case.
    """
    count = math.ceil(round(exposure * len(solution), 9))
    shown = list(solution[:count])
    if keep_answer and count < len(solution):
        shown.append(solution[-1])
    return "\n".join(shown)


def demonstration_prompt(messages: Sequence[Message], demonstration: str, template: str) -> tuple[Message, ...]:
    """The teacher's conversation for SDFT: `template` has the places {prompt} and {demonstration}."""
    prompt = last_user_message(messages)
    return with_last_user_message(messages, fill(template, prompt=prompt, demonstration=demonstration))


def plan_prompt(messages: Sequence[Message], plan: str, template: str) -> tuple[Message, ...]:
    """The teacher's conversation for SORT: `template` has the places {prompt} and {plan}."""
    return with_last_user_message(messages, fill(template, prompt=last_user_message(messages), plan=plan))


def numbered(actions: Sequence[str]) -> str:
    """Actions as a hint shows them, one a line, with their numbers."""
    return "\n".join(f"{number}. {action}" for number, action in enumerate(actions, 1))


def actions_prompt(messages: Sequence[Message], actions: Sequence[str], template: str) -> tuple[Message, ...]:
    """The conversation with a hint: `template` has the places {prompt} and {actions}."""
    prompt = last_user_message(messages)
    return with_last_user_message(messages, fill(template, prompt=prompt, actions=numbered(actions)))


def reprompt(
    messages: Sequence[Message],
    *,
    solution: str | None,
    feedback: str | None,
    template: str = REPROMPT_TEMPLATE,
    solution_template: str = SOLUTION_TEMPLATE,
    feedback_template: str = FEEDBACK_TEMPLATE,
) -> tuple[Message, ...]:
    """The teacher's conversation for SDPO (arXiv 2601.20802, table 2): question, solution, feedback, closing line."""
    content = fill(
        template,
        prompt=last_user_message(messages),
        solution="" if solution is None else fill(solution_template, solution=solution),
        feedback="" if feedback is None else fill(feedback_template, feedback=feedback),
    )
    return with_last_user_message(messages, content)


def strip_thinking(text: str) -> str:
    """Drop `<think>…</think>` blocks; where only the closing tag remains, everything up to it."""
    text = _THINK_BLOCK.sub("", text)
    return text.rpartition("</think>")[2].lstrip() if "</think>" in text else text

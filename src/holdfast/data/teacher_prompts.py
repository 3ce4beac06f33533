"""Prompt templates of the teacher: they add a demonstration, a sample that succeeded, feedback or a hint to the prompt.

Texts are inserted as values. The result is never formatted again, so braces in a user's text stay as they are. The
teacher does not see the student's own attempt, because that lowers exploration (SDPO, arXiv 2601.20802, table 6).
"""

import math
import re
from collections.abc import Sequence

from holdfast.data.example import Example, Message
from holdfast.errors import DataError

DEMONSTRATION_TEMPLATE = (
    "{prompt}\n\nOne good answer to this is:\n{demonstration}\n\nUse what it says, and answer in your own way."
)
"""SDFT's teacher prompt in our words: the question, the demonstration, and the request for a response of the model's
own. The released prompt also asks for thoughts; a model that thinks does so unasked, and one that does not loses the
thread."""

OTHER_EXAMPLE_TEMPLATE = (
    "{prompt}\n\nThis is another question:\n{question}\nOne good answer to it is:\n{demonstration}\n\n"
    "Now answer the first question."
)
"""The teacher's prompt with the demonstration of another question, as a control (after arXiv 2608.09228)."""

RIGHT_CUE = "This is right. Let me say it in other words."
"""SD-Zero's cue after a right answer, in the model's own turn, in our words."""

WRONG_CUE = "Wait, this is wrong. Let me solve it again."
"""SD-Zero's cue after a wrong answer, in our words."""

REFERENCE_TEMPLATE = (
    "{prompt}\n\nHere is a reference solution to this problem:\n{demonstration}\n\n"
    "Understand it and the reason for each of its steps. Then derive the same final answer, step by step, yourself."
)
"""OPSD's teacher prompt. The line above the solution is the released one; the rest is in our words."""

REPROMPT_TEMPLATE = "{prompt}{solution}{feedback}\n\nCorrectly solve the original question."
"""SDPO's teacher prompt, as released."""

# The two parts have the released words. The released line breaks are "\nCorrect solution:\n\n{solution}", and the same
# for feedback: one blank line less before a part, one more within it. The lab's base has read its documents in these.
SOLUTION_TEMPLATE = "\n\nCorrect solution:\n{solution}"

FEEDBACK_TEMPLATE = "\n\nThe following is feedback from your unsuccessful earlier attempt:\n{feedback}"

PLAN_TEMPLATE = "{prompt}\n\nThis is a plan for the answer:\n{plan}"

ACTIONS_TEMPLATE = (
    "{prompt}\n\nThese actions were taken by somebody who succeeded:\n{actions}\n\n"
    "There may be more to do than they show."
)
"""ActGuide-RL's hint in our words. It may show only a part of the actions."""

TRANSLATION_TEMPLATE = "{prompt}\n\nThink about whether this request is safe, then answer it."
"""MSD's instruction to the teacher, which follows the translated prompt, in our words."""

_THINK_BLOCK = re.compile(r"<think>.*?</think>\s*", re.DOTALL)


def fill(template: str, **values: str) -> str:
    """Replace the placeholders of a template, e.g. {prompt}, by values. All other braces stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m.group(1), m.group(0)), template)


def require_places(setting: str, template: str, *places: str) -> None:
    """Refuse a user's template that lacks a placeholder.

    Args:
        setting: names the template in the error message.
        template: the user's text.
        places: names of the placeholders that it must have.

    Raises:
        ValueError: a placeholder is missing.
    """
    for place in places:
        if f"{{{place}}}" not in template:
            raise ValueError(f"{setting} has no placeholder {{{place}}}; add it")


def with_last_user_message(messages: Sequence[Message], content: str) -> tuple[Message, ...]:
    """The conversation with another content of its last user message. All other messages stay as they are."""
    index = _last_user_turn(messages)
    return (*messages[:index], Message(role="user", content=content), *messages[index + 1 :])


def last_user_message(messages: Sequence[Message]) -> str:
    """The content of a conversation's last user message."""
    return messages[_last_user_turn(messages)]["content"]


def _last_user_turn(messages: Sequence[Message]) -> int:
    for index in reversed(range(len(messages))):
        if messages[index]["role"] == "user":
            return index
    raise DataError("the conversation has no user message", fix="add a message with the role `user` to the prompt")


def privileged_text(example: Example) -> str:
    """What the teacher sees of an example: its privileged context, else its demonstration, else its solution."""
    text = example.privileged_context if example.privileged_context is not None else example.demonstration
    if text is not None:
        return text
    assert example.solution is not None  # guaranteed by a recipe's needs
    return "\n".join(example.solution)


def exposed_steps(solution: Sequence[str], exposure: float, *, keep_answer: bool = False) -> str:
    """The first ⌈exposure · n⌉ of a solution's n steps, one per line.

    Args:
        solution: its steps.
        exposure: from 0 to 1.
        keep_answer: show the last step, which states the answer, in any case.
    """
    # Rounded first: 0.07 · 100 is slightly more than 7 in floating point, and an eighth step would be shown.
    count = math.ceil(round(exposure * len(solution), 9))
    shown = list(solution[:count])
    if keep_answer and count < len(solution):
        shown.append(solution[-1])
    return "\n".join(shown)


def demonstration_prompt(messages: Sequence[Message], demonstration: str, template: str) -> tuple[Message, ...]:
    """The teacher's conversation for SDFT. `template` has the placeholders {prompt} and {demonstration}."""
    prompt = last_user_message(messages)
    return with_last_user_message(messages, fill(template, prompt=prompt, demonstration=demonstration))


def other_example_prompt(
    messages: Sequence[Message], question: str, demonstration: str, template: str
) -> tuple[Message, ...]:
    """The conversation with another question and its demonstration. `template` has the placeholders {prompt},
    {question} and {demonstration}."""
    prompt = last_user_message(messages)
    content = fill(template, prompt=prompt, question=question, demonstration=demonstration)
    return with_last_user_message(messages, content)


def revision_beginning(answer: str, cue: str) -> str:
    """The beginning of a turn that the model continues with a revision: its answer, then the cue."""
    return f"{answer}\n\n{cue}\n\n"


def plan_prompt(messages: Sequence[Message], plan: str, template: str) -> tuple[Message, ...]:
    """The teacher's conversation for SORT. `template` has the placeholders {prompt} and {plan}."""
    return with_last_user_message(messages, fill(template, prompt=last_user_message(messages), plan=plan))


def numbered(actions: Sequence[str]) -> str:
    """Actions as a hint shows them: one per line, numbered from 1."""
    return "\n".join(f"{number}. {action}" for number, action in enumerate(actions, 1))


def actions_prompt(messages: Sequence[Message], actions: Sequence[str], template: str) -> tuple[Message, ...]:
    """The conversation with a hint. `template` has the placeholders {prompt} and {actions}."""
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
    """The teacher's conversation for SDPO (arXiv 2601.20802, table 2): question, solution, feedback, closing line.

    Args:
        messages: the student's conversation.
        solution: a sample that succeeded, or a demonstration; None to leave this part out.
        feedback: what was wrong with the student's attempt; None to leave this part out.
        template: has the placeholders {prompt}, {solution} and {feedback}.
        solution_template: the part with the solution; has the placeholder {solution}.
        feedback_template: the part with the feedback; has the placeholder {feedback}.
    """
    content = fill(
        template,
        prompt=last_user_message(messages),
        solution="" if solution is None else fill(solution_template, solution=solution),
        feedback="" if feedback is None else fill(feedback_template, feedback=feedback),
    )
    return with_last_user_message(messages, content)


def strip_thinking(text: str) -> str:
    """Remove `<think>…</think>` blocks. If a closing tag remains, everything up to the last one is removed too.

    Some chat templates put the opening tag into the prompt, so that a completion has only the closing tag.
    """
    text = _THINK_BLOCK.sub("", text)
    return text.rpartition("</think>")[2].lstrip() if "</think>" in text else text

"""A recipe annotates the rows of a batch, and the teacher's prompts that it asks for become tokens."""

from collections.abc import Sequence

from holdfast.data.chat import PromptTooLong
from holdfast.data.rows import Group
from holdfast.recipes.base.recipe import Recipe
from holdfast.rollouts.prompt_encoder import PromptEncoder
from holdfast.rollouts.warn_once import WarnOnce


def annotate(
    groups: Sequence[Group], recipe: Recipe, encoder: PromptEncoder, warn: WarnOnce
) -> tuple[dict[str, float], int]:
    """Let a recipe annotate rows and encode their teacher prompts.

    Args:
        groups: the rows; they are changed in place.
        recipe: annotates.
        encoder: makes the teacher's prompts.
        warn: called for a teacher's prompt that is too long.

    Returns:
        The recipe's metrics, and how many rows have no teacher because its prompt is too long.
    """
    metrics, objective = dict(recipe.annotate(groups)), recipe.objective()
    without_teacher = 0
    for row in (row for group in groups for row in group.rows):
        if row.teacher_messages is None:
            continue
        try:
            row.teacher_prompt_ids = encoder.teacher_prompt(row)
        except PromptTooLong as error:
            # This prompt depends on what was sampled, so its length is known only now. Ending the run would be too
            # hard for one row.
            warn(f"{error.where}: {error.what}", "a teacher")
            row.div = 0.0
            # A weight or an advantage that is computed from the teacher does not exist without one.
            row.excluded |= objective.asks_teacher(ce=row.ce, div=0.0, advantage=row.advantage)
            without_teacher += 1
    return metrics, without_teacher

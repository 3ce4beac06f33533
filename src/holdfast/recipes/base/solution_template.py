"""The check of a template in which the teacher sees a reference solution or a demonstration."""

from typing import Protocol, TypeVar

from holdfast.data.teacher_prompts import require_places
from holdfast.recipes.base.recipe import Recipe


class _WithTemplate(Protocol):
    @property
    def template(self) -> str: ...


_Checked = TypeVar("_Checked", bound=_WithTemplate)


def shows_solution(recipe: _Checked) -> _Checked:
    """Check that the template of a recipe has the places {prompt} and {demonstration}; for `model_validator`.

    Raises:
        ValueError: a place is missing.
    """
    require_places("template", recipe.template, "prompt", "demonstration")
    return recipe


def template_of(recipe: Recipe) -> str | None:
    """The template in which a recipe shows a demonstration or a solution; None if it has none."""
    template = recipe.model_dump().get("template")
    has_places = isinstance(template, str) and all(place in template for place in ("{prompt}", "{demonstration}"))
    return template if has_places else None

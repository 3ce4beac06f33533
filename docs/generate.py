"""Writes the parts of these pages that follow from the code: recipes, the configuration's keys, the lab's sets.

`python docs/generate.py` replaces what stands between `<!-- generated: NAME -->` and `<!-- end -->`; a test fails
where that has not been done.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from holdfast.cli.methods import recipe_facts
from holdfast.config import settings as config
from holdfast.guard.settings import Rules
from holdfast.lab.tasks import SUITES, TASKS, lab_suite, lab_task
from holdfast.lab.wide_tasks import WIDE_SUITES, WIDE_TASKS, wide_suite, wide_task
from holdfast.measure.metrics import METRICS
from holdfast.recipes import RECIPES
from holdfast.recipes.base.recipe import Recipe

FOLDER = Path(__file__).parent
BLOCKS: list[type[BaseModel]] = [
    config.RunConfig,
    config.CompareConfig,
    config.Arm,
    config.ModelSettings,
    config.LoraSettings,
    config.TaskSettings,
    config.SuiteSettings,
    config.LmEvalSettings,
    config.Columns,
    config.TrainSettings,
    config.EvalSettings,
    config.GuardSettings,
    Rules,
    *(type(field.default) for field in Rules.model_fields.values()),
]
_NAMES = {bool: "true or false", int: "integer", float: "number", str: "text", Recipe: "a [recipe](recipes.md)"}
_BOUNDS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def documentation(kind: type[BaseModel]) -> dict[str, str]:
    """The text that stands below each field in a class's source, its bases included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base is BaseModel or not issubclass(base, BaseModel):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in zip(definition.body, definition.body[1:]):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def type_name(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(arguments[0])
    if origin is Literal:
        return " / ".join(f"`{argument}`" for argument in arguments)
    if origin in (Union, UnionType):
        return " or ".join(type_name(argument) for argument in arguments if argument is not NoneType)
    if origin is list:
        return f"list of {type_name(arguments[0])}"
    if origin is dict:
        return "mapping"
    if annotation in _NAMES:
        return _NAMES[annotation]
    return f"[{annotation.__name__}](configuration.md#{annotation.__name__.lower()})"


def default_name(field: FieldInfo) -> str:
    """A field's default as the configuration would write it."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if field.is_required():
        return "required"
    if isinstance(value, BaseModel):
        return "its defaults"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str) and "\n" in value:
        return "see `holdfast.data.teacher_prompts`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def bounds(field: FieldInfo) -> str:
    """The limits of a number, such as `, ≥ 1`."""
    limits = [m for m in field.metadata if type(m) in _BOUNDS]
    return "".join(f", {_BOUNDS[type(m)]} {getattr(m, type(m).__name__.lower()):g}" for m in limits)


def settings_table(kind: type[BaseModel], name: str = "key") -> str:
    """All fields of a block, with types, defaults and what they mean."""
    text = documentation(kind)
    rows = [
        [f"`{key}`", type_name(field.annotation) + bounds(field), default_name(field), text.get(key, "")]
        for key, field in kind.model_fields.items()
    ]
    return table([name, "type", "default", "meaning"], rows)


def recipe_table() -> str:
    """What each recipe is wired from, what it needs and costs, and when to choose it."""
    rows = []
    for name, facts in recipe_facts().items():
        wiring = "<br>".join(f"{part}: {what}" for part, what in facts["wiring"].items())
        beside = f"{facts['relative_cost']:g} / {facts['relative_memory']:g}"
        needs = ", ".join(facts["needs"]) or "nothing"
        rows.append([f"[`{name}`](#{name})", needs, wiring, facts["cost"], beside, facts["when"]])
    head = ["recipe", "every training example needs", "wiring by default", "one optimizer step", "× SFT", "when"]
    return table(head, rows)


def recipe_sections() -> str:
    """Each recipe's method box and settings."""
    sections = []
    for name, recipe in RECIPES.items():
        box = inspect.cleandoc(recipe.__doc__ or "")
        sections.append(f"### {name}\n\n{recipe.summary}\nSource: {recipe.source}.\n\n```text\n{box}\n```\n")
        sections.append(settings_table(recipe, "setting") + "\n")
    return "\n".join(sections).rstrip()


def configuration_sections() -> str:
    """Every block of the configuration."""
    heads = [f"### {kind.__name__}\n\n{inspect.cleandoc(kind.__doc__ or '')}" for kind in BLOCKS]
    return "\n\n".join(f"{head}\n\n{settings_table(kind)}" for head, kind in zip(heads, BLOCKS))


def lab_task_table() -> str:
    """The lab's tasks, each with an example of its own."""
    rows = []
    for name in TASKS:
        task = lab_task(name)
        first = task.train[0]
        question = "<br>".join(f"`{message['content']}`" for message in first.messages)
        rows.append([f"`lab:{name}`", task.description, question, f"`{first.demonstration}`"])
    sizes = f"{len(lab_task(TASKS[0]).train)} training and {len(lab_task(TASKS[0]).test)} test examples each."
    return table(["task", "what is new", "header and question", "demonstration"], rows) + f"\n\n{sizes}"


def lab_suite_table() -> str:
    """The lab's suites."""
    suites = [lab_suite(name) for name in SUITES]
    rows = [[f"`lab:{s.name}`", s.kind, str(len(s.test)), s.description] for s in suites]
    return table(["suite", "kind", "items", "what it asks"], rows)


def wide_task_table() -> str:
    """The wider lab's tasks, each with an example and what it can be shown with."""
    rows = []
    for name in WIDE_TASKS:
        task = wide_task(name)
        first = task.train[0]
        right = first.demonstration or (
            f"answer : {first.answer.found(first.answer.tools)}" if first.actions else first.answer
        )
        privileges = ", ".join(sorted(task.provides() - {"reward", "privileged_context"})) or "none"
        answer = "<br>".join(f"`{line}`" for line in [*(first.actions or ()), *right.splitlines()])
        size = f"{len(task.train)} / {len(task.test)}"
        rows.append([f"`lab:{name}`", task.description, f"`{first.messages[-1]['content']}`", answer, privileges, size])
    return table(["task", "what is new", "question", "right answer", "privileges", "train / test"], rows)


def wide_suite_table() -> str:
    """The wider lab's suites."""
    suites = [wide_suite(name) for name in WIDE_SUITES]
    rows = [[f"`lab:{s.name}`", s.kind, str(len(s.test)), s.description] for s in suites]
    return table(["suite", "kind", "items", "what it asks"], rows)


def metric_table() -> str:
    """Every registered metric: where the summary has it, what it is, and which direction is good."""
    better = {True: "higher", False: "lower", None: ""}
    rows = [
        [f"`{'.'.join(m.place)}`", m.label, m.definition, m.formula, m.unit, better[m.higher_is_better]]
        for m in METRICS.values()
    ]
    return table(["in `metrics`", "label", "definition", "formula", "unit", "better"], rows)


GENERATED: dict[str, Callable[[], str]] = {
    "recipe table": recipe_table,
    "recipe sections": recipe_sections,
    "configuration": configuration_sections,
    "lab tasks": lab_task_table,
    "lab suites": lab_suite_table,
    "wide lab tasks": wide_task_table,
    "wide lab suites": wide_suite_table,
    "metrics": metric_table,
}


def render(page: str) -> str:
    """A page with its generated parts written anew."""

    def replace(match: re.Match[str]) -> str:
        return f"<!-- generated: {match[1]} -->\n\n{GENERATED[match[1]]()}\n\n<!-- end -->"

    return re.sub(r"<!-- generated: ([a-z ]+) -->.*?<!-- end -->", replace, page, flags=re.DOTALL)


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.md")):
        path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")

"""Write the parts of these pages that follow from the code: recipes, the configuration's keys, the lab's sets.

`python docs/generate.py` replaces the text between `<!-- generated: NAME -->` and `<!-- end -->` on all pages. A test
fails if a page is out of date. A new part is a function that returns Markdown, and an entry in `GENERATED`. A new
recipe needs a `<!-- generated: recipe NAME -->` on one of the pages in `recipes/`.
"""

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from holdfast.cli.methods import recipe_facts
from holdfast.config import settings as config
from holdfast.findings.claims import CLAIMS
from holdfast.guard.settings import Rules
from holdfast.lab import programs
from holdfast.lab.plain import TASKS as PLAIN_TASKS
from holdfast.lab.tasks import ALL_SUITES, TASKS, lab_suite, lab_task
from holdfast.lab.world import world
from holdfast.measure.metrics import METRICS
from holdfast.pretrain.success import SAMPLES
from holdfast.recipes import RECIPES
from holdfast.recipes.base.distillation import CorrectionSettings, DivergenceSettings, TeacherSettings
from holdfast.recipes.base.privilege import PrivilegeSettings
from holdfast.recipes.base.recipe import Recipe

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))  # benchmarks/ is not part of the package

REAL = FOLDER.parent / "benchmarks" / "results" / "real.json"
RECIPE_PAGES = FOLDER / "recipes"
BASE_RESULTS = FOLDER.parent / "benchmarks" / "results" / "lab_base.json"
BLOCKS: list[type[BaseModel]] = [
    config.RunConfig,
    config.CompareConfig,
    config.Arm,
    config.ModelSettings,
    config.LoraSettings,
    config.TaskSettings,
    config.SuiteSettings,
    config.CodeSettings,
    config.SandboxSettings,
    config.LabSettings,
    config.LmEvalSettings,
    config.Columns,
    config.TrainSettings,
    config.EvalSettings,
    config.PassAtKSettings,
    config.GuardSettings,
    Rules,
    *(type(field.default) for field in Rules.model_fields.values()),
]
SHARED = (Recipe, CorrectionSettings, DivergenceSettings, TeacherSettings, PrivilegeSettings)
"""Settings of many recipes, which have their own page."""

SHARED_PAGE = "[shared settings](settings.md)"

LEARNS_FROM = {
    "demonstration": "demonstrations",
    "privileged_context": "demonstrations or solutions",
    "reward": "rewards",
    "solution": "solutions in steps",
    "plan": "plans",
    "actions": "an expert's actions",
    "translation": "translated prompts",
}
_NAMES = {bool: "true or false", int: "integer", float: "number", str: "text"} | {
    Recipe: "a [recipe](recipes/index.md)"
}
_BOUNDS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def list_item(text: str) -> str:
    """An item of a Markdown list in lines of at most 120 characters. Words and links stay whole."""
    whole = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(text, 120, initial_indent="- ", subsequent_indent="  ", **whole)


def documented_in(kind: type[BaseModel]) -> dict[str, tuple[str, type[BaseModel]]]:
    """The text below each field in a class's source, and the class that has it, bases included."""
    documented: dict[str, tuple[str, type[BaseModel]]] = {}
    for base in reversed(kind.__mro__):
        if base is BaseModel or not issubclass(base, BaseModel):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in zip(definition.body, definition.body[1:]):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                documented[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split()), base
    return documented


def first_sentence(text: str) -> tuple[str, str]:
    """A text's first sentence, which fits into a table, and the rest."""
    first, _, rest = re.sub(r"(?<=[.])\s+(?=[A-Z`Αα-ω0-9])", "\0", text, count=1).partition("\0")
    return first, rest


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
        return "in `holdfast.data.teacher_prompts`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def bounds(field: FieldInfo) -> str:
    """The limits of a number, such as `, ≥ 1`."""
    limits = [m for m in field.metadata if type(m) in _BOUNDS]
    return "".join(f", {_BOUNDS[type(m)]} {getattr(m, type(m).__name__.lower()):g}" for m in limits)


def settings_table(kind: type[BaseModel], name: str = "key") -> str:
    """All fields of a block with type, default and meaning. Longer remarks are below the table.

    Of a recipe's settings, the table has its own and those whose default it changes. The others are listed with a link
    to where they are explained.
    """
    documented = documented_in(kind)
    rows, remarks = [], []
    explained, unchanged = dict[str, list[str]](), dict[str, list[str]]()  # keys, by the link to their explanation
    for key in by_closeness(kind):
        field, (text, owner) = kind.model_fields[key], documented.get(key, ("", kind))
        first, rest = first_sentence(text)
        home = home_of(owner, kind)
        if home is not None and default_name(field) == default_name(owner.model_fields[key]):
            unchanged.setdefault(home, []).append(f"`{key}`")
            continue
        rows.append([f"`{key}`", type_name(field.annotation) + bounds(field), default_name(field), first])
        if rest and home is not None:
            explained.setdefault(home, []).append(f"`{key}`")
        elif rest:
            remarks.append(list_item(f"`{key}`: {rest}"))
    more = [f"More on {', '.join(keys)}: {home}." for home, keys in explained.items()]
    more += [f"As in {home}: {', '.join(keys)}." for home, keys in unchanged.items()]
    parts = [table([name, "type", "default", "meaning"], rows), "\n".join(remarks), "\n\n".join(more)]
    return "\n\n".join(part for part in parts if part)


def by_closeness(kind: type[BaseModel]) -> list[str]:
    """A block's fields in order; those of a recipe with its own class's first, then its bases'."""
    if not issubclass(kind, Recipe):
        return list(kind.model_fields)
    own = (key for base in kind.__mro__ for key in vars(base).get("__annotations__", {}) if key in kind.model_fields)
    return list(dict.fromkeys(own))


def home_of(owner: type[BaseModel], kind: type[BaseModel]) -> str | None:
    """A link to the section with the remarks of the class `owner`; None if they belong to the section of `kind`."""
    if not issubclass(kind, Recipe) or kind in SHARED or owner is kind:
        return None
    if owner in SHARED:
        return SHARED_PAGE
    # A base that is not a recipe itself belongs to the first recipe that extends it.
    names = {recipe: name for name, recipe in RECIPES.items()}
    first = owner if owner in names else next(recipe for recipe in names if issubclass(recipe, owner))
    return None if first is kind else f"[`{names[first]}`]({page_of(names[first])}#{names[first]})"


def page_of(recipe: str) -> str:
    """The name of the page in `recipes/` that shows a recipe."""
    marker = f"<!-- generated: recipe {recipe} -->"
    pages = [path.name for path in RECIPE_PAGES.glob("*.md") if marker in path.read_text(encoding="utf-8")]
    if len(pages) != 1:
        raise SystemExit(f"recipe {recipe!r} is on {len(pages)} pages; put {marker} on one page in {RECIPE_PAGES}")
    return pages[0]


def recipe_index() -> str:
    """One line per recipe."""
    rows = []
    for name, facts in recipe_facts().items():
        needs = set(RECIPES[name].needs)
        if "demonstration" in needs:
            needs.discard("privileged_context")  # a demonstration is one
        sources = [LEARNS_FROM[need] for need in sorted(needs)] or ["prompts"]
        cost = f"{facts['relative_cost']:g} / {facts['relative_memory']:g}"
        rows.append([f"[`{name}`]({page_of(name)}#{name})", ", ".join(sources), facts["summary"], cost])
    return table(["recipe", "learns from", "what it does", "× SFT"], rows)


def recipe_section(name: str) -> str:
    """A recipe's purpose, method box, needs, cost and settings."""
    recipe, facts = RECIPES[name], recipe_facts()[name]
    box = inspect.cleandoc(recipe.__doc__ or "")
    cost = f"{facts['cost']}. × SFT: {facts['relative_cost']:g} in operations, {facts['relative_memory']:g} in memory."
    lines = {
        "Choose it for": facts["when"],
        "Every training example needs": ", ".join(facts["needs"]) or "only a prompt",
        "One optimizer step": cost,
        **{title.capitalize(): text for title, text in facts["wiring"].items()},
        "Source": facts["source"],
    }
    listed = "\n".join(f"- **{title}**: {text}" for title, text in lines.items())
    parts = [f"## {name}", facts["summary"], f"```text\n{box}\n```", listed, settings_table(recipe, "setting")]
    return "\n\n".join(parts)


def shared_settings() -> str:
    """The settings that recipes with a teacher share, with the base classes' defaults."""
    heads = {DivergenceSettings: "Divergence", TeacherSettings: "Teacher", PrivilegeSettings: "What the teacher sees"}
    return "\n\n".join(f"### {head}\n\n{settings_table(kind, 'setting')}" for kind, head in heads.items())


def replay_settings() -> str:
    """The settings that all recipes have."""
    return settings_table(Recipe, "setting")


def configuration_sections() -> str:
    """Every block of the configuration."""
    heads = [f"### {kind.__name__}\n\n{inspect.cleandoc(kind.__doc__ or '')}" for kind in BLOCKS]
    return "\n\n".join(f"{head}\n\n{settings_table(kind)}" for head, kind in zip(heads, BLOCKS))


def lab_task_table() -> str:
    """The lab's tasks, each with an example."""
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
    suites = [lab_suite(name) for name in ALL_SUITES]
    rows = [[f"`lab:{s.name}`", s.kind, str(len(s.test)), s.description] for s in suites]
    return table(["suite", "kind", "items", "what it asks"], rows)


def plain_task_table() -> str:
    """The tasks that single recipes need, each with an example and its privileges."""
    rows = []
    for name in PLAIN_TASKS:
        task = lab_task(name)
        first = task.train[0]
        right = first.demonstration or (
            f"answer : {first.answer.found(first.answer.tools)}" if first.actions else first.answer
        )
        privileges = ", ".join(sorted(task.provides() - {"reward", "privileged_context"})) or "none"
        answer = "<br>".join(f"`{line}`" for line in [*(first.actions or ()), *right.splitlines()])
        size = f"{len(task.train)} / {len(task.test)}"
        rows.append([f"`lab:{name}`", task.description, f"`{first.messages[-1]['content']}`", answer, privileges, size])
    return table(["task", "what is new", "question", "right answer", "privileges", "train / test"], rows)


def program_table() -> str:
    """The specifications of a world of the task `programs`, each with a question."""
    here = world(0)
    questions = {each["completion"]: each["prompt"][-1]["content"] for each in programs.records(here)["train"]}
    rows = [
        [each.words, f"`{questions[programs.answer(each)]}`", f"`{each.program}`"]
        for each in programs.specifications(here)
    ]
    sizes = (
        f"{programs.TRAIN} training and {programs.TEST} test examples, each with {programs.HIDDEN_TESTS} hidden tests."
    )
    return table(["specification", "question", "program"], rows) + f"\n\n{sizes}"


def claim_table() -> str:
    """The claims that `holdfast findings` tests."""
    rows = [[f"`{claim.name}`", claim.statement, claim.source, "yes" if claim.is_quick else ""] for claim in CLAIMS]
    return table(["claim", "what it says", "source", "quick"], rows)


def measured_base() -> dict[str, Any]:
    """What the lab's base does before any stream, as `holdfast lab eval --json` printed it."""
    return dict(json.loads(BASE_RESULTS.read_text(encoding="utf-8")))


def percent(share: float) -> str:
    """A share in percent, to one decimal."""
    return f"{100 * share:.1f}"


def lab_skill_table() -> str:
    """The base's skills, with intervals over items."""
    skills = {skill: found for skill, found in measured_base().items() if skill != "before"}
    rows = [
        [
            skill,
            f"`{found['suite']}`",
            str(found["n"]),
            percent(found["mean"]),
            " to ".join(map(percent, found["ci95"])),
        ]
        for skill, found in skills.items()
    ]
    return table(["skill", "suite", "items", "score, %", "95% CI"], rows)


def lab_success_table() -> str:
    """How often the base's samples are right before any stage, and how they are said."""
    rows = []
    for found in measured_base()["before"]:
        style = found["style"] or {}
        said = [percent(style[key]) if style else "" for key in ("tics", "preambles", "main_form")]
        right = [percent(found["mean"]), " to ".join(map(percent, found["ci95"])), percent(found["all_failed"])]
        rows.append([f"`{found['task']}`", found["shown"], *right, *said])
    prompts, samples = measured_base()["before"][0]["prompts"], SAMPLES
    head = ["task", "in the prompt", "right, %", "95% CI", f"all {samples} samples wrong, %", "tics, %", "preambles, %"]
    return table([*head, "main form, %"], rows) + f"\n\n{prompts} prompts of each task, {samples} samples of each."


def metric_table() -> str:
    """Every registered metric: where the summary has it, what it is, and which direction is good."""
    better = {True: "higher", False: "lower", None: ""}
    rows = [
        [f"`{'.'.join(m.place)}`", m.label, m.definition, m.formula, m.unit, better[m.higher_is_better]]
        for m in METRICS.values()
    ]
    return table(["in `metrics`", "label", "definition", "formula", "unit", "better"], rows)


def real_model_tables() -> str:
    """The stored results on the pretrained model."""
    from benchmarks.real.tables import all_tables, provenance

    if not REAL.exists():
        return "No results are stored."
    found = json.loads(REAL.read_text(encoding="utf-8"))
    return f"{provenance(found)}\n\n{all_tables(found)}"


GENERATED: dict[str, Callable[[], str]] = {
    "recipe index": recipe_index,
    "replay settings": replay_settings,
    "shared settings": shared_settings,
    **{f"recipe {name}": partial(recipe_section, name) for name in RECIPES},
    "configuration": configuration_sections,
    "lab tasks": lab_task_table,
    "lab suites": lab_suite_table,
    "plain lab tasks": plain_task_table,
    "lab programs": program_table,
    "claims": claim_table,
    "lab skills": lab_skill_table,
    "lab success": lab_success_table,
    "metrics": metric_table,
    "real model": real_model_tables,
}


def render(page: str) -> str:
    """A page with its generated parts replaced."""

    def replace(match: re.Match[str]) -> str:
        return f"<!-- generated: {match[1]} -->\n\n{GENERATED[match[1]]()}\n\n<!-- end -->"

    return re.sub(r"<!-- generated: ([a-z_ ]+) -->.*?<!-- end -->", replace, page, flags=re.DOTALL)


if __name__ == "__main__":
    for path in sorted(FOLDER.rglob("*.md")):
        path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")

"""The typed configuration of runs and comparisons. Its blocks are in the other modules of this folder.

It is strict. An unknown key, a wrong type or an impossible combination is one line that names the key and the fix.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from holdfast.config.base import LAB, Settings
from holdfast.config.code import CodeSettings, SandboxSettings
from holdfast.config.model import LoraSettings, ModelSettings
from holdfast.config.recipe import AnyRecipe, dump_recipe, registered_name
from holdfast.config.sources import (
    SDFT_SUITES,
    Columns,
    LabSettings,
    LmEvalSettings,
    SourceSettings,
    SuiteSettings,
    TaskSettings,
    presets,
    shorthand,
)
from holdfast.config.training import EvalSettings, PassAtKSettings, TrainSettings
from holdfast.guard.settings import GuardSettings

__all__ = [
    "LAB",
    "SDFT_SUITES",
    "AnyRecipe",
    "Arm",
    "CodeSettings",
    "Columns",
    "CompareConfig",
    "EvalSettings",
    "GuardSettings",
    "LabSettings",
    "LmEvalSettings",
    "LoraSettings",
    "ModelSettings",
    "PassAtKSettings",
    "RunConfig",
    "SandboxSettings",
    "Settings",
    "SourceSettings",
    "StreamSettings",
    "SuiteSettings",
    "TaskSettings",
    "TrainSettings",
    "arm_shorthand",
    "dump_recipe",
    "shorthand",
]


class StreamSettings(Settings):
    """What runs and comparisons share: a model, a stream of tasks, and what is measured."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The name of the run, in the report."""
    model: ModelSettings = ModelSettings()
    """The model to train."""
    tasks: list[Annotated[TaskSettings, BeforeValidator(shorthand)]] = Field(min_length=1)
    """The stages, in order."""
    suites: Annotated[list[Annotated[SuiteSettings, BeforeValidator(shorthand)]] | None, BeforeValidator(presets)] = (
        None
    )
    """Retention and out-of-distribution suites. By default the lab's for a lab model, otherwise none."""
    train: TrainSettings = TrainSettings()
    """The budget of each stage, and the optimizer."""
    eval: EvalSettings = EvalSettings()
    """What is measured before the first and after each stage."""
    guard: GuardSettings = GuardSettings()
    """The collapse guard."""
    output_dir: str | None = None
    """The run directory; by default `runs/NAME`."""

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        names = [t.name for t in self.tasks] + [s.name for s in self.suites or []]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two tasks or suites are named {name!r}; give each its own name")
        return self


class RunConfig(StreamSettings):
    """One recipe on one stream with one seed."""

    recipe: AnyRecipe
    """A recipe's name, or a mapping of `name` and settings."""
    seed: int = Field(default=0, ge=0)
    """Decides data order, samples and initial adapters."""


class Arm(Settings):
    """One recipe of a comparison, with a label."""

    label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Its name in the report and in file names."""
    recipe: AnyRecipe
    """A recipe's name, or a mapping of `name` and settings."""


def arm_shorthand(value: Any) -> Any:
    """A recipe's name, or its name with settings, as an arm; the label is the name if there is none."""
    if isinstance(value, str):
        return {"label": registered_name(value), "recipe": value}
    if isinstance(value, Mapping) and "recipe" not in value:
        name = value.get("name")
        label = value.get("label", registered_name(name) if isinstance(name, str) else name)
        return {"label": label, "recipe": {k: v for k, v in value.items() if k != "label"}}
    return value


class CompareConfig(StreamSettings):
    """Recipes × seeds × task orders at the same budget."""

    recipes: list[Annotated[Arm, BeforeValidator(arm_shorthand)]] = Field(min_length=1)
    """Names, or mappings of `name`, settings, and a `label` if one recipe is compared with several settings."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2], min_length=1)
    """Each recipe runs with each seed."""
    orders: list[list[str]] | None = None
    """Task orders, each a permutation of the task names; by default only the order of `tasks`."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        labels = [arm.label for arm in self.recipes]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two recipes are labeled {label!r}; give one its own `label`")
        # The same run twice is no replication: its interval over runs would be 0 wide.
        repeatable: dict[str, Sequence[object]] = {"seed": self.seeds, "order": self.orders or []}
        for name, values in repeatable.items():
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"{name} {value} is listed twice; list each {name} once")
        names = sorted(task.name for task in self.tasks)
        for order in self.orders or []:
            if sorted(order) != names:
                raise ValueError(f"order {order} is not a permutation of the tasks {names}")
        return self

    def task_orders(self) -> list[list[str]]:
        return self.orders or [[task.name for task in self.tasks]]

    def run_config(self, arm: Arm, seed: int, order: list[str]) -> RunConfig:
        """The configuration of one of the comparison's runs."""
        by_name = {task.name: task for task in self.tasks}
        shared = {field: getattr(self, field) for field in ("name", "model", "suites", "train", "eval", "guard")}
        return RunConfig(**shared, tasks=[by_name[name] for name in order], recipe=arm.recipe, seed=seed)

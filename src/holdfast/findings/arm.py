"""An arm: one recipe with its settings on one stream. Torch-free."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from holdfast.config.load import parse_config
from holdfast.config.overrides import apply_overrides
from holdfast.config.settings import RunConfig
from holdfast.findings.stream import SHARED, Stream

RATES = (1e-4, 2e-4, 4e-4)
"""The learning rates that every arm is tried with on the tuning worlds."""

TUNING_WORLDS = (1000, 1001)
"""Where the rates are chosen. No claim uses these worlds."""

SCORES_ALONE: Mapping[str, Any] = {"eval.probe_steps": 0, "eval.kl_items": 0, "eval.max_items": 96}
"""The settings of tuning runs: the choice of a rate needs the final scores and nothing else."""

Extra = Callable[[Path], Mapping[str, Any]]
"""Further numbers that a claim needs from a finished run's directory, which is not kept. A module-level function,
because it is sent to other processes."""


@dataclass(frozen=True)
class ClaimArm:
    """One recipe on one stream.

    Args:
        label: distinct among all arms.
        recipe: a recipe's name, or a mapping of `name` and settings.
        stream: the stream.
        settings: what the arm changes, by dotted keys.
        rate: a fixed learning rate, if the claim is about what happens at that rate; None to choose one of `rates` on
            the tuning worlds.
        rates: the learning rates to choose from.
        extra: further numbers to keep of each of its runs.
    """

    label: str
    recipe: str | Mapping[str, Any]
    stream: Stream
    settings: Mapping[str, Any] = field(default_factory=dict)
    rate: float | None = None
    rates: tuple[float, ...] = RATES
    extra: Extra | None = None

    def on(self, stream: Stream, **changes: Any) -> "ClaimArm":
        """The same recipe on another stream, with the stream in its label."""
        return replace(self, label=f"{self.label}@{stream.name}", stream=stream, **changes)

    def at(self, rate: float) -> "ClaimArm":
        """The same arm at a fixed learning rate, with the rate in its label."""
        return replace(self, label=f"{self.label}-{rate:g}", rate=rate)

    def settings_of_run(self, world: int, rate: float, *, full: bool) -> dict[str, Any]:
        """The settings of its run in a world, without defaults."""
        stream, recipe = self.stream, self.recipe
        if not isinstance(recipe, str) and list(recipe) == ["name"]:
            recipe = recipe["name"]  # so that both ways to say it are one run
        data: dict[str, Any] = {
            "name": "findings",
            **SHARED,
            "tasks": [f"lab:{task}" for task in stream.tasks],
            "suites": [f"lab:{suite}" for suite in stream.suites],
            "recipe": recipe,
            "seed": world,
        }
        changes = {**stream.settings, **({} if full else stream.quick), **self.settings, "train.learning_rate": rate}
        if world in TUNING_WORLDS:
            changes |= SCORES_ALONE
        return apply_overrides(data, changes)

    def config(self, world: int, rate: float, *, full: bool) -> RunConfig:
        """The configuration of its run in a world.

        Raises:
            ConfigError: the settings are not a valid configuration.
        """
        return parse_config(self.settings_of_run(world, rate, full=full), RunConfig, where=f"arm {self.label!r}")

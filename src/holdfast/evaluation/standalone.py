"""Evaluate a model that is not in a run: for `holdfast eval`, the gate and `holdfast blend`. Imports without torch."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from holdfast.config.load import parse_config
from holdfast.config.settings import (
    LAB,
    SDFT_SUITES,
    CompareConfig,
    EvalSettings,
    ModelSettings,
    RunConfig,
    StreamSettings,
    TaskSettings,
    TrainSettings,
    shorthand,
)
from holdfast.config.trust import refuse_own_trust
from holdfast.config.yaml import read_config
from holdfast.errors import ConfigError
from holdfast.store.bundled import BASES

if TYPE_CHECKING:
    from holdfast.data.task import Suite, Task
    from holdfast.evaluation.evaluator import Evaluator, OnSet

LAB_LENGTHS = TrainSettings(max_prompt_length=200, max_completion_length=56)
"""Longest prompt and answer of the lab, in tokens. Together they fit the lab base's context of 256."""

EvaluationJson = Mapping[str, Any]
"""One model's evaluation as plain data: what `holdfast eval --json` and a run's `evals/stage-N.json` hold."""


class GateConfig(StreamSettings):
    """A configuration that only names what is evaluated. It needs neither tasks nor a recipe."""

    tasks: list[Annotated[TaskSettings, BeforeValidator(shorthand)]] = Field(default_factory=list)


@dataclass(frozen=True)
class EvaluationPlan:
    """A model, and what it is evaluated on.

    Attributes:
        model: where the weights are, and their dtype and device.
        tasks: evaluated on their test items.
        suites: evaluated too.
        train: lengths of prompts and answers.
        settings: what is measured.
    """

    model: ModelSettings
    tasks: "Sequence[Task]"
    suites: "Sequence[Suite]"
    train: TrainSettings
    settings: EvalSettings

    def for_model(self, path: str) -> "EvaluationPlan":
        """The same evaluation of another model. Its weights are complete, so no LoRA adapter is added."""
        return replace(self, model=self.model.model_copy(update={"path": path, "lora": None}))


def evaluation_plan(
    config: str | Path | None, suites: Sequence[str], items: int | None, run_code: bool
) -> EvaluationPlan:
    """What models are evaluated on. Arguments and errors are those of `holdfast.gate.sources.gate`."""
    from holdfast.tasks.load import load_stream

    settings: StreamSettings
    if config is not None:
        settings = _settings(Path(config))
    elif suites:
        settings = GateConfig()
    else:
        raise ConfigError(
            "nothing is named to evaluate the models on",
            fix="name a configuration with --config, or suites with --suites, e.g. --suites lab",
        )
    if suites:
        entries = [entry for name in suites for entry in _suite_entries(name, run_code)]
        chosen = parse_config({"suites": entries}, GateConfig, where="--suites")
        settings = settings.model_copy(update={"tasks": [], "suites": chosen.suites})
    tasks, loaded = load_stream(settings)
    if not tasks and not loaded:
        raise ConfigError("it names neither tasks nor suites", where=str(config), fix="list some under `suites`")
    train = settings.train
    own = [suite for suite in settings.suites or () if suite.lm_eval is None]
    if config is None and all(suite.lab is not None for suite in own):
        train = LAB_LENGTHS
    limited = settings.eval.model_copy(update={"max_items": items}) if items is not None else settings.eval
    return EvaluationPlan(settings.model, tasks, loaded, train, limited)


def _settings(path: Path) -> StreamSettings:
    """A configuration of any kind: of a run, of a comparison, or one that only names what is evaluated."""
    data = read_config(path)
    kind = CompareConfig if "recipes" in data else RunConfig if "recipe" in data else GateConfig
    config = parse_config(data, kind, where=str(path), base_dir=path.parent)
    refuse_own_trust(config, path, {})
    return config


def _suite_entries(name: str, run_code: bool) -> list[Any]:
    if name in BASES:
        from holdfast.lab.tasks import RETENTION

        return [f"{LAB}:{suite}" for suite in RETENTION]
    if name.partition(":")[0] in (LAB, "gym"):
        return [name]
    names = SDFT_SUITES if name == "sdft" else (name.removeprefix("lm_eval:"),)
    return [
        {
            "name": re.sub(r"[^A-Za-z0-9._-]", "-", Path(each).stem if Path(each).is_file() else each).strip("-._"),
            "lm_eval": each,
            "lm_eval_settings": {"run_code": run_code},
        }
        for each in names
    ]


def evaluate_model(plan: EvaluationPlan, on_set: "OnSet | None" = None, *, seed: int = 0) -> EvaluationJson:
    """Score a model on every task and suite of a plan. Nothing is trained or written.

    Args:
        on_set: called with the name of each set before it is evaluated.
        seed: of a LoRA adapter's random initialization.

    Raises:
        HoldfastError: the model cannot be loaded, or an item does not fit its context or the plan's lengths.
    """
    return load_evaluator(plan, on_set, seed=seed).evaluate(0, None, plan.tasks, plan.suites).as_json()


def load_evaluator(plan: EvaluationPlan, on_set: "OnSet | None" = None, *, seed: int = 0) -> "Evaluator":
    """The evaluator of a plan, with its model loaded. Arguments and errors are those of `evaluate_model`."""
    from holdfast.evaluation.evaluator import Evaluator
    from holdfast.model.context_length import configured_context, fit_lengths
    from holdfast.model.load import load_policy
    from holdfast.model.processes import Processes
    from holdfast.model.shard import shard
    from holdfast.tasks.lm_eval import LmEvalSuite

    world = Processes.current()
    # lm-evaluation-harness cuts its requests to the context itself.
    must_fit = bool(plan.tasks) or not all(isinstance(suite, LmEvalSuite) for suite in plan.suites)
    train = fit_lengths(plan.train, plan.settings, configured_context(plan.model)) if must_fit else plan.train
    policy = load_policy(plan.model, seed=seed)
    if must_fit:
        train = fit_lengths(train, plan.settings, policy.context_length)
    if world.size > 1:
        shard(policy, world)
    return Evaluator(policy, None, train, plan.settings, on_set)

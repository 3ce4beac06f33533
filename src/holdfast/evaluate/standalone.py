"""Score a model outside a run: for `eval`, the gate and `blend`."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from holdfast.config.yaml import read_config
from holdfast.errors import ConfigError
from holdfast.store.bundled import BASES

if TYPE_CHECKING:
    from holdfast.data.task import Suite, Task

LENGTHS = TrainSettings(max_prompt_length=200, max_completion_length=56)
"""Longest prompt and answer of the lab, in tokens; together they fit the base's context of 256."""

Evaluation = Mapping[str, Any]
"""Of one model: what `holdfast eval --json` and a run's `evals/stage-N.json` hold."""

OnSet = Callable[[str, str], None]
"""Called with the model and the name of each set before it is evaluated."""


class GateConfig(StreamSettings):
    """What both models are evaluated on. Any configuration will do, and it needs neither tasks nor a recipe."""

    tasks: list[Annotated[TaskSettings, BeforeValidator(shorthand)]] = Field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """How a model is evaluated.

    Attributes:
        model: how its weights are held; the path is each model's own.
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


def plan_of(config: str | Path | None, suites: Sequence[str], items: int | None, run_code: bool) -> Plan:
    """How models are evaluated: arguments and errors as for `gate`."""
    from holdfast.tasks.load import load_stream

    settings: StreamSettings
    if config is not None:
        settings = _settings(Path(config))
    elif suites:
        settings = GateConfig()
    else:
        raise ConfigError(
            "there is nothing to evaluate the models on",
            fix="name a configuration with --config, or suites with --suites, e.g. --suites lab",
        )
    if suites:
        entries = [entry for name in suites for entry in _suite_entries(name, run_code)]
        chosen = parse_config({"suites": entries}, GateConfig, where="--suites")
        settings = settings.model_copy(update={"tasks": [], "suites": chosen.suites})
    tasks, loaded = load_stream(settings)
    if not tasks and not loaded:
        raise ConfigError("names neither tasks nor suites", where=str(config), fix="list some under `suites`")
    train = settings.train
    own = [suite for suite in settings.suites or () if suite.lm_eval is None]
    if config is None and all(suite.lab is not None for suite in own):
        from holdfast.evaluate.standalone import LENGTHS

        train = LENGTHS
    limited = settings.eval.model_copy(update={"max_items": items}) if items is not None else settings.eval
    return Plan(settings.model, tasks, loaded, train, limited)


def _settings(path: Path) -> StreamSettings:
    """A configuration of any kind: of a run, of a comparison, or only of what is evaluated."""
    data = read_config(path)
    kind = CompareConfig if "recipes" in data else RunConfig if "recipe" in data else GateConfig
    return parse_config(data, kind, where=str(path), base_dir=path.parent)


def _suite_entries(name: str, run_code: bool) -> list[Any]:
    if name in BASES:
        from holdfast.lab.tasks import SUITES, WIDE_SUITES

        return [f"{LAB}:{suite}" for suite in (SUITES if name == LAB else WIDE_SUITES)]
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


def evaluate(model: str, plan: Plan, on_set: OnSet) -> Evaluation:
    """Score one model on every task and suite of a plan; trains and writes nothing."""
    from holdfast.evaluate.evaluator import Evaluator
    from holdfast.model.context_length import check_context
    from holdfast.model.load import load_policy
    from holdfast.model.processes import Processes
    from holdfast.model.shard import shard
    from holdfast.tasks.lm_eval import LmEvalSuite

    world = Processes.current()
    policy = load_policy(plan.model.model_copy(update={"path": model, "lora": None}))
    own = [suite for suite in plan.suites if not isinstance(suite, LmEvalSuite)]
    if plan.tasks or own:
        check_context(policy, plan.train, plan.settings)
    if world.size > 1:
        shard(policy, world)
    evaluator = Evaluator(policy, None, plan.train, plan.settings, on_set=lambda name: on_set(model, name))
    return evaluator.evaluate(0, None, plan.tasks, plan.suites).as_json()

"""Where the gate's evaluations come from: a file, a run, or a model evaluated now. Imports without torch."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from holdfast.config import (
    LAB,
    SDFT_SUITES,
    CompareConfig,
    EvalSettings,
    ModelSettings,
    RunConfig,
    StreamSettings,
    TaskSettings,
    TrainSettings,
    parse_config,
    read_config,
    shorthand,
)
from holdfast.errors import ConfigError, RunError
from holdfast.lab.bases import BASES
from holdfast.measure.gate import MARGIN, Evaluation, GateVerdict, judge
from holdfast.store import read_json

if TYPE_CHECKING:
    from holdfast.tasks.base import Suite, Task

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


def gate(
    base: str | Path,
    candidate: str | Path | None = None,
    *,
    config: str | Path | None = None,
    suites: Sequence[str] = (),
    margin: float = MARGIN,
    strict: bool = False,
    items: int | None = None,
    run_code: bool = False,
    on_set: OnSet | None = None,
) -> tuple[GateVerdict, str, str]:
    """Judge a candidate by its base.

    Args:
        base: a model (folder, hub id or `lab`), a file written by `holdfast eval --json`, or a run directory, of which
            it is the model before the first stage.
        candidate: the same; of a run directory it is the model after the last finished stage. May be left out where
            `base` is a run directory.
        config: a configuration whose tasks and suites models are evaluated on.
        suites: in place of those: `lab`, `lab-wide`, `lab:NAME`, `gym:NAME`, `sdft`, tasks or task files of
            lm-evaluation-harness.
        margin: the largest fall that is accepted, in points.
        strict: whether a set that is not decided is refused too.
        items: evaluate models on the first so many items of each set.
        run_code: let suites run code that a model wrote.
        on_set: called before each set is evaluated.

    Returns:
        The verdict, and what base and candidate are called.

    Raises:
        HoldfastError: a source cannot be read or evaluated, or the two are not of the same items.
    """
    if not 0 <= margin < 100:
        raise ConfigError(f"a margin of {margin} points", mend="it is between 0 and 100")
    if candidate is None and not _is_run(Path(base)):
        raise ConfigError("a candidate is missing", mend="name it after the base, or name one run directory")
    sources = (str(base), str(base if candidate is None else candidate))
    models = [source for source in sources if not Path(source).is_file() and not _is_run(Path(source))]
    plan = plan_of(config, suites, items, run_code) if models else None
    # What can be wrong with either is told before the first model is evaluated, which may take an hour.
    read = [None if source in models else _kept(source, is_base) for source, is_base in zip(sources, (True, False))]
    if plan is not None:
        from holdfast.train.model import locate

        for model in models:
            locate(model)
    found: list[Evaluation] = []
    names: list[str] = []
    for source, kept in zip(sources, read, strict=True):
        if kept is None:
            assert plan is not None
            kept = evaluate(source, plan, on_set or (lambda model, name: None)), source
        found.append(kept[0])
        names.append(kept[1])
    return judge(found[0], found[1], margin, strict=strict), names[0], names[1]


def _kept(source: str, is_base: bool) -> tuple[Evaluation, str]:
    """The evaluation that a file or a run holds, and what its model is called."""
    path = Path(source)
    if path.is_file():
        return _read(path), source
    stages = _stages(path)
    stage = 0 if is_base else max(stages)
    if stage not in stages:
        raise RunError("has no evaluation before the first stage", where=source, mend="let the run begin first")
    if not is_base and stage == 0:
        raise RunError("has no finished stage yet", where=source, mend="let it finish one first")
    return _read(stages[stage]), f"{source}, stage {stage}" if stage else f"{source}, before the first stage"


def _is_run(path: Path) -> bool:
    return (path / "evals").is_dir() and not (path / "config.json").exists()


def _stages(path: Path) -> dict[int, Path]:
    found = {re.fullmatch(r"stage-(\d+)\.json", file.name): file for file in (path / "evals").iterdir()}
    stages = {int(match[1]): file for match, file in found.items() if match}
    if not stages:
        raise RunError("has no evaluations yet", where=str(path), mend="let the run begin first")
    return stages


def _read(path: Path) -> Evaluation:
    evaluation = read_json(path)
    if not isinstance(evaluation, dict) or not isinstance(evaluation.get("items"), dict):
        mend = "name what `holdfast eval --json FILE` wrote, or a run's evals/stage-N.json"
        raise RunError("is not an evaluation: it has no scores of items", where=str(path), mend=mend)
    return evaluation


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
            mend="name a configuration with --config, or suites with --suites, e.g. --suites lab",
        )
    if suites:
        entries = [entry for name in suites for entry in _suite_entries(name, run_code)]
        chosen = parse_config({"suites": entries}, GateConfig, where="--suites")
        settings = settings.model_copy(update={"tasks": [], "suites": chosen.suites})
    tasks, loaded = load_stream(settings)
    if not tasks and not loaded:
        raise ConfigError("names neither tasks nor suites", where=str(config), mend="list some under `suites`")
    train = settings.train
    own = [suite for suite in settings.suites or () if suite.lm_eval is None]
    if config is None and all(suite.lab is not None for suite in own):
        from holdfast.lab.evaluate import LENGTHS

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
    from holdfast.rollouts.training_prompts import check_context
    from holdfast.stream.evaluate import Evaluator
    from holdfast.tasks.lm_eval import LmEvalSuite
    from holdfast.train.model import load_policy
    from holdfast.train.shard import shard
    from holdfast.train.world import World

    world = World.current()
    policy = load_policy(plan.model.model_copy(update={"path": model, "lora": None}))
    own = [suite for suite in plan.suites if not isinstance(suite, LmEvalSuite)]
    if plan.tasks or own:
        check_context(policy, plan.train, plan.settings)
    if world.size > 1:
        shard(policy, world)
    evaluator = Evaluator(policy, None, plan.train, plan.settings, on_set=lambda name: on_set(model, name))
    return evaluator.evaluate(0, None, plan.tasks, plan.suites).as_json()

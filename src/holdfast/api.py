"""The commands as functions: `run`, `compare`, `resume`, `report`, `evaluate`, `check`, `rewrite` and others."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.config.load import load_config, parse_config
from holdfast.config.overrides import apply_overrides
from holdfast.config.settings import CompareConfig, RunConfig, StreamSettings, TaskSettings
from holdfast.config.trust import UsersWord, refuse_own_trust
from holdfast.config.yaml import read_config
from holdfast.errors import ConfigError, RunError, did_you_mean
from holdfast.judging.pool import judging
from holdfast.reporting.page import all_figures, write_report
from holdfast.reporting.save_figures import save_figures
from holdfast.stop import listening
from holdfast.store.files import refuse_special
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.observer import Observer
from holdfast.summary.read import read_summary
from holdfast.tasks.given import NOTHING_GIVEN, GivenSets

if TYPE_CHECKING:
    from holdfast.data.task import Suite, Task
    from holdfast.stream.rewrite import RewriteJob

SummaryDict = dict[str, Any]

Entry = Mapping[str, Any] | str
"""A task or suite as a configuration has it."""

ConfigKind = TypeVar("ConfigKind", bound=StreamSettings)


def _config(
    source: str | Path | Mapping[str, Any] | ConfigKind,
    kind: type[ConfigKind],
    overrides: Mapping[str, Any],
    given: GivenSets = NOTHING_GIVEN,
) -> ConfigKind:
    """A configuration from a file, plain data or a configuration, with settings replaced as in `apply_overrides`, and
    with an entry for each task and suite that is an object."""
    if isinstance(source, StreamSettings):
        data = source.model_dump(mode="json", exclude_unset=True)  # what is a default stays one
        if not overrides and given == NOTHING_GIVEN:
            return source
        return parse_config(given.entries(apply_overrides(data, overrides)), kind)
    if isinstance(source, Mapping):
        return parse_config(given.entries(apply_overrides(source, overrides)), kind, base_dir=Path.cwd())
    if given == NOTHING_GIVEN:
        return load_config(source, kind, overrides)
    path = Path(source)
    data = given.entries(apply_overrides(read_config(path), overrides))
    config = parse_config(data, kind, where=str(path), base_dir=path.parent)
    refuse_own_trust(config, path, overrides)
    return config


def run_configs(path: str | Path, overrides: Mapping[str, Any] | None = None) -> dict[str, RunConfig]:
    """The runs that a file describes, by label. A comparison gives one per recipe, with its first seed and order.

    Raises:
        ConfigError: as `load_config`.
    """
    path = Path(path)
    data = apply_overrides(read_config(path), overrides or {})
    if "recipes" not in data or "recipe" in data:
        config = parse_config(data, RunConfig, where=str(path), base_dir=path.parent)
        refuse_own_trust(config, path, overrides or {})
        return {config.recipe.name: config}
    comparison = parse_config(data, CompareConfig, where=str(path), base_dir=path.parent)
    refuse_own_trust(comparison, path, overrides or {})
    seed, order = comparison.seeds[0], comparison.task_orders()[0]
    return {arm.label: comparison.run_config(arm, seed, order) for arm in comparison.recipes}


def runs_of_each_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> int:
    """How many runs of each recipe a file describes: one, or in a comparison one for each seed and order.

    Raises:
        ConfigError: as `load_config`.
    """
    data = apply_overrides(read_config(Path(path)), overrides or {})
    if "recipes" not in data or "recipe" in data:
        return 1
    comparison = parse_config(data, CompareConfig, where=str(path))
    return len(comparison.seeds) * len(comparison.task_orders())


def directory_of(config: StreamSettings, output_dir: str | Path | None = None) -> Path:
    """The directory that a run or a comparison writes."""
    return Path(output_dir or config.output_dir or Path("runs") / config.name)


def run(
    config: str | Path | Mapping[str, Any] | RunConfig,
    output_dir: str | Path | None = None,
    *,
    tasks: Sequence["Task | Entry"] | None = None,
    suites: Sequence["Suite | Entry"] | None = None,
    observer: Observer | None = None,
    **overrides: Any,
) -> SummaryDict:
    """Run one recipe on one stream, and write a run directory with a report; returns the summary.

    Args:
        config: a YAML file, plain data, or a `RunConfig`.
        output_dir: the run directory. Default: `output_dir` of the configuration, or `runs/NAME`.
        tasks: the stages as objects, in order. The configuration need not name them. If it lists them as
            `{name: NAME, given: true}`, it decides on their order, and may have other tasks and `steps` beside them. A
            list with entries as a configuration has them, such as `lab:facts`, replaces the configuration's.
        suites: held-out suites as objects, likewise.
        observer: receives the run's events while it works.
        overrides: settings to replace, e.g. `seed=1`, `recipe="sft"` or `**{"train.steps": 100}`.

    Raises:
        HoldfastError: the configuration, the data or the model cannot be used; nothing has been written.
        Stopped: SIGTERM or Ctrl-C stopped the run; `resume` continues after the last optimizer step.
    """
    from holdfast.model.processes import Processes
    from holdfast.stream.run import Run

    given = GivenSets.of(tasks, suites)
    resolved = _config(config, RunConfig, overrides, given)
    directory = RunDirectory(directory_of(resolved, output_dir))
    with listening(Processes.current().board), judging():
        current = Run(resolved, directory, observer=observer, given=given)
        summary = current.start()
        current.world.main(lambda: write_report(summary, directory.report))
    return summary


def compare(
    config: str | Path | Mapping[str, Any] | CompareConfig,
    output_dir: str | Path | None = None,
    *,
    tasks: Sequence["Task | Entry"] | None = None,
    suites: Sequence["Suite | Entry"] | None = None,
    observer: Observer | None = None,
    **overrides: Any,
) -> SummaryDict:
    """Run recipes × seeds × task orders at equal budget, and write one report; returns the comparison's summary.

    Arguments and errors are as for `run`.
    """
    from holdfast.model.processes import Processes
    from holdfast.stream import compare as comparison

    given = GivenSets.of(tasks, suites)
    resolved = _config(config, CompareConfig, overrides, given)
    path = directory_of(resolved, output_dir)
    with listening(Processes.current().board), judging():
        summary = comparison.compare(resolved, path, observer, on_progress=lambda: report(path), given=given)
        Processes.current().main(lambda: report(path))
    return summary


def resume(
    directory: str | Path,
    *,
    tasks: Sequence["Task | Entry"] | None = None,
    suites: Sequence["Suite | Entry"] | None = None,
    observer: Observer | None = None,
    trust_remote_code: bool = False,
    unprotected: bool = False,
) -> SummaryDict:
    """Resume a run or a comparison that was stopped. The result is the same as without the stop.

    Args:
        tasks, suites: the objects that the run was started with, if there were any.
        observer: receives the run's events while it works.
        trust_remote_code: code that comes with the model, or with a task file of lm-evaluation-harness, may run. What
            the directory says of it does not count.
        unprotected: code that the model writes may run without a sandbox, likewise.

    Raises:
        RunError: there is no run here, or it cannot be resumed.
    """
    from holdfast.model.processes import Processes
    from holdfast.stream.compare import resume_comparison
    from holdfast.stream.run import open_run

    path, given = Path(directory), GivenSets.of(tasks, suites)
    word = UsersWord(trust_remote_code, unprotected)
    with listening(Processes.current().board), judging():
        if _is_comparison(path):
            summary = resume_comparison(path, observer, on_progress=lambda: report(path), given=given, word=word)
        else:
            summary = open_run(path, observer, given, word=word).resume()
        Processes.current().main(lambda: report(path))
    return summary


def _is_comparison(path: Path) -> bool:
    config = RunDirectory(path).config
    if not config.exists():
        raise RunError("is not a run directory: it has no config.yaml", where=str(path), fix="name a run directory")
    return "recipes" in read_config(config)


def report(directory: str | Path, output: str | Path | None = None, figures: str | Path | None = None) -> Path:
    """Write the HTML report of a run or comparison from its summary; returns its path.

    Args:
        output: the HTML file. Default: `report.html` in the directory.
        figures: a folder; every figure is also saved into it as SVG. Needs the extra `figures`.

    Raises:
        RunError: there is no summary here, this version cannot read it, or figures cannot be saved.
    """
    run_directory = RunDirectory(directory)
    refuse_special(Path(output) if output else run_directory.report)
    run_directory.check_summary()
    summary = read_summary(run_directory.summary)
    if figures is not None:
        save_figures(all_figures(summary), Path(figures))
    return write_report(summary, Path(output) if output else run_directory.report)


QUICK_DEMO: Mapping[str, Any] = {
    "name": "quick-demo",
    "train.steps": 3,
    "train.prompts_per_step": 8,
    "eval.max_items": 16,
    "eval.kl_items": 8,
    "eval.probe_steps": 0,
}
"""Settings of the quick demo: enough to see that everything works, far too little to learn anything."""


def demo(
    output_dir: str | Path = "runs/demo", *, quick: bool = False, observer: Observer | None = None, **overrides: Any
) -> SummaryDict:
    """Compare five recipes on the lab's stream of four tasks. Takes minutes on two CPU cores.

    Args:
        quick: only a few steps and items, to see that everything works.
    """
    from importlib.resources import files

    changes = {**(QUICK_DEMO if quick else {}), **overrides}
    config = load_config(Path(str(files("holdfast.lab") / "demo.yaml")), CompareConfig, changes)
    return compare(config, output_dir, observer=observer)


def evaluate(
    config: str | Path | Mapping[str, Any] | RunConfig,
    model: str | Path | None = None,
    *,
    tasks: Sequence["Task | Entry"] | None = None,
    suites: Sequence["Suite | Entry"] | None = None,
    **overrides: Any,
) -> SummaryDict:
    """Score a model on all tasks and suites of a configuration; trains and writes nothing.

    Args:
        model: the model to score. Default: the configuration's.
        tasks, suites: as for `run`.

    Returns:
        The evaluation; the scores by set are under "sets".
    """
    from holdfast.evaluation.standalone import EvaluationPlan, evaluate_model
    from holdfast.tasks.load import load_stream

    given = GivenSets.of(tasks, suites)
    resolved = _config(config, RunConfig, overrides, given)
    with judging():
        stages, held_out = load_stream(resolved, given)  # by the configured model, which decides on default suites
        plan = EvaluationPlan(resolved.model, stages, held_out, resolved.train, resolved.eval)
        if model is not None:
            plan = plan.for_model(str(model))
        return dict(evaluate_model(plan, seed=resolved.seed))


def export(source: str | Path, output: str | Path, *, trust_remote_code: bool = False) -> Path:
    """Write a run's newest weights as one safetensors folder that transformers loads; LoRA adapters are merged.

    Args:
        source: a run directory, or a folder in its `checkpoints/`, saved by any number of processes.
        output: the folder to write; it must not exist yet.
        trust_remote_code: code that comes with the model may run. What the directory says of it does not count.

    Raises:
        RunError: there is no run or no complete checkpoint here, or the output already exists.
    """
    from holdfast.stream.export import export_run

    return export_run(Path(source), Path(output), word=UsersWord(trust_remote_code))


def recover(
    directory: str | Path,
    suites: Sequence[str] = (),
    *,
    steps: int = 20,
    learning_rate: float | None = None,
    on_suite: Callable[[str, str], None] | None = None,
    trust_remote_code: bool = False,
    unprotected: bool = False,
) -> SummaryDict:
    """Test whether a run's lost skills are gone or hidden, and write `recover.json` into its directory.

    The last model takes a few SFT steps on the base's own right answers to half of a suite's items; the other half
    tests it. The base takes the same steps.

    Args:
        suites: names of suites; by default, all retention suites with a verifier and single turns.
        steps: optimizer steps of each repair.
        learning_rate: of the repair; by default a third of the run's.
        on_suite: called with the model, `base` or `model`, and the suite before each repair.
        trust_remote_code, unprotected: as for `resume`.

    Raises:
        HoldfastError: there is no finished stage, or no such suite.
    """
    from holdfast.stream.recover import recover as recover_run

    with listening(), judging():
        return recover_run(
            Path(directory),
            suites,
            steps=steps,
            rate=learning_rate,
            on_suite=on_suite,
            word=UsersWord(trust_remote_code, unprotected),
        )


def check(
    config: str | Path | Mapping[str, Any] | RunConfig,
    *,
    items: int = 50,
    tasks: Sequence["Task | Entry"] | None = None,
    suites: Sequence["Suite | Entry"] | None = None,
    **overrides: Any,
) -> SummaryDict:
    """Check a configuration with its data and model before money is spent. No weight moves, and nothing is written.

    Args:
        items: training prompts per task that samples are judged on, and that the teacher is tested on.
        tasks, suites: as for `run`.

    Returns:
        The result; see `holdfast.stream.check.everything.check_run`.
    """
    from holdfast.stream.check.everything import check_run

    given = GivenSets.of(tasks, suites)
    resolved = _config(config, RunConfig, overrides, given)
    with judging():
        return check_run(resolved, items=items, directory=directory_of(resolved), given=given)


def demonstration_distances(
    config: str | Path | Mapping[str, Any] | StreamSettings, *, items: int = 32, **overrides: Any
) -> list[SummaryDict]:
    """How far each task's demonstrations are from the configured model's own answers. Nothing is trained or written.

    Args:
        items: prompts per task.

    Returns:
        A `DemonstrationDistance` of each task with demonstrations as plain data, with its "sentence".
    """
    from holdfast.evaluation.demonstration_distance import demonstration_distances
    from holdfast.evaluation.standalone import EvaluationPlan, load_evaluator
    from holdfast.tasks.load import load_stream

    resolved = config if isinstance(config, StreamSettings) else _config(config, RunConfig, overrides)
    tasks, _ = load_stream(resolved)
    evaluator = load_evaluator(EvaluationPlan(resolved.model, tasks, (), resolved.train, resolved.eval))
    return [each.as_json() for each in demonstration_distances(evaluator, tasks, items)]


def rewrite(
    source: str | Path,
    output: str | Path,
    *,
    model: str | None = None,
    task: str | None = None,
    verifier: str | None = None,
    rewriting: Mapping[str, Any] | None = None,
    seed: int = 0,
    on_examples: Callable[[int, int], None] = lambda done, of: None,
    **overrides: Any,
) -> SummaryDict:
    """Let a model write each demonstration of a training file in its own voice, and keep what is right.

    Args:
        source: a YAML file of a run or a comparison, or a training file.
        output: a JSON Lines file with the same records and columns; it must not exist yet.
        model: who writes. Default: the configuration's model.
        task: which of the configuration's tasks; it may have one task only without it.
        verifier: `module:function` that judges what was written. Default: as the configuration or the data says.
        rewriting: `template`, `check`, `tries`, `temperature`, `greedy_first` and `success_threshold` of `Rewriting`.
            Default: those of the configuration's recipe if it rewrites or has such a template.
        on_examples: called with the number of examples that are done, and of all.

    Returns:
        See `holdfast.stream.rewrite.rewrite_file`.
    """
    from holdfast.stream.rewrite import rewrite_file

    job = _rewrite_job(Path(source), model, task, verifier, rewriting or {}, overrides)
    with listening(), judging():
        return rewrite_file(replace(job, seed=seed), Path(output), on_examples)


def _rewrite_job(
    source: Path,
    model: str | None,
    task: str | None,
    verifier: str | None,
    chosen: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> "RewriteJob":
    from holdfast.data.teacher_prompts import DEMONSTRATION_TEMPLATE
    from holdfast.recipes.base.solution_template import template_of
    from holdfast.recipes.parts.rewriting import Rewriting
    from holdfast.stream.rewrite import RewriteJob

    if is_config := source.suffix.lower() in (".yaml", ".yml"):
        config = next(iter(run_configs(source, overrides).values()))
        data = _task_to_rewrite(config, task, source)
    elif model is None:
        fix = "name it with --model, or give a configuration instead of a training file"
        raise ConfigError("no model is named that could rewrite it", where=str(source), fix=fix)
    else:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", source.stem).strip("-._") or "data"
        entry = {"name": name, "train": str(source)}
        plain = apply_overrides({"tasks": [entry], "model": {"path": model}, "recipe": "sft"}, overrides)
        config = parse_config(plain, RunConfig, where=str(source))
        data = config.tasks[0]
    if verifier is not None:
        data = data.model_copy(update={"verifier": verifier})
    own = config.recipe.rollout_spec().rewriting or Rewriting(
        template=template_of(config.recipe) or DEMONSTRATION_TEMPLATE
    )
    try:
        rewriting = replace(own, **chosen)
    except ValueError as error:
        raise ConfigError(str(error), where="rewriting") from None
    settings = config.model if model is None else config.model.model_copy(update={"path": model, "lora": None})
    return RewriteJob(
        data=data,
        whole_file=not is_config,
        model=settings,
        train=config.train,
        evaluation=config.eval,
        rewriting=rewriting,
    )


def _task_to_rewrite(config: RunConfig, name: str | None, source: Path) -> TaskSettings:
    by_name = {each.name: each for each in config.tasks}
    if name is None and len(by_name) > 1:
        raise ConfigError(
            f"the configuration has {len(by_name)} tasks", where=str(source), fix=f"name one: {', '.join(by_name)}"
        )
    if name is not None and name not in by_name:
        raise ConfigError(f"no task is named {name!r}", where=str(source), fix=did_you_mean(name, by_name))
    return by_name[name] if name is not None else config.tasks[0]

"""The commands as functions: `run`, `compare`, `resume`, `report`, `export`, `evaluate`, `check` and `demo`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.config.load import load_config, parse_config
from holdfast.config.overrides import apply_overrides
from holdfast.config.settings import CompareConfig, RunConfig, StreamSettings
from holdfast.config.yaml import read_config
from holdfast.errors import RunError
from holdfast.reporting.page import all_figures, write_report
from holdfast.reporting.save_figures import save_figures
from holdfast.stop import listening
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.observer import Observer
from holdfast.summary.read import read_summary
from holdfast.tasks.given import NOTHING_GIVEN, GivenSets

if TYPE_CHECKING:
    from holdfast.data.task import Suite, Task

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
    return parse_config(data, kind, where=str(path), base_dir=path.parent)


def run_configs(path: str | Path, overrides: Mapping[str, Any] | None = None) -> dict[str, RunConfig]:
    """The runs that a file describes, by label. A comparison gives one per recipe, with its first seed and order.

    Raises:
        ConfigError: as `load_config`.
    """
    path = Path(path)
    data = apply_overrides(read_config(path), overrides or {})
    if "recipes" not in data or "recipe" in data:
        config = parse_config(data, RunConfig, where=str(path), base_dir=path.parent)
        return {config.recipe.name: config}
    comparison = parse_config(data, CompareConfig, where=str(path), base_dir=path.parent)
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
    from holdfast.stream.run import Run

    given = GivenSets.of(tasks, suites)
    resolved = _config(config, RunConfig, overrides, given)
    directory = RunDirectory(directory_of(resolved, output_dir))
    with listening():
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
    with listening():
        summary = comparison.compare(resolved, path, observer, on_progress=lambda: report(path), given=given)
        Processes.current().main(lambda: report(path))
    return summary


def resume(
    directory: str | Path,
    *,
    tasks: Sequence["Task | Entry"] | None = None,
    suites: Sequence["Suite | Entry"] | None = None,
    observer: Observer | None = None,
) -> SummaryDict:
    """Resume a run or a comparison that was stopped. The result is the same as without the stop.

    Args:
        tasks, suites: the objects that the run was started with, if there were any.
        observer: receives the run's events while it works.

    Raises:
        RunError: there is no run here, or it cannot be resumed.
    """
    from holdfast.model.processes import Processes
    from holdfast.stream.compare import resume_comparison
    from holdfast.stream.run import open_run

    path, given = Path(directory), GivenSets.of(tasks, suites)
    with listening():
        if _is_comparison(path):
            summary = resume_comparison(path, observer, on_progress=lambda: report(path), given=given)
        else:
            summary = open_run(path, observer, given).resume()
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
    stages, held_out = load_stream(resolved, given)  # by the configured model, which decides on default suites
    plan = EvaluationPlan(resolved.model, stages, held_out, resolved.train, resolved.eval)
    if model is not None:
        plan = plan.for_model(str(model))
    return dict(evaluate_model(plan, seed=resolved.seed))


def export(source: str | Path, output: str | Path) -> Path:
    """Write a run's newest weights as one safetensors folder that transformers loads; LoRA adapters are merged.

    Args:
        source: a run directory, or a folder in its `checkpoints/`, saved by any number of processes.
        output: the folder to write; it must not exist yet.

    Raises:
        RunError: there is no run or no complete checkpoint here, or the output already exists.
    """
    from holdfast.stream.export import export_run

    return export_run(Path(source), Path(output))


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
    return check_run(resolved, items=items, directory=directory_of(resolved), given=given)

"""The commands as functions: `run`, `compare`, `resume`, `report`, `evaluate`, `check` and `demo`, one call each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from holdfast.config import CompareConfig, RunConfig, StreamSettings, load_config, parse_config
from holdfast.errors import RunError
from holdfast.report.build import write_report
from holdfast.store import RunDirectory, read_json
from holdfast.stream.observer import Observer

Summary = dict[str, Any]
ConfigKind = TypeVar("ConfigKind", bound=StreamSettings)
Source = str | Path | Mapping[str, Any] | ConfigKind


def _config(source: Source[ConfigKind], kind: type[ConfigKind], overrides: Mapping[str, Any]) -> ConfigKind:
    """A configuration from a file, plain data or a configuration, with top-level keys replaced."""
    if isinstance(source, StreamSettings):
        return parse_config({**source.model_dump(mode="json"), **overrides}, kind) if overrides else source
    if isinstance(source, Mapping):
        return parse_config({**source, **overrides}, kind, base_dir=Path.cwd())
    return load_config(source, kind, overrides)


def _directory(config: StreamSettings, output_dir: str | Path | None) -> Path:
    return Path(output_dir or config.output_dir or Path("runs") / config.name)


def run(
    config: Source[RunConfig],
    output_dir: str | Path | None = None,
    *,
    observer: Observer | None = None,
    **overrides: Any,
) -> Summary:
    """Run one recipe over one stream; returns the summary, and leaves a run directory with a report.

    Args:
        config: a YAML file, plain data, or a `RunConfig`.
        output_dir: the run directory; by default the configuration's, else `runs/NAME`.
        overrides: top-level keys of the configuration to replace, e.g. `seed=1` or `recipe="sft"`.

    Raises:
        HoldfastError: the configuration, the data or the model cannot be used; nothing has been written.
    """
    from holdfast.stream.run import Run

    resolved = _config(config, RunConfig, overrides)
    directory = RunDirectory(_directory(resolved, output_dir))
    summary = Run(resolved, directory, observer=observer).start()
    write_report(summary, directory.report)
    return summary


def compare(
    config: Source[CompareConfig],
    output_dir: str | Path | None = None,
    *,
    observer: Observer | None = None,
    **overrides: Any,
) -> Summary:
    """Run recipes × seeds × task orders at equal budget; returns the comparison's summary and leaves a report.

    Arguments and errors as for `run`.
    """
    from holdfast.stream import compare as comparison

    resolved = _config(config, CompareConfig, overrides)
    path = _directory(resolved, output_dir)
    summary = comparison.compare(resolved, path, observer, on_progress=lambda: report(path))
    report(path)
    return summary


def resume(directory: str | Path, *, observer: Observer | None = None) -> Summary:
    """Go on with a run or a comparison that was stopped; the result is as if it had never been.

    Raises:
        RunError: there is no run here, or it cannot be gone on with.
    """
    from holdfast.stream.compare import resume_comparison
    from holdfast.stream.run import open_run

    path = Path(directory)
    if _is_comparison(path):
        summary = resume_comparison(path, observer, on_progress=lambda: report(path))
    else:
        summary = open_run(path, observer).resume()
    report(path)
    return summary


def _is_comparison(path: Path) -> bool:
    config = RunDirectory(path).config
    if not config.exists():
        raise RunError("is not a run directory: there is no config.yaml", where=str(path), mend="name one that is")
    return "recipes" in (yaml.safe_load(config.read_text(encoding="utf-8")) or {})


def report(directory: str | Path, output: str | Path | None = None) -> Path:
    """Write the HTML report of a run or comparison from its summary; returns its path.

    Raises:
        RunError: there is no summary here.
    """
    run_directory = RunDirectory(directory)
    return write_report(read_json(run_directory.summary), Path(output) if output else run_directory.report)


def demo(output_dir: str | Path = "runs/demo", *, observer: Observer | None = None, **overrides: Any) -> Summary:
    """Four recipes over the lab's stream of four tasks, and one report; minutes on two CPU cores."""
    from importlib.resources import files

    config = load_config(Path(str(files("holdfast.lab") / "demo.yaml")), CompareConfig, overrides)
    return compare(config, output_dir, observer=observer)


def evaluate(config: Source[RunConfig], model: str | Path | None = None, **overrides: Any) -> Summary:
    """Score every task and suite of a configuration with its model, or with another; trains and writes nothing.

    Returns:
        The evaluation: scores by set under "sets".
    """
    from holdfast.stream.evaluate import Evaluator
    from holdfast.tasks.load import load_stream
    from holdfast.train.model import load_policy

    resolved = _config(config, RunConfig, overrides)
    tasks, suites = load_stream(resolved)  # by the configured model, which decides on default suites
    settings = resolved.model
    if model is not None:
        settings = settings.model_copy(update={"path": str(model), "lora": None})
    policy = load_policy(settings, seed=resolved.seed)
    evaluator = Evaluator(policy, None, resolved.train, resolved.eval)
    return evaluator.evaluate(0, None, tasks, suites).as_json()


def check(config: Source[RunConfig], *, items: int = 50, **overrides: Any) -> Summary:
    """Validate a configuration with its data and model, estimate memory, and test the privileged teacher.

    Returns:
        What was found; see `holdfast.stream.check`.
    """
    from holdfast.stream.check import check_run

    return check_run(_config(config, RunConfig, overrides), items=items)

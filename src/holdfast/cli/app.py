"""The commands that carry out and report runs; each is one call of `holdfast.api`.

Nothing heavy is imported before a command needs it, so that `holdfast --help` is quick.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from holdfast import __version__
from holdfast.cli.advise import advise
from holdfast.cli.artifacts import artifacts
from holdfast.cli.blend import blend
from holdfast.cli.check import check
from holdfast.cli.drift import drift
from holdfast.cli.findings import findings
from holdfast.cli.front import front
from holdfast.cli.gate import gate
from holdfast.cli.lab import lab
from holdfast.cli.methods import methods
from holdfast.cli.options import (
    AnyConfigFile,
    ComparisonConfigFile,
    Directory,
    JsonFile,
    OutputDir,
    Overrides,
    Quiet,
    RunConfigFile,
    RunUnprotected,
    TrustRemoteCode,
    output_file,
)
from holdfast.cli.overrides import parse_overrides
from holdfast.cli.recover import recover
from holdfast.cli.responses import responses
from holdfast.cli.rewrite import rewrite
from holdfast.cli.run_command import EndedEarly, is_main_process, run_command
from holdfast.cli.say import say
from holdfast.errors import ConfigError, HoldfastError, did_you_mean
from holdfast.model.quiet import silence_progress_bars
from holdfast.stop import Stopped

if TYPE_CHECKING:
    from holdfast.config.settings import RunConfig
    from holdfast.stream.observer import Observer

app = typer.Typer(
    name="holdfast",
    help="Train a language model on one task after another without forgetting what it learned before.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(lab, name="lab")

app.command("advise")(advise)

app.command("artifacts")(artifacts)

app.command("blend")(blend)

app.command("check")(check)

app.command("drift")(drift)

app.command("findings")(findings)

app.command("front")(front)

app.command("gate")(gate)

app.command("methods")(methods)

app.command("recover")(recover)

app.command("responses")(responses)

app.command("rewrite")(rewrite)


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show_version:
        version()
    elif ctx.invoked_subcommand is None:
        say(ctx.get_help())


@app.command()
def demo(
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Where to write.")] = Path("runs/demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Only a few steps and items, to see that everything works.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Compare five recipes on the lab's stream of tasks. Takes minutes on two CPU cores and downloads nothing."""
    from holdfast import api

    if quick:
        steps, items = api.QUICK_DEMO["train.steps"], api.QUICK_DEMO["eval.max_items"]
        say(
            f"Quick demo: {steps} steps per stage, {items} items per set. "
            "It shows that everything works; it is too short to learn anything."
        )
    _carry_out(lambda observer: api.demo(output_dir, quick=quick, observer=observer), output_dir, quiet)


@app.command()
def run(
    config: RunConfigFile,
    output_dir: OutputDir = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all random draws.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", help="Use this recipe instead. If CONFIG is a comparison, give the label of one recipe."
        ),
    ] = None,
    settings: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Train a model on a stream of tasks with one recipe, and write a report."""
    from holdfast import api

    resolved = _run_config(config, parse_overrides(settings), recipe)
    if seed is not None:
        resolved = resolved.model_copy(update={"seed": seed})
    directory = api.directory_of(resolved, output_dir)
    _carry_out(lambda observer: api.run(resolved, directory, observer=observer), directory, quiet)


@app.command()
def compare(
    config: ComparisonConfigFile,
    output_dir: OutputDir = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", min=0, help="Run this seed. Repeatable.")] = None,
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", help="Run only the recipe with this label. Repeatable.")
    ] = None,
    settings: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Run recipes × seeds × task orders at equal budget, and write one report."""
    from holdfast import api
    from holdfast.config.load import load_config
    from holdfast.config.settings import CompareConfig

    overrides = parse_overrides(settings) | ({"seeds": seed} if seed else {})
    resolved = load_config(config, CompareConfig, overrides)
    if recipe:
        by_label = {each.label: each for each in resolved.recipes}
        chosen = [_labeled(by_label, label, config) for label in dict.fromkeys(recipe)]
        resolved = resolved.model_copy(update={"recipes": chosen})
    directory = api.directory_of(resolved, output_dir)
    _carry_out(lambda observer: api.compare(resolved, directory, observer=observer), directory, quiet)


@app.command()
def resume(
    directory: Directory,
    trust_remote_code: TrustRemoteCode = False,
    unprotected: RunUnprotected = False,
    quiet: Quiet = False,
) -> None:
    """Resume a run or a comparison that was stopped. The result is the same as without the stop."""
    from holdfast import api

    def work(observer: "Observer") -> Mapping[str, Any]:
        return api.resume(directory, observer=observer, trust_remote_code=trust_remote_code, unprotected=unprotected)

    _carry_out(work, directory, quiet)


@app.command()
def report(
    directory: Directory,
    output: Annotated[Path | None, output_file("--output", help="The HTML file. Default: report.html in DIR.")] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures",
            metavar="FOLDER",
            help="Also save every figure as SVG into this folder. Needs the extra `figures` and Chrome or Chromium.",
        ),
    ] = None,
) -> None:
    """Write the HTML report of a run or a comparison again, from its summary."""
    from holdfast import api

    say(f"report: {api.report(directory, output, figures)}")


@app.command()
def export(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="A run directory, or one of its checkpoints.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Write the newest weights of a run as one model folder that transformers loads."""
    from holdfast import api

    silence_progress_bars()
    say(f"model: {api.export(source, output, trust_remote_code=trust_remote_code)}")


@app.command("eval")
def evaluate(
    config: AnyConfigFile,
    model: Annotated[
        str | None, typer.Option("--model", metavar="PATH", help="Score this model instead: a folder or a hub id.")
    ] = None,
    json_file: JsonFile = None,
    settings: Overrides = None,
) -> None:
    """Score a model on all tasks and suites of a configuration, without training."""
    from holdfast import api
    from holdfast.cli.evaluation_text import evaluation_table
    from holdfast.store.files import write_json
    from holdfast.summary.judging import failures_in, sentences_on

    resolved = next(iter(api.run_configs(config, parse_overrides(settings)).values()))
    silence_progress_bars()
    results = api.evaluate(resolved, model)
    say(evaluation_table(results["sets"]))
    for sentence in sentences_on(failures_in(results["sets"].values())):
        say(sentence)
    if json_file is not None:
        write_json(json_file, results)


@app.command("version")
def version() -> None:
    """Print the version."""
    say(f"holdfast {__version__}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns 0, 2 for mistakes that the user can fix, and 130 or 143 if it was stopped."""
    return run_command(app, arguments)


Labeled = TypeVar("Labeled")


def _run_config(path: Path, overrides: Mapping[str, Any], recipe: str | None) -> "RunConfig":
    """The run that a file describes. `recipe` replaces its recipe; in a comparison it is the label of one."""
    from holdfast import api
    from holdfast.config.load import load_config
    from holdfast.config.settings import RunConfig
    from holdfast.config.yaml import read_config

    if recipe is None:
        return load_config(path, RunConfig, overrides)
    if "recipes" in read_config(path):
        config = _labeled(api.run_configs(path, overrides), recipe, path)
        return config.model_copy(update={"name": f"{config.name}-{recipe}"})
    return load_config(path, RunConfig, {"recipe": recipe} | dict(overrides))


def _labeled(by_label: Mapping[str, Labeled], label: str, path: Path) -> Labeled:
    if label not in by_label:
        raise ConfigError(f"no recipe is labeled {label!r}", where=str(path), fix=did_you_mean(label, by_label))
    return by_label[label]


def _carry_out(work: "Callable[[Observer], Mapping[str, Any]]", directory: Path, quiet: bool) -> None:
    """Do work that writes a run directory; show its progress, and then its summary.

    Raises:
        EndedEarly: the work was interrupted, or it failed after it wrote the run directory, so that it can be resumed.
    """
    from holdfast.cli.run_progress import watching
    from holdfast.cli.summary_text import print_summary
    from holdfast.store.run_directory import RunDirectory

    run_directory = RunDirectory(directory)
    existed_before = run_directory.config.exists()
    hint = f"resume with `holdfast resume {shlex.quote(str(directory))}`"

    def stopped() -> str:
        return f"stopped; {hint}" if run_directory.config.exists() else "stopped; nothing was written"

    silence_progress_bars()
    try:
        with watching(quiet=quiet or not is_main_process()) as observer:
            summary = work(observer)
    except Stopped as end:
        raise EndedEarly(stopped(), end.code) from None
    except KeyboardInterrupt:
        raise EndedEarly(stopped(), 130) from None
    except HoldfastError as error:
        # A run directory that was there before may be another run's, so the error alone is the right hint.
        if existed_before or not run_directory.config.exists():
            raise
        raise EndedEarly(f"error: {error}; then {hint}", 2) from error
    print_summary(summary)
    say(f"report: {run_directory.report}")

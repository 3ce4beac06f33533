"""The command line: each command is one call of `holdfast.api`, and whatever goes wrong is one line.

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
from holdfast.cli.console import AsJson, Ended, is_main_process, print_json, run_command
from holdfast.cli.drift import drift
from holdfast.cli.findings import findings
from holdfast.cli.gate import gate
from holdfast.cli.lab import lab
from holdfast.cli.responses import responses
from holdfast.errors import ConfigError, HoldfastError, did_you_mean
from holdfast.model.quiet import silence_progress_bars
from holdfast.stop import Stopped

if TYPE_CHECKING:
    from holdfast.config.settings import RunConfig
    from holdfast.stream.observer import Observer

HELP_NAMES = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="holdfast",
    help="Teach a language model one task after another, and hold on to what it knew.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=HELP_NAMES,
)

app.add_typer(lab, name="lab")

app.command("advise")(advise)

app.command("artifacts")(artifacts)

app.command("responses")(responses)

app.command("blend")(blend)

app.command("drift")(drift)

app.command("gate")(gate)

app.command("findings")(findings)

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file that describes a run.", show_default=False)]

Comparison = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML file that describes a comparison.", show_default=False)
]

EitherConfig = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML file that describes a run or a comparison.", show_default=False)
]

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="Directory of a run or a comparison.", show_default=False)
]

OutputDir = Annotated[
    Path | None,
    typer.Option("--output-dir", "-o", help="Where to write; by default the configuration's output_dir or runs/NAME."),
]

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace a setting, e.g. train.steps=100 or recipes.sdft.ema_rate=0.05; may be given again.",
    ),
]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write what was found as JSON too.")]


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show_version:
        version()
    elif ctx.invoked_subcommand is None:
        print(ctx.get_help())


@app.command()
def demo(
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Where to write.")] = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A few steps and items only, to see that all works.")] = False,
    quiet: Quiet = False,
) -> None:
    """Compare four recipes on the lab's stream of tasks; minutes on two CPU cores, nothing is downloaded."""
    from holdfast import api

    if quick:
        steps, items = api.QUICK_DEMO["train.steps"], api.QUICK_DEMO["eval.max_items"]
        print(
            f"Quick demo: {steps} steps per stage, {items} items per set. It shows that all works; nothing is learned."
        )
    _carry_out(lambda watch: api.demo(output_dir, quick=quick, observer=watch), output_dir, quiet)


@app.command()
def run(
    config: Config,
    output_dir: OutputDir = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all random draws.")] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Another recipe, by name; of a comparison, the one so labeled.")
    ] = None,
    settings: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Teach a model a stream of tasks with one recipe, and write a report."""
    from holdfast import api

    resolved = _run_config(config, _assignments(settings), recipe)
    if seed is not None:
        resolved = resolved.model_copy(update={"seed": seed})
    directory = api.directory_of(resolved, output_dir)
    _carry_out(lambda watch: api.run(resolved, directory, observer=watch), directory, quiet)


@app.command()
def compare(
    config: Comparison,
    output_dir: OutputDir = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", min=0, help="Seed to run; may be given again.")] = None,
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", help="Run only the recipe so labeled; may be given again.")
    ] = None,
    settings: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Run recipes, seeds and task orders at equal budget, and write one report."""
    from holdfast import api
    from holdfast.config.load import load_config
    from holdfast.config.settings import CompareConfig

    overrides = _assignments(settings) | ({"seeds": seed} if seed else {})
    resolved = load_config(config, CompareConfig, overrides)
    if recipe:
        arms = {arm.label: arm for arm in resolved.recipes}
        resolved = resolved.model_copy(update={"recipes": [_labeled(arms, label, config) for label in recipe]})
    directory = api.directory_of(resolved, output_dir)
    _carry_out(lambda watch: api.compare(resolved, directory, observer=watch), directory, quiet)


@app.command()
def resume(directory: Directory, quiet: Quiet = False) -> None:
    """Go on with a run or a comparison that was stopped; the result is as if it had never been."""
    from holdfast import api

    _carry_out(lambda watch: api.resume(directory, observer=watch), directory, quiet)


@app.command()
def report(
    directory: Directory,
    output: Annotated[
        Path | None, typer.Option("--output", help="The HTML file; by default report.html in the directory.")
    ] = None,
    figures: Annotated[Path | None, typer.Option("--figures", help="A folder for every figure as SVG.")] = None,
) -> None:
    """Write the HTML report of a run or a comparison again from its summary."""
    from holdfast import api

    print(f"report: {api.report(directory, output, figures)}")


@app.command()
def export(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="A run, or one of its checkpoints.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
) -> None:
    """Write a run's newest weights as one folder that transformers loads."""
    from holdfast import api

    silence_progress_bars()
    print(f"model: {api.export(source, output)}")


@app.command("eval")
def evaluate(
    config: EitherConfig,
    model: Annotated[
        str | None, typer.Option("--model", metavar="PATH", help="Another model: a folder or a hub id.")
    ] = None,
    json_file: JsonFile = None,
    settings: Overrides = None,
) -> None:
    """Score a model on all tasks and suites of a configuration; nothing is trained."""
    from holdfast import api
    from holdfast.cli.tables import interval, table
    from holdfast.store.files import write_json

    resolved = next(iter(api.run_configs(config, _assignments(settings)).values()))
    silence_progress_bars()
    found = api.evaluate(resolved, model)
    header = ("set", "items", "score", "95% interval", "form kept", "tokens")
    rows = [
        (name, s["n"], f"{s['mean']:.1%}", interval(s["ci95"]), f"{s['format_ok']:.1%}", f"{s['length']:.1f}")
        for name, s in found["sets"].items()
    ]
    print(table(header, rows))
    if json_file is not None:
        write_json(json_file, found)


@app.command()
def methods(as_json: AsJson = False) -> None:
    """Show each recipe: what it is wired from, what a task must provide, what it costs and when to choose it."""
    from holdfast.cli.tables import recipe_facts, recipes_as_text

    if as_json:
        print_json(recipe_facts())
    else:
        print(recipes_as_text())


@app.command()
def check(
    config: EitherConfig,
    items: Annotated[int, typer.Option("--items", min=1, help="Prompts per task to test the teacher on.")] = 50,
    json_file: JsonFile = None,
    settings: Overrides = None,
) -> None:
    """Check configuration, data and model, estimate memory, and test whether the teacher beats the student."""
    from holdfast import api
    from holdfast.cli.tables import check_as_text
    from holdfast.store.files import write_json

    configs = api.run_configs(config, _assignments(settings))
    silence_progress_bars()
    found = {}
    for label, resolved in configs.items():
        found[label] = api.check(resolved, items=items)
        print(check_as_text(label, found[label]), flush=True)
    if json_file is not None:
        write_json(json_file, {"recipes": found})


@app.command("version")
def version() -> None:
    """Print the version."""
    print(f"holdfast {__version__}")


Found = TypeVar("Found")


def _assignments(settings: Sequence[str] | None) -> dict[str, Any]:
    """`--set KEY=VALUE` as keys and YAML values."""
    from holdfast.config.yaml import parse_yaml

    found = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise ConfigError("is not of the form KEY=VALUE", where=f"--set {setting}", fix="e.g. train.steps=100")
        found[key] = parse_yaml(value, f"--set {setting}")
    return found


def _run_config(path: Path, overrides: Mapping[str, Any], recipe: str | None) -> "RunConfig":
    """The run that a file describes, with another recipe where one is named; of a comparison, the one so labeled."""
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


def _labeled(found: Mapping[str, Found], label: str, path: Path) -> Found:
    if label not in found:
        raise ConfigError(f"no recipe is labeled {label!r}", where=str(path), fix=did_you_mean(label, found))
    return found[label]


def _carry_out(work: "Callable[[Observer], Mapping[str, Any]]", directory: Path, quiet: bool) -> None:
    """Do work that leaves a run directory, and show how it goes and what came of it.

    Raises:
        Ended: it was interrupted, or failed half-way and can be gone on with.
    """
    from holdfast.cli.progress import watching
    from holdfast.cli.summary_text import print_summary
    from holdfast.store.run_directory import RunDirectory

    place = RunDirectory(directory)
    was_there = place.config.exists()
    hint = f"go on with `holdfast resume {shlex.quote(str(directory))}`"
    silence_progress_bars()
    try:
        with watching(quiet=quiet or not is_main_process()) as observer:
            summary = work(observer)
    except Stopped as end:
        raise Ended(f"stopped; {hint}" if place.config.exists() else "stopped; nothing was written", end.code) from None
    except KeyboardInterrupt:
        raise Ended(f"stopped; {hint}" if place.config.exists() else "stopped; nothing was written", 130) from None
    except HoldfastError as error:
        if was_there or not place.config.exists():
            raise
        raise Ended(f"error: {error}; then {hint}", 2) from error
    print_summary(summary)
    print(f"report: {place.report}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 2 for what the user can fix, 130 or 143 when stopped."""
    return run_command(app, arguments)

"""The command line: each command is one call of `holdfast.api`, and whatever goes wrong is one line.

Nothing heavy is imported before a command needs it, so that `holdfast --help` is quick.
"""

import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from holdfast import __version__
from holdfast.errors import ConfigError, HoldfastError, did_you_mean

if TYPE_CHECKING:
    from holdfast.config import RunConfig
    from holdfast.stream.observer import Observer

HELP_NAMES = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    name="holdfast",
    help="Teach a language model one task after another, and hold on to what it knew.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=HELP_NAMES,
)
lab = typer.Typer(help="The embedded world: its base model, and the recipe that pretrained it.")
app.add_typer(lab, name="lab")

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
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace a setting, e.g. train.steps=100 or recipes.sdft.ema_rate=0.05; may be given again.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write what was found as JSON too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Ended(Exception):  # noqa: N818 - an end that is not always an error
    """A command that ended before its work was done: the line to say so, and the exit code."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.code = code


@app.callback(invoke_without_command=True)
def holdfast(
    ctx: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show_version:
        version()
    elif ctx.invoked_subcommand is None:
        print(ctx.get_help())


@lab.callback(invoke_without_command=True)
def lab_help(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
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
            f"Quick demo: {steps} steps per stage, {items} items per set. It shows that all works; nothing is learnt."
        )
    _carry_out(lambda watch: api.demo(output_dir, quick=quick, observer=watch), output_dir, quiet)


@app.command()
def run(
    config: Config,
    output_dir: OutputDir = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all random draws.")] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Another recipe, by name; of a comparison, the one so labelled.")
    ] = None,
    settings: Settings = None,
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
        list[str] | None, typer.Option("--recipe", help="Run only the recipe so labelled; may be given again.")
    ] = None,
    settings: Settings = None,
    quiet: Quiet = False,
) -> None:
    """Run recipes, seeds and task orders at equal budget, and write one report."""
    from holdfast import api
    from holdfast.config import CompareConfig, load_config

    overrides = _assignments(settings) | ({"seeds": seed} if seed else {})
    resolved = load_config(config, CompareConfig, overrides)
    if recipe:
        arms = {arm.label: arm for arm in resolved.recipes}
        resolved = resolved.model_copy(update={"recipes": [_labelled(arms, label, config) for label in recipe]})
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
) -> None:
    """Write the HTML report of a run or a comparison again from its summary."""
    from holdfast import api

    print(f"report: {api.report(directory, output)}")


@app.command("eval")
def evaluate(
    config: EitherConfig,
    model: Annotated[
        str | None, typer.Option("--model", metavar="PATH", help="Another model: a folder or a hub id.")
    ] = None,
    json_file: JsonFile = None,
    settings: Settings = None,
) -> None:
    """Score a model on all tasks and suites of a configuration; nothing is trained."""
    from holdfast import api
    from holdfast.describe import interval, table
    from holdfast.store import write_json

    resolved = next(iter(api.run_configs(config, _assignments(settings)).values()))
    _silence_progress_bars()
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
    from holdfast.describe import recipe_facts, recipes_as_text

    if as_json:
        _print_json(recipe_facts())
    else:
        print(recipes_as_text())


@app.command()
def check(
    config: EitherConfig,
    items: Annotated[int, typer.Option("--items", min=1, help="Prompts per task to test the teacher on.")] = 50,
    json_file: JsonFile = None,
    settings: Settings = None,
) -> None:
    """Check configuration, data and model, estimate memory, and test whether the teacher beats the student."""
    from holdfast import api
    from holdfast.describe import check_as_text
    from holdfast.store import write_json

    configs = api.run_configs(config, _assignments(settings))
    _silence_progress_bars()
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


@lab.command("pretrain")
def lab_pretrain(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Working folder; one that was stopped goes on.")],
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimiser steps; by default the base's.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of weights and documents.")] = 0,
    compile_model: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Compile the model; needs a C++ compiler, halves the time.")
    ] = True,
) -> None:
    """Pretrain the lab's base model from nothing, by the recipe that made the one in the package."""
    from holdfast.lab.evaluate import skills_while_pretraining
    from holdfast.lab.pretrain import PretrainSettings, pretrain

    settings = PretrainSettings(seed=seed, compile=compile_model)
    if steps is not None:
        settings = PretrainSettings(seed=seed, compile=compile_model, steps=steps)

    def show(line: Mapping[str, Any]) -> None:
        if line["step"] % 20 == 0 or "skills" in line:
            skills = "".join(f"  {name} {score:.1%}" for name, score in line.get("skills", {}).items())
            print(f"step {line['step']}/{settings.steps}  loss {line['loss']:.4f}{skills}", file=sys.stderr, flush=True)

    _silence_progress_bars()
    print(f"model: {pretrain(folder, settings, evaluate=skills_while_pretraining, on_step=show)}")


@lab.command("eval")
def lab_eval(
    model: Annotated[
        str, typer.Option("--model", metavar="PATH", help="A model folder; by default the base in the package.")
    ] = "lab",
    items: Annotated[int | None, typer.Option("--items", min=1, help="Use the first so many of each suite.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the skills of the lab's base on held-out items, answered greedily."""
    from holdfast.config import ModelSettings
    from holdfast.describe import interval, table
    from holdfast.lab.evaluate import lab_skills
    from holdfast.train.model import load_policy

    _silence_progress_bars()
    found = lab_skills(load_policy(ModelSettings(path=model)), items)
    if as_json:
        _print_json(found)
        return
    rows = [(skill, s["suite"], s["n"], f"{s['mean']:.1%}", interval(s["ci95"])) for skill, s in found.items()]
    print(table(("skill", "suite", "items", "score", "95% interval"), rows))


Found = TypeVar("Found")


def _assignments(settings: Sequence[str] | None) -> dict[str, Any]:
    """`--set KEY=VALUE` as keys and YAML values."""
    from holdfast.config import parse_yaml

    found = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise ConfigError("is not of the form KEY=VALUE", where=f"--set {setting}", mend="e.g. train.steps=100")
        found[key] = parse_yaml(value, f"--set {setting}")
    return found


def _run_config(path: Path, overrides: Mapping[str, Any], recipe: str | None) -> "RunConfig":
    """The run that a file describes, with another recipe where one is named; of a comparison, the one so labelled."""
    from holdfast import api
    from holdfast.config import RunConfig, load_config, read_config

    if recipe is None:
        return load_config(path, RunConfig, overrides)
    if "recipes" in read_config(path):
        config = _labelled(api.run_configs(path, overrides), recipe, path)
        return config.model_copy(update={"name": f"{config.name}-{recipe}"})
    return load_config(path, RunConfig, {"recipe": recipe} | dict(overrides))


def _labelled(found: Mapping[str, Found], label: str, path: Path) -> Found:
    if label not in found:
        raise ConfigError(f"no recipe is labelled {label!r}", where=str(path), mend=did_you_mean(label, found))
    return found[label]


def _carry_out(work: "Callable[[Observer], Mapping[str, Any]]", directory: Path, quiet: bool) -> None:
    """Do work that leaves a run directory, and show how it goes and what came of it.

    Raises:
        Ended: it was interrupted, or failed half-way and can be gone on with.
    """
    from holdfast.progress import watching
    from holdfast.report.terminal import print_summary
    from holdfast.store import RunDirectory

    place = RunDirectory(directory)
    was_there = place.config.exists()
    hint = f"go on with `holdfast resume {shlex.quote(str(directory))}`"
    _silence_progress_bars()
    try:
        with watching(quiet=quiet) as observer:
            summary = work(observer)
    except KeyboardInterrupt:
        raise Ended(f"stopped; {hint}" if place.config.exists() else "stopped; nothing was written", 130) from None
    except HoldfastError as error:
        if was_there or not place.config.exists():
            raise
        raise Ended(f"error: {error}; then {hint}", 2) from error
    print_summary(summary)
    print(f"report: {place.report}")


def _silence_progress_bars() -> None:
    """No bars of transformers for reading and writing weights; the commands show progress of their own."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(_one_line(f"warning: {message}"), file=sys.stderr, flush=True)


def _one_line(text: str) -> str:
    return "holdfast: " + " ".join(text.split())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 2 for what the user can mend, 130 when interrupted."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = _show_warning
        line, code = _outcome(arguments)
    if line:
        print(_one_line(line), file=sys.stderr, flush=True)
    return code


def _outcome(arguments: Sequence[str] | None) -> tuple[str, int]:
    """Run one command line: what to say of how it ended, and its exit code."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="holdfast", standalone_mode=False)
    except Ended as end:
        return str(end), end.code
    except HoldfastError as error:
        return f"error: {error}", 2
    except KeyboardInterrupt:
        return "stopped", 130
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "", 1
    except OSError as error:
        if error.filename is None:
            raise
        return f"error: {error.filename}: {error.strerror}", 2
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            return "error: the device has too little memory (lower train.micro_batch_tokens, or use model.lora)", 2
        if not hasattr(error, "format_message"):  # what typer raises for a wrong command line has one
            raise
        usage = getattr(getattr(error, "ctx", None), "command_path", "holdfast")
        return f"error: {error.format_message().rstrip('.')} (see `{usage} --help`)", 2
    return "", code if isinstance(code, int) else 0

"""`holdfast recover`: is a lost skill gone or hidden? A short repair on the base's own answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.options import Quiet, RunUnprotected, TrustRemoteCode
from holdfast.cli.say import say
from holdfast.model.quiet import silence_progress_bars


def recover(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)],
    suites: Annotated[
        list[str] | None,
        typer.Option("--suite", metavar="NAME", help="Repair this suite. Repeatable. Default: all retention suites."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimizer steps of each repair.")] = 20,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", help="Learning rate of the repair. Default: a third of the run's."),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    unprotected: RunUnprotected = False,
    quiet: Quiet = False,
) -> None:
    """Test whether a run's lost skills are gone or hidden: repair its last model briefly on the base's own answers."""
    from holdfast import api

    silence_progress_bars()

    def on_suite(model: str, suite: str) -> None:
        if not quiet:
            say(f"repairing the {'final model' if model == 'model' else model} on {suite}")

    result = api.recover(
        directory,
        suites or (),
        steps=steps,
        learning_rate=learning_rate,
        on_suite=on_suite,
        trust_remote_code=trust_remote_code,
        unprotected=unprotected,
    )
    say(as_text(result))


HEAD = ("suite", "repair", "test", "base", "repaired", "final", "repaired", "lost", "recovered", "left", "outcome")


def as_text(result: Mapping[str, Any]) -> str:
    """The result as a table, and what the outcomes mean."""
    from holdfast.cli.tables import table

    done = {name: each for name, each in result["suites"].items() if "skipped" not in each}
    parts = [
        f"Repair of stage {result['stage']}'s model: {result['steps']} SFT steps at a learning rate of "
        f"{result['learning_rate']:.2g}, on the base's own right answers. Other items test it."
    ]
    if done:
        parts.append(table(HEAD, [_row(name, each) for name, each in done.items()]))
        parts.append(
            "lost: final − base. recovered: repaired − final. left: repaired final − repaired base. In points, paired "
            "over the test items, with 95% CIs."
        )
        meanings = {each["outcome"]: each["meaning"] for each in done.values()}
        parts += [f"{outcome}: {meaning}." for outcome, meaning in meanings.items()]
    parts += [f"{name}: skipped, {each['skipped']}." for name, each in result["suites"].items() if name not in done]
    return "\n".join(parts)


def _row(name: str, each: Mapping[str, Any]) -> tuple[str, ...]:
    scores = (each[model][when] for model in ("base", "model") for when in ("before", "after"))
    changes = (_points(each[key]) for key in ("lost", "recovered", "left"))
    sizes = (str(each["repair_items"]), str(each["test_items"]))
    return (name, *sizes, *(f"{score:.1%}" for score in scores), *changes, each["outcome"])


def _points(compared: Mapping[str, Any]) -> str:
    low, high = compared["ci95"]
    return f"{100 * compared['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"

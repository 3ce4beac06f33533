"""`holdfast rewrite`: demonstrations in the model's own voice, checked, as a training file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.options import JsonFile, Overrides, Quiet, Seed
from holdfast.cli.overrides import parse_overrides
from holdfast.cli.progress_bars import answer_progress
from holdfast.cli.say import say
from holdfast.model.quiet import silence_progress_bars


def rewrite(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG|DATA", help="YAML file of a run or a comparison, or a training file.", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write. Must not exist yet.", show_default=False),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="PATH", help="Who writes: a folder, a hub id, or `lab`. Default: CONFIG's."),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", metavar="NAME", help="Which of CONFIG's tasks.")] = None,
    verifier: Annotated[
        str | None, typer.Option("--verifier", metavar="MODULE:FUNCTION", help="Judges a rewritten demonstration.")
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            help="What says that the content is right: `verifier`, or `contains`: the `answer`, or else the whole "
            "demonstration, stands in the text. Default: verifier.",
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            metavar="TEXT",
            help="The prompt that shows a demonstration, with {prompt} and {demonstration}. Default: that of CONFIG's "
            "recipe, or SDFT's. `holdfast check` tries several.",
        ),
    ] = None,
    tries: Annotated[int | None, typer.Option("--tries", min=1, help="Texts per example, at most. Default: 2.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Temperature of sampled texts. Default: 1.")
    ] = None,
    sampled: Annotated[bool, typer.Option("--sampled", help="Sample the first text too; by default greedy.")] = False,
    seed: Seed = 0,
    json_file: JsonFile = None,
    settings: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Let the model write each demonstration in its own voice, keep what is right, and write a training file."""
    from holdfast import api
    from holdfast.cli.run_command import EndedEarly
    from holdfast.stop import Stopped
    from holdfast.store.files import write_json

    silence_progress_bars()
    given = {"check": check, "template": template, "tries": tries, "temperature": temperature}
    chosen = {name: value for name, value in given.items() if value is not None}
    if sampled:
        chosen["greedy_first"] = False
    try:
        with answer_progress(quiet) as progress_of:
            result = api.rewrite(
                source,
                output,
                model=model,
                task=task,
                verifier=verifier,
                rewriting=chosen,
                seed=seed,
                on_examples=progress_of(model or "the base"),
                **parse_overrides(settings),
            )
    except Stopped as end:
        raise EndedEarly("stopped; the same command goes on from here", end.code) from None
    say(as_text(result))
    if json_file is not None:
        write_json(json_file, result)


def as_text(result: Mapping[str, Any]) -> str:
    """The result of `holdfast.api.rewrite` in a few lines."""
    from holdfast.rollouts.rewriting import REASONS

    outcomes, all_of_them = result["outcomes"], result["examples"]
    taken = sum(outcomes.get(name, 0) for name in ("rewritten", "same words"))
    same = outcomes.get("same words", 0)
    lines = [
        f"{result['task']}: {taken} of {all_of_them} demonstrations are in the model's own voice now"
        + (f" ({same} of them {REASONS['same words']})" if same else "")
    ]
    if taken < all_of_them:
        why = ", ".join(f"{len(ids)} because {REASONS[name]}" for name, ids in result["kept"].items())
        lines.append(f"{all_of_them - taken} stay as they were: {why}")
    if held := result["records"] - all_of_them:
        lines.append(f"{held} more records are not trained on, and stay as they were")
    if (before := result["before"]) is not None:
        after = result["after"]
        lines.append(
            f"distance from the model's own answers: {before['distance']:.2f} nats per token before, "
            f"{after['distance']:.2f} after; tokens outside its top {after['top_k']}: "
            f"{before['outside_demonstrations']:.0%} before, {after['outside_demonstrations']:.0%} after"
        )
    lines.append(f"{result['completions']} texts, {result['generated_tokens']} tokens, {result['seconds']:.0f} s")
    return "\n".join([*lines, f"written: {result['file']}; train on it with `train: {result['file']}`"])

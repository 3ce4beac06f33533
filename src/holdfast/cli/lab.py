"""`holdfast lab`: commands about the lab, the small synthetic world in the package."""

import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.options import AsJson
from holdfast.cli.run_command import EndedEarly
from holdfast.cli.say import say, say_aside, say_json
from holdfast.model.quiet import silence_progress_bars

if TYPE_CHECKING:
    from holdfast.pretrain.success import Success

lab = typer.Typer(help="The lab, a small synthetic world: pretrain its base model, and measure its skills.")


@lab.callback(invoke_without_command=True)
def _lab(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        say(ctx.get_help())


@lab.command("pretrain")
def lab_pretrain(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Working folder. A stopped run resumes.")],
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Optimizer steps. Default: as for the base model in the package."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of weights and documents.")] = 0,
    compile_model: Annotated[
        bool,
        typer.Option("--compile/--no-compile", help="Compile the model. Halves the time, but needs a C++ compiler."),
    ] = True,
) -> None:
    """Pretrain a base model of the lab in the same way as the one in the package."""
    from holdfast.pretrain.skills import skills_while_pretraining
    from holdfast.pretrain.train import PretrainSettings, pretrain

    if compile_model and not any(shutil.which(os.environ.get("CXX", name)) for name in ("c++", "g++", "clang++")):
        warnings.warn(
            "no C++ compiler was found, so the model is not compiled; pretraining takes twice as long", stacklevel=1
        )
        compile_model = False
    settings = PretrainSettings(seed=seed, compile=compile_model)
    if steps is not None:
        settings = replace(settings, steps=steps)

    def show(line: Mapping[str, Any]) -> None:
        if line["step"] % 20 == 0 or "skills" in line:
            skills = "".join(f"  {name} {score:.1%}" for name, score in line.get("skills", {}).items())
            say_aside(f"step {line['step']}/{settings.steps}  loss {line['loss']:.4f}{skills}")

    silence_progress_bars()
    try:
        say(f"model: {pretrain(folder, settings, evaluate=skills_while_pretraining, on_step=show)}")
    except KeyboardInterrupt:
        raise EndedEarly("stopped; the same command resumes from the last saved state", 130) from None


@lab.command("eval")
def lab_eval(
    model: Annotated[str, typer.Option("--model", metavar="PATH", help="A model folder, or `lab`.")] = "lab",
    items: Annotated[
        int | None, typer.Option("--items", min=1, help="Use only the first N items of each suite.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the skills of a lab model on held-out items, and what extra prompt information adds on each task."""
    from holdfast.cli.tables import interval, table
    from holdfast.config.settings import ModelSettings
    from holdfast.model.load import load_policy
    from holdfast.pretrain.skills import lab_skills
    from holdfast.pretrain.success import ITEMS, before_stages

    silence_progress_bars()
    policy = load_policy(ModelSettings(path=model))
    skills = lab_skills(policy, items)
    before = before_stages(policy, items or ITEMS)
    if as_json:
        say_json({**skills, "before": [asdict(each) for each in before]})
        return
    rows = [(skill, s["suite"], s["n"], f"{s['mean']:.1%}", interval(s["ci95"])) for skill, s in skills.items()]
    say(table(("skill", "suite", "items", "score", "95% CI"), rows))
    head = ("task", "shown", "prompts", "success", "95% CI", "all samples wrong", "tics", "preambles", "own form")
    before_rows = [
        (s.task, s.shown, s.prompts, f"{s.mean:.1%}", interval(s.ci95), f"{s.all_failed:.1%}", *_style(s))
        for s in before
    ]
    say("\n" + table(head, before_rows))


def _style(success: "Success") -> tuple[str, str, str]:
    """How answers are said, in percent; nothing where a task has no voice."""
    if success.style is None:
        return "", "", ""
    return f"{success.style.tics:.1%}", f"{success.style.preambles:.1%}", f"{success.style.main_form:.1%}"

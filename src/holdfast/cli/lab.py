"""`holdfast lab`: commands about the embedded world."""

import os
import shutil
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.console import AsJson, Ended, print_json
from holdfast.errors import ConfigError
from holdfast.model.quiet import silence_progress_bars

lab = typer.Typer(help="The embedded world: its base model, and the recipe that pretrained it.")


@lab.callback(invoke_without_command=True)
def _lab(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


@lab.command("pretrain")
def lab_pretrain(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Working folder; one that was stopped goes on.")],
    world: Annotated[
        str, typer.Option("--world", help="`lab`, or `wide`, which goes on from the base of the first.")
    ] = "lab",
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimizer steps; by default the base's.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of weights and documents.")] = 0,
    compile_model: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Compile the model; needs a C++ compiler, halves the time.")
    ] = True,
) -> None:
    """Pretrain a base of the lab by the recipe that made the one in the package."""
    from holdfast.pretrain.skills import SKILLS, WIDE_SKILLS, skills_while_pretraining
    from holdfast.pretrain.train import WIDE, PretrainSettings, pretrain

    if world not in ("lab", "wide"):
        raise ConfigError(f"there is no world {world!r}", where="--world", fix="choose `lab` or `wide`")
    if compile_model and not any(shutil.which(os.environ.get("CXX", name)) for name in ("c++", "g++", "clang++")):
        warnings.warn("no C++ compiler is found, so the model is not compiled; it takes twice as long", stacklevel=1)
        compile_model = False
    settings = replace(WIDE if world == "wide" else PretrainSettings(), seed=seed, compile=compile_model)
    skills = {**SKILLS, **WIDE_SKILLS} if world == "wide" else SKILLS
    if steps is not None:
        settings = replace(settings, steps=steps)

    def show(line: Mapping[str, Any]) -> None:
        if line["step"] % 20 == 0 or "skills" in line:
            skills = "".join(f"  {name} {score:.1%}" for name, score in line.get("skills", {}).items())
            print(f"step {line['step']}/{settings.steps}  loss {line['loss']:.4f}{skills}", file=sys.stderr, flush=True)

    silence_progress_bars()
    try:
        evaluate = partial(skills_while_pretraining, skills=skills)
        print(f"model: {pretrain(folder, settings, evaluate=evaluate, on_step=show)}")
    except KeyboardInterrupt:
        raise Ended("stopped; the same command goes on from the last state that was saved", 130) from None


@lab.command("eval")
def lab_eval(
    model: Annotated[str, typer.Option("--model", metavar="PATH", help="A model folder, `lab` or `lab-wide`.")] = "lab",
    items: Annotated[int | None, typer.Option("--items", min=1, help="Use the first so many of each suite.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the skills of a base of the lab on held-out items; of the wider one what each privilege is worth too."""
    from holdfast.cli.tables import interval, table
    from holdfast.config.settings import ModelSettings
    from holdfast.model.load import load_policy
    from holdfast.pretrain.skills import SKILLS, WIDE_SKILLS, lab_skills

    silence_progress_bars()
    policy = load_policy(ModelSettings(path=model))
    knows_more = "<|tool|>" in policy.tokenizer.get_vocab()
    found = lab_skills(policy, items, {**SKILLS, **WIDE_SKILLS} if knows_more else SKILLS)
    before = []
    if knows_more:
        from holdfast.pretrain.wide_skills import ITEMS, before_stages

        before = before_stages(policy, items or ITEMS)
    if as_json:
        print_json({**found, "before": [asdict(each) for each in before]} if knows_more else found)
        return
    rows = [(skill, s["suite"], s["n"], f"{s['mean']:.1%}", interval(s["ci95"])) for skill, s in found.items()]
    print(table(("skill", "suite", "items", "score", "95% interval"), rows))
    if before:
        head = ("task", "shown", "prompts", "success", "95% interval", "all samples wrong")
        told = [(s.task, s.shown, s.prompts, f"{s.mean:.1%}", interval(s.ci95), f"{s.all_failed:.1%}") for s in before]
        print("\n" + table(head, told))

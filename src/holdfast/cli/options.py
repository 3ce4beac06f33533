"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer


def _replaceable(path: Path | None) -> Path | None:
    """Refuse a device, a folder or a link as a file to write, before any work is done for it."""
    from holdfast.store.files import refuse_special

    if path is not None:
        refuse_special(path)
    return path


def output_file(*names: str, help: str) -> Any:
    """An option that names a file to write. A regular file of that name is replaced, and nothing else is."""
    return typer.Option(*names, metavar="FILE", help=help, callback=_replaceable)


RunConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML file that describes a run.", show_default=False)
]

ComparisonConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML file that describes a comparison.", show_default=False)
]

AnyConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML file that describes a run or a comparison.", show_default=False)
]

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="Directory of a run or a comparison.", show_default=False)
]

OutputDir = Annotated[
    Path | None,
    typer.Option("--output-dir", "-o", help="Where to write. Default: output_dir of the configuration, or runs/NAME."),
]

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace a setting, e.g. train.steps=100 or recipes.sdft.ema_rate=0.05. Repeatable.",
    ),
]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]

JsonFile = Annotated[Path | None, output_file("--json", help="Also write the results as JSON.")]

Workers = Annotated[int, typer.Option("--workers", min=1, help="Runs in parallel, with one thread each.")]

MeasurementsDir = Annotated[
    Path, typer.Option("--output-dir", "-o", help="For records and runs under way. What is there is not repeated.")
]

KeptRecords = Annotated[
    Path | None, typer.Option("--records", metavar="FILE", help="Records that `--keep` wrote, to go on from.")
]

KeepRecords = Annotated[Path | None, output_file("--keep", help="Write all records into this file (.jsonl.gz).")]

Minutes = Annotated[float | None, typer.Option("--minutes", min=0, help="Start no further run after this time.")]

FiguresBesidePage = Annotated[
    bool, typer.Option("--figures", help="Also write the figures beside the page. Needs the extra `figures`.")
]

TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run code that comes with the model or a task file, if the run was made with it. Read that code first.",
    ),
]

RunUnprotected = Annotated[
    bool,
    typer.Option("--unprotected", help="Run code that the model writes without a sandbox, if the run was made so."),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Prompts = Annotated[
    list[str],
    typer.Argument(metavar="PROMPTS...", help="Task files, or lab:NAME. Each is one task.", show_default=False),
]

Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use only the first N prompts of each task.")]

Temperature = Annotated[float, typer.Option("--temperature", min=0.0, help="Sampling temperature; 0 is greedy.")]

SamplesOption = Annotated[int, typer.Option("--samples", min=1, help="Answers per prompt.")]

MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens",
        min=1,
        help="Longest answer in tokens. Default: 512, or what fits into the model's context.",
    ),
]

Seed = Annotated[int, typer.Option("--seed", min=0, help="Sampling seed.")]

Dtype = Annotated[str, typer.Option("--dtype", help="Dtype of the weights: float32 or bfloat16.")]

EvaluatedTasks = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file. Models are evaluated on its tasks and suites."),
]

EvaluatedSuites = Annotated[
    list[str] | None,
    typer.Option(
        "--suites",
        metavar="NAME",
        help="Evaluate on this suite instead: lab, lab:NAME, gym:NAME, sdft, or a task (file) of lm-eval. Repeatable.",
    ),
]

EvaluatedItems = Annotated[
    int | None, typer.Option("--items", min=1, help="Evaluate on only the first N items of each set.")
]

RunCode = Annotated[
    bool,
    typer.Option("--run-code", help="Let suites such as HumanEval run code that a model wrote, in a sandbox."),
]

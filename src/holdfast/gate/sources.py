"""Where the gate's evaluations come from: a file, a run, or a model evaluated now. Imports without torch."""

import re
from collections.abc import Sequence
from pathlib import Path

from holdfast.errors import ConfigError, RunError
from holdfast.evaluate.standalone import Evaluation, OnSet, evaluate, plan_of
from holdfast.gate.judge import MARGIN, GateVerdict, judge
from holdfast.store.files import read_json


def gate(
    base: str | Path,
    candidate: str | Path | None = None,
    *,
    config: str | Path | None = None,
    suites: Sequence[str] = (),
    margin: float = MARGIN,
    strict: bool = False,
    items: int | None = None,
    run_code: bool = False,
    on_set: OnSet | None = None,
) -> tuple[GateVerdict, str, str]:
    """Judge a candidate by its base.

    Args:
        base: a model (folder, hub id or `lab`), a file written by `holdfast eval --json`, or a run directory, of which
            it is the model before the first stage.
        candidate: the same; of a run directory it is the model after the last finished stage. May be left out where
            `base` is a run directory.
        config: a configuration whose tasks and suites models are evaluated on.
        suites: in place of those: `lab`, `lab-wide`, `lab:NAME`, `gym:NAME`, `sdft`, tasks or task files of
            lm-evaluation-harness.
        margin: the largest fall that is accepted, in points.
        strict: whether a set that is not decided is refused too.
        items: evaluate models on the first so many items of each set.
        run_code: let suites run code that a model wrote.
        on_set: called before each set is evaluated.

    Returns:
        The verdict, and what base and candidate are called.

    Raises:
        HoldfastError: a source cannot be read or evaluated, or the two are not of the same items.
    """
    if not 0 <= margin < 100:
        raise ConfigError(f"a margin of {margin} points", fix="it is between 0 and 100")
    if candidate is None and not _is_run(Path(base)):
        raise ConfigError("a candidate is missing", fix="name it after the base, or name one run directory")
    sources = (str(base), str(base if candidate is None else candidate))
    models = [source for source in sources if not Path(source).is_file() and not _is_run(Path(source))]
    plan = plan_of(config, suites, items, run_code) if models else None
    # What can be wrong with either is told before the first model is evaluated, which may take an hour.
    read = [None if source in models else _kept(source, is_base) for source, is_base in zip(sources, (True, False))]
    if plan is not None:
        from holdfast.model.load import locate

        for model in models:
            locate(model)
    found: list[Evaluation] = []
    names: list[str] = []
    for source, kept in zip(sources, read, strict=True):
        if kept is None:
            assert plan is not None
            kept = evaluate(source, plan, on_set or (lambda model, name: None)), source
        found.append(kept[0])
        names.append(kept[1])
    return judge(found[0], found[1], margin, strict=strict), names[0], names[1]


def _kept(source: str, is_base: bool) -> tuple[Evaluation, str]:
    """The evaluation that a file or a run holds, and what its model is called."""
    path = Path(source)
    if path.is_file():
        return _read(path), source
    stages = _stages(path)
    stage = 0 if is_base else max(stages)
    if stage not in stages:
        raise RunError("has no evaluation before the first stage", where=source, fix="let the run begin first")
    if not is_base and stage == 0:
        raise RunError("has no finished stage yet", where=source, fix="let it finish one first")
    return _read(stages[stage]), f"{source}, stage {stage}" if stage else f"{source}, before the first stage"


def _is_run(path: Path) -> bool:
    return (path / "evals").is_dir() and not (path / "config.json").exists()


def _stages(path: Path) -> dict[int, Path]:
    found = {re.fullmatch(r"stage-(\d+)\.json", file.name): file for file in (path / "evals").iterdir()}
    stages = {int(match[1]): file for match, file in found.items() if match}
    if not stages:
        raise RunError("has no evaluations yet", where=str(path), fix="let the run begin first")
    return stages


def _read(path: Path) -> Evaluation:
    evaluation = read_json(path)
    if not isinstance(evaluation, dict) or not isinstance(evaluation.get("items"), dict):
        fix = "name what `holdfast eval --json FILE` wrote, or a run's evals/stage-N.json"
        raise RunError("is not an evaluation: it has no scores of items", where=str(path), fix=fix)
    return evaluation

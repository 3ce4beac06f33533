"""Where the gate's two evaluations come from: a file, a run, or a model evaluated now. Imports without torch."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from holdfast.errors import ConfigError, RunError
from holdfast.evaluation.standalone import EvaluationJson, evaluate_model, evaluation_plan
from holdfast.gate.judge import MARGIN, GateVerdict, judge
from holdfast.store.files import read_json
from holdfast.store.run_directory import RunDirectory


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
    on_set: Callable[[str, str], None] | None = None,
) -> tuple[GateVerdict, str, str]:
    """Judge a candidate against its base.

    Args:
        base: a model (folder, hub id or `lab`), a file written by `holdfast eval --json`, or a run directory. Of a run
            it is the model before the first stage.
        candidate: the same. Of a run it is the model after the last finished stage. Optional if `base` is a run.
        config: a configuration whose tasks and suites models are evaluated on.
        suites: used instead of `config`'s: `lab`, `lab:NAME`, `gym:NAME`, `sdft`, tasks or task files of
            lm-evaluation-harness.
        margin: the largest drop that is accepted, in points.
        strict: whether an inconclusive set is refused too.
        items: evaluate models on the first `items` items of each set.
        run_code: allow suites to run code that a model wrote.
        on_set: called with the model and the name of each set before it is evaluated.

    Returns:
        The verdict, and the names of base and candidate.

    Raises:
        HoldfastError: a source cannot be read or evaluated, or the two have different items.
    """
    if not 0 <= margin < 100:
        raise ConfigError(f"the margin is {margin} points", fix="set it from 0 to below 100")
    if candidate is None and not _is_run(Path(base)):
        raise ConfigError("no candidate is named", fix="name it after the base, or name one run directory")
    sources = (str(base), str(base if candidate is None else candidate))
    models = [source for source in sources if not Path(source).is_file() and not _is_run(Path(source))]
    plan = evaluation_plan(config, suites, items, run_code) if models else None
    # Files are read and models located first, so that a mistake appears before an evaluation that may take an hour.
    evaluated = [None if source in models else _saved(source, i == 0) for i, source in enumerate(sources)]
    if plan is not None:
        from holdfast.model.folders import locate

        for model in models:
            locate(model)
    evaluations: list[EvaluationJson] = []
    names: list[str] = []
    for source, saved in zip(sources, evaluated, strict=True):
        if saved is None:
            assert plan is not None
            show = partial(on_set, source) if on_set is not None else None
            saved = evaluate_model(plan.for_model(source), show), source
        evaluations.append(saved[0])
        names.append(saved[1])
    return judge(evaluations[0], evaluations[1], margin, strict=strict), names[0], names[1]


def _saved(source: str, is_base: bool) -> tuple[EvaluationJson, str]:
    """The evaluation in a file or a run, and the name of its model."""
    path = Path(source)
    if path.is_file():
        return _read(path), source
    stages = _stages(path)
    stage = 0 if is_base else max(stages)
    if stage not in stages:
        fix = "wait until the run has evaluated its base"
        raise RunError("it has no evaluation before the first stage", where=source, fix=fix)
    if not is_base and stage == 0:
        raise RunError("it has no finished stage yet", where=source, fix="wait until one stage is finished")
    RunDirectory(path).read_checked(stages[stage])
    return _read(stages[stage]), f"{source}, stage {stage}" if stage else f"{source}, before the first stage"


def _is_run(path: Path) -> bool:
    return (path / "evals").is_dir() and not (path / "config.json").exists()


def _stages(path: Path) -> dict[int, Path]:
    matches = {re.fullmatch(r"stage-(\d+)\.json", file.name): file for file in (path / "evals").iterdir()}
    stages = {int(match[1]): file for match, file in matches.items() if match}
    if not stages:
        fix = "wait until the run has evaluated its base"
        raise RunError("it has no evaluations yet", where=str(path), fix=fix)
    return stages


def _read(path: Path) -> EvaluationJson:
    fix = "name a file that `holdfast eval --json FILE` wrote, or a run's evals/stage-N.json"
    evaluation = read_json(path, damaged=fix)
    if not isinstance(evaluation, dict) or not isinstance(evaluation.get("items"), dict):
        raise RunError("it is not an evaluation: it has no item scores", where=str(path), fix=fix)
    for block, entry in (("items", list), ("nll", list), ("samples", list), ("sets", dict)):
        by_set = evaluation.get(block)
        if by_set is not None and not (
            isinstance(by_set, dict) and all(isinstance(each, entry) for each in by_set.values())
        ):
            raise RunError(f"it is damaged: {block!r} is not what an evaluation has", where=str(path), fix=fix)
    samples = [sample for each in (evaluation.get("samples") or {}).values() for sample in each]
    if not all(isinstance(sample, dict) and isinstance(sample.get("id"), str) for sample in samples):
        raise RunError("it is damaged: 'samples' has one without an id", where=str(path), fix=fix)
    return evaluation

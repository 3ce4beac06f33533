"""A comparison: recipes × seeds × task orders over one stream at equal budget, one run after the other."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from holdfast import __version__
from holdfast.config.load import dump_config, load_kept_config
from holdfast.config.settings import CompareConfig, RunConfig, StreamSettings
from holdfast.config.trust import NO_WORD, UsersWord
from holdfast.errors import RunError
from holdfast.model.processes import Processes
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.intact import evaluation_of, refuse_lost_manifest, warn_of_changed_config
from holdfast.stream.observer import Observer
from holdfast.stream.run import Run, open_run
from holdfast.summary.comparison import build_comparison_summary
from holdfast.summary.inputs import ComparisonDescription
from holdfast.summary.read import read_summary
from holdfast.tasks.given import NOTHING_GIVEN, GivenSets


@dataclass(frozen=True)
class ComparisonCell:
    """One run of a comparison."""

    label: str
    seed: int
    order_index: int
    config: RunConfig

    @property
    def path(self) -> str:
        return f"runs/{self.label}-s{self.seed}-o{self.order_index}"


def cells(config: CompareConfig) -> list[ComparisonCell]:
    """The runs of a comparison. All recipes of one seed and order run first, so that paired results come early."""
    return [
        ComparisonCell(arm.label, seed, index, config.run_config(arm, seed, order))
        for seed in config.seeds
        for index, order in enumerate(config.task_orders())
        for arm in config.recipes
    ]


def compare(
    config: CompareConfig,
    path: Path,
    observer: Observer | None = None,
    *,
    on_progress: Callable[[], object] | None = None,
    given: GivenSets = NOTHING_GIVEN,
) -> dict[str, Any]:
    """Run a comparison in a new directory, and return its summary.

    Every recipe is checked, with tasks and model loaded, before anything is written.

    Args:
        on_progress: called on the main process after each change of the summary on disk.
        given: the tasks and suites that the configuration only names.

    Raises:
        HoldfastError: the first problem that would stop a run.
    """
    world = Processes.current()
    directory = RunDirectory(path)
    world.main(directory.refuse_existing)
    first_order = config.task_orders()[0]
    kept: dict[str, dict[str, frozenset[str]]] = {}
    for arm in config.recipes:
        run = Run(config.run_config(arm, config.seeds[0], first_order), directory, label=arm.label, given=given)
        run.prepare()
        kept[arm.label] = {task: run.collector.pool.kept_ids(task) for task in first_order}
    # Written down as they are used: on resuming, defaults cannot be told from what the user wrote.
    config = config.model_copy(update={"train": run.config.train})
    _warn_of_unequal_prompts(kept)
    world.main(directory.create)
    try:
        world.main(lambda: directory.write_text(directory.config, dump_config(config)))
        return _run_cells(config, directory, observer, on_progress, given, NO_WORD)
    finally:
        directory.lock.release()


def resume_comparison(
    path: Path,
    observer: Observer | None = None,
    *,
    on_progress: Callable[[], object] | None = None,
    given: GivenSets = NOTHING_GIVEN,
    word: UsersWord = NO_WORD,
) -> dict[str, Any]:
    """Resume a comparison: keep complete runs, resume the interrupted one, and start the others.

    Args:
        on_progress, given: as for `compare`.
        word: the user's, as for `load_kept_config`.
    """
    directory = RunDirectory(path)
    config = load_kept_config(directory.config, CompareConfig, word)
    world = Processes.current()
    world.main(directory.open_to_write)
    try:
        world.main(lambda: warn_of_changed_config(directory))
        world.main(directory.sweep)
        return _run_cells(config, directory, observer, on_progress, given, word)
    finally:
        directory.lock.release()


def _run_cells(
    config: CompareConfig,
    directory: RunDirectory,
    observer: Observer | None,
    on_progress: Callable[[], object] | None,
    given: GivenSets,
    word: UsersWord,
) -> dict[str, Any]:
    world = Processes.current()
    baselines: dict[int, dict[str, Any]] = {}

    def summarize() -> dict[str, Any]:
        summary = _summarize(config, directory)
        if on_progress is not None:
            on_progress()
        return summary

    for number, cell in enumerate(cells(config), 1):
        own = RunDirectory(directory.path / cell.path)
        world.main(directory.lock.check)
        if not world.main(lambda own=own: _is_complete(own)):  # type: ignore[misc]
            if observer is not None and world.is_main:
                observer.comparison_run(number, len(cells(config)))
            baseline = baselines.get(tested_on(config, cell.seed))
            if world.main(own.manifest.exists):  # a run with a manifest can be resumed
                run = open_run(own.path, observer, given, word=word)
                run.baseline = baseline
                run.resume()
            else:
                world.main(lambda own=own: refuse_lost_manifest(own))  # type: ignore[misc]
                world.main(lambda own=own: _discard(own))  # type: ignore[misc]
                Run(cell.config, own, label=cell.label, baseline=baseline, observer=observer, given=given).start()
            world.main(summarize)
        if tested_on(config, cell.seed) not in baselines:
            # Every run starts from the same model, so it is evaluated once on the same items, by the first run.
            baseline = world.main(lambda own=own: _baseline_if_whole(own))  # type: ignore[misc]
            if baseline is not None:
                baselines[tested_on(config, cell.seed)] = baseline
    return world.main(lambda: _summarize(config, directory))


def tested_on(config: StreamSettings, seed: int) -> int:
    """Names the items that a run with this seed is tested on. Only the lab's worlds may follow the seed."""
    sources = [*config.tasks, *(config.suites or ())]
    follows = any(each.lab is not None and each.lab_settings.world is None for each in sources)
    return seed if follows else 0


def _warn_of_unequal_prompts(kept: Mapping[str, Mapping[str, frozenset[str]]]) -> None:
    """Warn if recipes leave out different examples, because then they do not train on the same prompts.

    Args:
        kept: by recipe and task, the examples that fit.
    """
    (first, prompts), *others = kept.items()
    for label, own in others:
        for task in (task for task in prompts if own[task] != prompts[task]):
            warnings.warn(
                f"{task}: {first} and {label} leave out different examples that are too long, so their prompts differ "
                "(raise train.max_prompt_length or train.max_completion_length)",
                stacklevel=2,
            )


def _is_complete(run: RunDirectory) -> bool:
    """Whether nothing is left to do in a run. One whose summary is damaged is resumed, which writes it again."""
    if not run.summary.exists():
        return False
    try:
        return summary_of(run)["status"] != "running"
    except RunError as error:
        warnings.warn(f"{error.where}: {error.what}; it is written again", stacklevel=2)
        return False


def summary_of(run: RunDirectory) -> dict[str, Any]:
    """The summary that a run wrote.

    Raises:
        RunError: it is missing, damaged, or of an unknown version.
    """
    run.check_summary()
    return read_summary(run.summary)


def baseline_of(run: RunDirectory) -> dict[str, Any]:
    """A run's evaluation before its first stage, for other runs that start from the same model."""
    answers = run.read_checked(run.responses(0)) if run.responses(0).exists() else None
    return {**evaluation_of(run, run.evaluation(0)), "responses": answers}


def _baseline_if_whole(run: RunDirectory) -> dict[str, Any] | None:
    """The same; None with a warning if it is damaged, so that the next run measures the model itself."""
    try:
        return baseline_of(run)
    except RunError as error:
        warnings.warn(f"{error.where}: {error.what}; the next run measures the base again", stacklevel=2)
        return None


def _discard(run: RunDirectory) -> None:
    """Remove the files of a run that was killed before it wrote its manifest."""
    if run.path.exists():
        run.lock.refuse_live()
        for file in run.path.iterdir():
            if not file.is_file():
                raise RunError(
                    "holds a folder that is not part of this comparison", where=str(run.path), fix="remove it"
                )
            file.unlink()


def _summarize(config: CompareConfig, directory: RunDirectory) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    for cell in cells(config):
        own = RunDirectory(directory.path / cell.path)
        if not own.summary.exists():
            continue
        try:
            summary = summary_of(own)
        except RunError:
            continue  # its run is resumed, which writes it again
        place = {"label": cell.label, "seed": cell.seed, "order_index": cell.order_index, "path": cell.path}
        runs.append(place | {"summary": summary})
    complete = sum(run["summary"]["status"] != "running" for run in runs) == len(cells(config))
    comparison = ComparisonDescription(
        name=config.name,
        holdfast_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        status="complete" if complete else "running",
        labels=[arm.label for arm in config.recipes],
        seeds=config.seeds,
        orders=config.task_orders(),
    )
    result = build_comparison_summary(comparison, runs)
    directory.write_json(directory.summary, result)
    return result

"""The suites that a watched model is asked: objects, files, or names of lab tasks and reasoning-gym generators."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from holdfast.config.code import LAB_PROGRAMS
from holdfast.config.settings import LAB, SuiteSettings, TaskSettings
from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError
from holdfast.tasks.files import SUFFIXES
from holdfast.tasks.lm_eval import LmEvalSuite
from holdfast.tasks.load import load_suite, load_task


def load_suites(sources: Sequence[str | Path | Suite | Task], items: int) -> list[Suite]:
    """The first `items` items of each source. All are retention suites, unless a `Suite` object says otherwise.

    Args:
        sources: a file (JSON Lines, JSON or Parquet) whose records have an `answer`, or a `completion` whose likelihood
            is measured; `lab:NAME`; `gym:NAME`; a `Suite`; a `Task`, of which the test split is used.

    Raises:
        ConfigError: no source is given, two have the same name, or a source is not understood.
        DataError: a file cannot be read, or has nothing to judge answers by.
    """
    suites = [_suite(source) for source in sources]
    if not suites:
        fix = "name at least one, e.g. a file of questions and answers"
        raise ConfigError("no suite is given", where="suites", fix=fix)
    names = [suite.name for suite in suites]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two suites are named {name!r}", where="suites", fix="rename one of the files")
    return [replace(suite, test=suite.test[:items]) for suite in suites]


def _suite(source: str | Path | Suite | Task) -> Suite:
    if isinstance(source, LmEvalSuite):
        fix = "compare the weights of start and end on it with `holdfast gate`"
        raise ConfigError(f"{source.name!r} cannot be evaluated during training", where="suites", fix=fix)
    if isinstance(source, Suite):
        return source
    if isinstance(source, Task):
        suite = Suite(source.name, "retention", source.test, source.verifier, source.description, source.episodes)
        return replace(suite, verifier_timeout=source.verifier_timeout, verifier_errors=source.verifier_errors)
    kind, _, name = str(source).partition(":")
    if kind == LAB and name:
        from holdfast.lab.tasks import ALL_TASKS, lab_suite, lab_task

        if name == LAB_PROGRAMS:
            return _suite(load_task(TaskSettings(name=name, lab=name)))
        return _suite(lab_task(name)) if name in ALL_TASKS else lab_suite(name)
    if kind == "gym" and name:
        return load_suite(SuiteSettings(name=name, gym=name))
    path = Path(source)
    if path.suffix.lower() not in SUFFIXES:
        fix = f"name a file ({', '.join(sorted(SUFFIXES))}), `lab:NAME` or `gym:NAME`, or pass a Suite"
        raise ConfigError(f"{str(source)!r} is not a suite", where="suites", fix=fix)
    return load_suite(SuiteSettings(name=path.stem, test=str(path)))

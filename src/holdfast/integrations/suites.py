"""What a watched model is asked: suites given as objects, files, or names of the lab's and reasoning-gym's."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from holdfast.config.settings import LAB, SuiteSettings
from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError
from holdfast.tasks.files import SUFFIXES
from holdfast.tasks.lm_eval import LmEvalSuite
from holdfast.tasks.load import load_suite


def load_suites(sources: Sequence[str | Path | Suite | Task], items: int) -> list[Suite]:
    """The first `items` items of each source, all as retention suites unless a `Suite` says otherwise.

    Args:
        sources: a file (JSON Lines, JSON or Parquet) whose records carry `answer`; `lab:NAME`; `gym:NAME`; a `Suite`; a
            `Task`, of which the test split is taken.

    Raises:
        ConfigError: nothing is named, two have one name, or a source is not understood.
        DataError: a file cannot be read, or nothing can judge its answers.
    """
    suites = [_suite(source) for source in sources]
    if not suites:
        raise ConfigError("no suites", where="suites", fix="name at least one, e.g. a file of questions and answers")
    names = [suite.name for suite in suites]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two suites are named {name!r}", where="suites", fix="rename one of the files")
    return [replace(suite, test=suite.test[:items]) for suite in suites]


def _suite(source: str | Path | Suite | Task) -> Suite:
    if isinstance(source, LmEvalSuite):
        fix = "measure it on the start's weights and the end's with `holdfast gate`"
        raise ConfigError(f"{source.name!r} cannot be asked within a training", where="suites", fix=fix)
    if isinstance(source, Suite):
        return source
    if isinstance(source, Task):
        if source.verifier is None:
            raise ConfigError(f"task {source.name!r} has no verifier", where="suites", fix="give it one")
        return Suite(source.name, "retention", source.test, source.verifier, source.description)
    kind, _, name = str(source).partition(":")
    if kind == LAB and name:
        from holdfast.lab.tasks import ALL_TASKS, lab_suite, lab_task

        return _suite(lab_task(name)) if name in ALL_TASKS else lab_suite(name)
    if kind == "gym" and name:
        return load_suite(SuiteSettings(name=name, gym=name))
    path = Path(source)
    if path.suffix.lower() not in SUFFIXES:
        fix = f"name a file ({', '.join(sorted(SUFFIXES))}), `lab:NAME` or `gym:NAME`, or pass a Suite"
        raise ConfigError(f"{str(source)!r} is no suite", where="suites", fix=fix)
    return load_suite(SuiteSettings(name=path.stem, test=str(path)))

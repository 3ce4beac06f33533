"""From the configuration to tasks and suites, with the checks that their data allows."""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from holdfast.config.code import LAB_PROGRAMS
from holdfast.config.settings import LAB, Columns, SourceSettings, StreamSettings, SuiteSettings, TaskSettings
from holdfast.data.environment import Episodes
from holdfast.data.example import Example, unjudged
from holdfast.data.seeds import numpy_rng
from holdfast.data.task import Suite, Task, Verify
from holdfast.errors import ConfigError, DataError
from holdfast.judging.here import load_here
from holdfast.judging.named import NamedEnvironment, NamedVerifier
from holdfast.measure.chance import constant_answer_score
from holdfast.recipes.base.needs import FIXES
from holdfast.store.bundled import BASES
from holdfast.tasks.code.load import program_verifier
from holdfast.tasks.code.reader import program_examples
from holdfast.tasks.files import (
    BadRecords,
    FaultyRecord,
    Reading,
    Record,
    read_dataset,
    read_file,
    read_records,
    records_to_examples,
    unread_columns,
)
from holdfast.tasks.given import NOTHING_GIVEN, GivenSets
from holdfast.tasks.lab_programs import BY_TESTS, lab_programs, program_splits
from holdfast.tasks.sciknoweval import sciknoweval_examples, verify_sciknoweval
from holdfast.tasks.toolalpaca import toolalpaca_examples, verify_toolalpaca
from holdfast.tasks.verifiers import accepted_answers, exact_match, load_verifier

if TYPE_CHECKING:
    from holdfast.lab.world import Dials

PROMPT_WORLD = 1_000_000
"""The world of lab prompts that are given without a world. No run has it by accident."""

MAX_OVERLAP = 0.1
"""Share of test prompts that may also be training prompts. More is taken for a mistake and refused. Less gives a
warning, because published splits overlap a little: one of the 94 test prompts of SciKnowEval's material set is a
training prompt."""


LATER_FIELDS = ("tools", "rendered_prompt", "demonstration_message", "trained_turns", "gen_prefix", "target")
"""Fields of examples that are newer than `data_hash`."""


@dataclass(frozen=True, slots=True)
class PublishedReader:
    """How records of a published task become examples, and how its answers are judged."""

    examples: Callable[[Sequence[Record | FaultyRecord], str, BadRecords], list[Example]]
    verifier: Verify


BY_LAB = "the lab"
"""Who judges the lab's tasks and suites, but for its programs."""

PUBLISHED = {
    "sciknoweval": PublishedReader(sciknoweval_examples, verify_sciknoweval),
    "toolalpaca": PublishedReader(toolalpaca_examples, verify_toolalpaca),
}
"""The readers of published tasks, by their name in the configuration. The others are forms (see `readers.forms`)."""


@dataclass(frozen=True, slots=True)
class LoadedSplit:
    """The examples of a file or split, its columns with text that nothing reads, and how many records were dropped."""

    examples: list[Example]
    unread_columns: tuple[str, ...]
    dropped: int


def load_stream(config: StreamSettings, given: GivenSets = NOTHING_GIVEN) -> tuple[list[Task], list[Suite]]:
    """The tasks of a stream, in the order of its stages, and its suites.

    If the configuration has no `suites`, a stream on a lab model gets the suites that concern its lab tasks.

    Args:
        given: the tasks and suites that the configuration only names.

    Raises:
        DataError: task data cannot be used.
        ConfigError: the lab has no such task or suite, a verifier cannot be loaded, an object was not passed, or two
            sets share a name.
    """
    seed = getattr(config, "seed", 0)
    tasks = [given.task(each) if each.given else load_task(each, seed) for each in config.tasks]
    if config.suites is not None:
        suites = [given.suite(each) if each.given else load_suite(each, seed) for each in config.suites]
    elif config.model.path in BASES:
        suites = _suites_of_the_lab(config.tasks, seed)
    else:
        suites = []
    names = [task.name for task in tasks] + [suite.name for suite in suites]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two tasks or suites are named {name!r}", fix="give one of them another name")
    return tasks, suites


def _suites_of_the_lab(tasks: Sequence[TaskSettings], seed: int) -> list[Suite]:
    """The default suites of these tasks, each in the world of its task.

    A suite of several tasks, such as one of old skills, is drawn from the world of that whose name comes first. So
    another order of the stages has the same suites.
    """
    from holdfast.lab.tasks import default_suites, lab_suite

    of_lab = {task.name: task.lab for task in tasks if task.lab is not None}
    if not of_lab:
        return []
    suites: dict[str, Suite] = {}
    for task in sorted(tasks, key=lambda each: each.name):
        for name in default_suites([of_lab[task.name]]) if task.name in of_lab else ():
            if name not in suites:
                suites[name] = lab_suite(name, _world(task, seed), _dials(task))
    return [replace(suites[name], judged_by=BY_LAB) for name in default_suites(list(of_lab.values()))]


def _world(settings: SourceSettings, seed: int) -> int:
    return seed if settings.lab_settings.world is None else settings.lab_settings.world


def _dials(settings: SourceSettings) -> "Dials":
    from holdfast.lab.world import Dials

    return Dials(**settings.lab_settings.model_dump(exclude={"world"}))


def load_task(settings: TaskSettings, seed: int = 0) -> Task:
    """Load one stage: its examples and its verifier.

    If no test split is named, a share of `test_fraction` of the different training prompts is drawn and held out.
    Examples of one prompt stay together.

    Args:
        settings: the task's entry in the configuration.
        seed: the run's. Only the lab's worlds follow it. Held-out prompts do not, so all runs of a comparison are
            tested on the same examples.

    Raises:
        DataError: the data cannot be used, or more than `MAX_OVERLAP` of the test prompts are training prompts.
        ConfigError: the lab or reasoning-gym has no such task, or the verifier cannot be loaded.
    """
    if settings.lab is not None:
        from holdfast.lab.tasks import lab_task

        _refuse_other_data(settings, "lab")
        if settings.lab == LAB_PROGRAMS:
            task = lab_programs(settings, _world(settings, seed))
        else:
            task = lab_task(settings.lab, _world(settings, seed), _dials(settings))
        train, test = _limited(task.train, settings), _limited(task.test, settings)
        task = replace(task, judged_by=task.judged_by or BY_LAB, chance=_chance(settings, task.chance))
        return replace(task, name=settings.name, train=train, test=test)
    if settings.gym is not None:
        from holdfast.tasks.reasoning_gym import gym_task

        _refuse_other_data(settings, "gym")
        task = gym_task(settings)
        train, test = _limited(task.train, settings), _limited(task.test, settings)
        task = replace(task, judged_by=f"reasoning-gym's {settings.gym}", chance=_chance(settings, task.chance))
        return replace(task, train=train, test=test, **judging_limits(settings))
    assert settings.train is not None  # guaranteed by TaskSettings
    loaded = _loaded(settings, settings.train, "train")
    train, dropped = loaded.examples, loaded.dropped
    if settings.test is not None:
        tested = _loaded(settings, settings.test, "test")
        test, dropped = tested.examples, dropped + tested.dropped
        _check_overlap(train, test, settings.name)
    else:
        train, test = _hold_out(train, settings)
    episodes = _episodes(settings)
    verifier = record_verifier(settings, [*train, *test]) if episodes is None else None
    train, test = list(_limited(train, settings)), list(_limited(test, settings))
    name, source, unread = settings.name, _source(settings), loaded.unread_columns
    judged_by, chance = _judged_by(settings, verifier), _chance(settings, _constant_answer_score(verifier, test))
    task = Task(name, train, test, verifier, source, episodes, unread, dropped, judged_by, chance)
    return replace(task, **judging_limits(settings))


def load_prompts(source: str) -> list[Example]:
    """The examples of which a recipe uses the prompts alone.

    Args:
        source: a file in the form of a training file, or `lab:NAME` for examples of a task or suite of the lab, in a
            world of their own: they are no test items of a run.

    Raises:
        DataError: the file cannot be read.
        ConfigError: the lab has no such task or suite.
    """
    kind, _, name = source.partition(":")
    if kind == LAB and name:
        if name == LAB_PROGRAMS:
            return program_splits(PROMPT_WORLD)["train"]
        from holdfast.lab.tasks import ALL_SUITES, lab_suite, lab_task

        return list(lab_suite(name, PROMPT_WORLD).test if name in ALL_SUITES else lab_task(name, PROMPT_WORLD).train)
    return records_to_examples(read_records(source), Columns(), source)


def load_suite(settings: SuiteSettings, seed: int = 0) -> Suite:
    """Load a held-out suite and its verifier. A suite of the lab is drawn from `seed`, the run's.

    Raises:
        DataError: the data cannot be used, or nothing can judge its answers.
        ConfigError: the lab has no such suite, or the verifier cannot be loaded.
    """
    if settings.lab is not None:
        from holdfast.lab.tasks import lab_suite

        _refuse_other_data(settings, "lab")
        suite = lab_suite(settings.lab, _world(settings, seed), _dials(settings))
        suite = replace(suite, judged_by=BY_LAB, chance=_chance(settings, suite.chance))
        return replace(suite, name=settings.name, test=_limited(suite.test, settings))
    if settings.gym is not None:
        from holdfast.tasks.reasoning_gym import gym_suite

        _refuse_other_data(settings, "gym")
        suite = gym_suite(settings)
        suite = replace(suite, judged_by=f"reasoning-gym's {settings.gym}", chance=_chance(settings, suite.chance))
        return replace(suite, test=_limited(suite.test, settings), **judging_limits(settings))
    if settings.lm_eval is not None:
        from holdfast.tasks.lm_eval import LmEvalSuite

        _refuse_other_data(settings, "lm_eval")
        of_harness = LmEvalSuite.of(settings)
        return replace(of_harness, judged_by="lm-evaluation-harness", chance=_chance(settings, of_harness.chance))
    assert settings.test is not None  # guaranteed by SuiteSettings
    test = _loaded(settings, settings.test, "test").examples
    episodes = _episodes(settings)
    verifier = record_verifier(settings, test) if episodes is None else unjudged
    if verifier is None and any(example.demonstration is None for example in test):
        # A suite of demonstrations is scored by their likelihood.
        raise DataError(f"suite {settings.name!r} has no verifier", fix=FIXES["reward"])
    test, judged_by = list(_limited(test, settings)), _judged_by(settings, verifier)
    chance = _chance(settings, _constant_answer_score(verifier, test))
    suite = Suite(settings.name, settings.kind, test, verifier, _source(settings), episodes, judged_by, chance)
    return replace(suite, **judging_limits(settings))


def data_hash(data: Task | Suite) -> str:
    """SHA-256 over all examples of a task or a suite, in order: prompts, privileges, answers and metadata.

    Runs that began before examples had the fields of `LATER_FIELDS` resume, because these count only where they are
    set.
    """
    digest = hashlib.sha256()
    splits = [data.train, data.test] if isinstance(data, Task) else [data.test]
    for split in splits:
        for example in split:
            values = {field.name: getattr(example, field.name) for field in fields(example)}
            plain = {name: value for name, value in values.items() if value or name not in LATER_FIELDS}
            digest.update(json.dumps(plain, sort_keys=True, default=_same_in_every_process).encode() + b"\n")
        digest.update(b"\n")
    return digest.hexdigest()


def _same_in_every_process(value: Any) -> Any:
    """A value that JSON has no form for, without what differs between processes: the order of a set, an address."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(value))


def _loaded(settings: SourceSettings, name: str, split: Literal["train", "test"]) -> LoadedSplit:
    """Read a file, or a split of a dataset.

    Args:
        settings: of the task or suite.
        name: path of the file, or name of the dataset's split.
        split: what it is used for.
    """
    found: Sequence[Record | FaultyRecord]
    if settings.dataset is not None:
        found, where = read_dataset(settings.dataset, name, settings.subset), f"{settings.dataset}/{name}"
    else:
        found, where = read_file(Path(name), split), name
    if settings.is_code:
        _refuse_settings_of_forms(settings, "code")
        public_tests = None if settings.code is None else settings.code.public_tests
        examples = program_examples(found, where, settings.bad_records, public_tests)
        return LoadedSplit(examples, (), len(found) - len(examples))
    if settings.reader in PUBLISHED:
        _refuse_settings_of_forms(settings, settings.reader)
        examples = PUBLISHED[settings.reader].examples(found, where, settings.bad_records)
        return LoadedSplit(examples, (), len(found) - len(examples))
    train_on = settings.train_on if isinstance(settings, TaskSettings) else "last"
    reading = Reading(settings.reader, settings.prompt_template, train_on, settings.bad_records)
    examples = records_to_examples(found, settings.columns, where, reading)
    return LoadedSplit(examples, unread_columns(found, settings.columns, reading), len(found) - len(examples))


def _refuse_settings_of_forms(settings: SourceSettings, reader: str) -> None:
    """Refuse settings that the reader of a published task or of programs does not read."""
    for key, default in (("columns", Columns()), ("prompt_template", None), ("train_on", "last")):
        if getattr(settings, key, default) != default:
            raise ConfigError(
                f"{settings.name!r} has `{key}`, which `reader: {reader}` does not read",
                fix=f"remove `{key}`, or use `reader: records`",
            )


def _episodes(settings: SourceSettings) -> Episodes | None:
    name = settings.environment_factory
    if name is None:
        return None
    if settings.in_process:
        return Episodes(load_here(name, f"environment_factory {name!r}", "(example)"), settings.max_turns)
    factory = NamedEnvironment(name, settings.verifier_timeout)
    factory.load()
    return Episodes(factory, settings.max_turns)


def record_verifier(settings: SourceSettings, examples: Sequence[Example]) -> Verify | None:
    """The user's verifier, else the reader's, else exact match if there are answers, else None.

    Raises:
        DataError: only some examples have an answer, or one has an answer that exact match cannot compare.
        ConfigError: the user's verifier cannot be loaded.
    """
    if settings.verifier is not None:
        if settings.in_process:
            return load_verifier(settings.verifier)
        verifier = NamedVerifier(settings.verifier, settings.verifier_timeout)
        verifier.load()
        return verifier
    if settings.is_code:
        return program_verifier(settings)
    if settings.reader in PUBLISHED:
        return PUBLISHED[settings.reader].verifier
    without_answer = [e.id for e in examples if e.answer is None]
    if len(without_answer) == len(examples):
        return None
    if without_answer:
        raise DataError(
            f"{len(without_answer)} of {len(examples)} examples have no answer, the first is {without_answer[0]!r}",
            where=f"task or suite {settings.name!r}",
            fix=f"give every record an `{settings.columns.answer}`, or name a `verifier`",
        )
    for example in examples:
        try:
            accepted_answers(example.answer)
        except DataError as error:
            where = f"task or suite {settings.name!r}, example {example.id!r}"
            raise DataError(error.what, where=where, fix=error.fix) from None
    return exact_match


def judging_limits(settings: SourceSettings) -> dict[str, Any]:
    """What a verifier or an environment may do, as fields of its task or suite."""
    return {"verifier_timeout": settings.verifier_timeout, "verifier_errors": settings.verifier_errors}


def _judged_by(settings: SourceSettings, verifier: Verify | None) -> str:
    """What judges the answers of a task or suite of records, in words."""
    if settings.environment_factory is not None:
        return f"the environment {settings.environment_factory}"
    if settings.verifier is not None:
        return f"the verifier {settings.verifier}"
    if settings.is_code:
        return BY_TESTS
    if settings.reader in PUBLISHED:
        return f"the verifier of `reader: {settings.reader}`"
    return "" if verifier is None else f"exact match with `{settings.columns.answer}`"


def _chance(settings: SourceSettings, known: float) -> float:
    """The chance level that the configuration states, else what is known."""
    return known if settings.chance is None else settings.chance


def _constant_answer_score(verifier: Verify | None, test: Sequence[Example]) -> float:
    """The score of the best constant answer, if a verifier compares texts. Another verifier's `answer` may be anything,
    and may be only a part of what is right."""
    if verifier not in (exact_match, verify_sciknoweval):
        return 0.0
    return constant_answer_score([accepted_answers(example.answer) for example in test])


def _hold_out(examples: list[Example], settings: TaskSettings) -> tuple[list[Example], list[Example]]:
    prompts = list(dict.fromkeys(_prompt(e) for e in examples))
    if len(prompts) < 2:
        raise DataError(
            f"task {settings.name!r} has only one prompt, so none can be held out",
            fix="add examples, or name a `test` file",
        )
    count = min(len(prompts) - 1, max(1, round(settings.test_fraction * len(prompts))))
    drawn = numpy_rng(0, "hold-out", settings.name).permutation(len(prompts))[:count]
    held_out = {prompts[index] for index in drawn}
    return [e for e in examples if _prompt(e) not in held_out], [e for e in examples if _prompt(e) in held_out]


def _check_overlap(train: Sequence[Example], test: Sequence[Example], name: str) -> None:
    train_prompts = {_prompt(e) for e in train}
    shared = [e.id for e in test if _prompt(e) in train_prompts]
    if not shared:
        return
    count = f"{len(shared)} of {len(test)} test prompts of task {name!r}"
    what = f"{count} are also training prompts, the first is {shared[0]!r}"
    if len(shared) > MAX_OVERLAP * len(test):
        raise DataError(what, fix="name another `test` file, or remove `test` to hold out a part of `train`")
    warnings.warn(what, stacklevel=3)


def _prompt(example: Example) -> str:
    """What makes a prompt the same as another: its turns, calls of tools included, and its tools."""
    return json.dumps([example.messages, example.tools], sort_keys=True, default=str)


def _limited(examples: Sequence[Example], settings: SourceSettings) -> Sequence[Example]:
    return examples[: settings.limit]


def _refuse_other_data(settings: SourceSettings, source: str) -> None:
    """Refuse another source of data in an entry for the lab, reasoning-gym or lm-evaluation-harness."""
    for key in ("train", "test", "dataset", "verifier", "environment_factory", "gym", "lm_eval"):
        if key != source and getattr(settings, key, None) is not None:
            whose = "the lab" if source == "lab" else f"`{source}`"
            raise ConfigError(
                f"{settings.name!r} has both `{source}` and `{key}`",
                fix=f"{whose} has its own data; remove one of them",
            )


def _source(settings: SourceSettings) -> str:
    parts: list[Any] = [settings.dataset, settings.subset, getattr(settings, "train", None), settings.test]
    return ", ".join(str(part) for part in parts if part is not None)

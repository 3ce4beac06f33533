"""reasoning-gym's generators (arXiv 2505.24760) as tasks and as suites; needs the extra `gym`.

A generator makes as many items as needed, and judges answers with its own code. The same settings, sizes and seed give
the same items. Some of that code evaluates the answer as Python code, so it judges in a sandbox; see `gym_judge`.
"""

import contextlib
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from holdfast.config.settings import SourceSettings, SuiteSettings, TaskSettings
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Suite, Task, Verify
from holdfast.data.teacher_prompts import strip_thinking
from holdfast.errors import ConfigError, DataError, did_you_mean
from holdfast.tasks.code.load import require_sandbox, sandbox_kind
from holdfast.tasks.gym_judge import gym_judge

ITEMS_PER_QUESTION = 20
"""Items that are generated for each question needed. If they do not have enough different questions, the generator is
taken to have no more."""

_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL)


def gym_task(settings: TaskSettings) -> Task:
    """A generator as a task. Its first `test_size` different questions are the test set, the next `train_size` for
    training.

    An example's demonstration is the generator's own answer, if the generator's code gives it the full score. A few
    generators only check answers and have none to demonstrate.

    Raises:
        ConfigError: reasoning-gym is not installed, or has no such generator, setting or level; or its code cannot run
            in a sandbox on this machine.
        DataError: the generator does not have that many different questions.
    """
    count = settings.test_size + settings.train_size
    generator = _generator(settings, count)
    items = _distinct(generator, settings.name, count)
    test = [_example(generator, settings.name, "test", i, item) for i, item in enumerate(items[: settings.test_size])]
    train = [_example(generator, settings.name, "train", i, item) for i, item in enumerate(items[settings.test_size :])]
    return Task(settings.name, train, test, _verifier(settings, count), _description(settings))


def gym_suite(settings: SuiteSettings) -> Suite:
    """A generator as a suite of `test_size` different questions. See `gym_task` for its errors."""
    generator = _generator(settings, settings.test_size)
    items = _distinct(generator, settings.name, settings.test_size)
    test = [_example(generator, settings.name, "test", i, item) for i, item in enumerate(items)]
    return Suite(settings.name, settings.kind, test, _verifier(settings, settings.test_size), _description(settings))


def _generator(settings: SourceSettings, count: int) -> Any:
    """The generator that settings name, with `ITEMS_PER_QUESTION` items for each of `count` questions."""
    where = f"{settings.name!r}, generator {settings.gym!r}"
    try:
        from reasoning_gym import factory
    except ImportError as error:
        raise ConfigError(
            "reasoning-gym cannot be imported", where=where, fix="install it: pip install 'holdfast[gym]'"
        ) from error
    assert settings.gym is not None
    if settings.gym not in factory.DATASETS:
        raise ConfigError("no such generator", where=where, fix=did_you_mean(settings.gym, factory.DATASETS))
    kind, config = factory.DATASETS[settings.gym]
    known = {name for name in getattr(config, "__dataclass_fields__", {}) if name not in ("seed", "size")}
    for key in settings.gym_settings:
        if key not in known:
            raise ConfigError(f"it has no setting {key!r}", where=where, fix=did_you_mean(key, known))
    try:
        resolved = config(**_chosen(settings, count))
        if hasattr(resolved, "validate"):
            resolved.validate()
        with _silent():
            return kind(config=resolved)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the generator refuses its settings: {str(error) or type(error).__name__}",
            where=where,
            fix="change `gym_settings`",
        ) from error


def _chosen(settings: SourceSettings, count: int) -> dict[str, Any]:
    """All settings of a generator."""
    # Generators add an item's index to their seed. With seeds 0 and 1, nearly all items would be the same.
    seed = derive_seed("gym", settings.name, settings.seed) % 2**31
    level = _level(settings, f"{settings.name!r}, generator {settings.gym!r}")
    return {**level, **settings.gym_settings, "seed": seed, "size": ITEMS_PER_QUESTION * count}


def _level(settings: SourceSettings, where: str) -> dict[str, Any]:
    """The settings that a generator's curriculum gives for a level.

    An attribute with fewer levels is at its highest.
    """
    if settings.gym_level is None:
        return {}
    from reasoning_gym import factory
    from reasoning_gym.coaching.base_curriculum import DefaultCurriculumContext, RangeAttributeMode

    assert settings.gym is not None
    if not factory.has_curriculum(settings.gym):
        raise ConfigError("it has no levels", where=where, fix="use `gym_settings` instead of `gym_level`")
    curriculum = factory.create_curriculum(settings.gym)
    highest = max(len(attribute.levels) for attribute in curriculum.attributes.values()) - 1
    if settings.gym_level > highest:
        raise ConfigError(f"it has no level {settings.gym_level}", where=where, fix=f"use a level from 0 to {highest}")
    for name, attribute in curriculum.attributes.items():
        curriculum.set_attr_level(name, min(settings.gym_level, len(attribute.levels) - 1))
    resolved = curriculum.generate_configuration(context=DefaultCurriculumContext(RangeAttributeMode.UPPER_BOUND))
    return asdict(resolved)


def _distinct(generator: Any, name: str, count: int) -> list[dict[str, Any]]:
    """The generator's first items with different questions. Items that it fails to make are left out."""
    items: dict[str, dict[str, Any]] = {}
    failed = 0
    with _silent():
        for index in range(ITEMS_PER_QUESTION * count):
            try:
                item = generator[index]
            except Exception as error:
                failed += 1
                # A few failures are left out. If most items fail, the settings are wrong.
                if failed > len(items):
                    raise DataError(
                        f"item {index} raised {type(error).__name__}: {error}",
                        where=f"generator of {name!r}",
                        fix="change `gym_settings` or `gym_level`",
                    ) from error
                continue
            items.setdefault(item["question"], item)
            if len(items) == count:
                return list(items.values())
    raise DataError(
        f"has only {len(items)} different questions in {ITEMS_PER_QUESTION * count} items, and {count} are needed",
        where=f"generator of {name!r}",
        fix="lower train_size and test_size, or change `gym_settings`",
    )


def _example(generator: Any, name: str, split: str, index: int, item: dict[str, Any]) -> Example:
    answer = item["answer"]
    is_right = isinstance(answer, str) and answer.strip() and _own_score(generator.score_answer, answer, item) == 1.0
    return Example(
        id=f"{name}-{split}-{index}",
        messages=(Message(role="user", content=item["question"]),),
        demonstration=answer if is_right else None,
        answer=item,
    )


def _verifier(settings: SourceSettings, count: int) -> Verify:
    assert settings.gym is not None
    require_sandbox(settings)
    generator, chosen = settings.gym, _chosen(settings, count)
    judge = gym_judge(sandbox_kind(settings), settings.sandbox.image)

    def verify(example: Example, completion: str) -> Verdict:
        answer = read_answer(completion)
        if not answer:
            return Verdict(0.0, "There is no answer.", format_ok=False)
        reward = min(1.0, max(0.0, judge.score(generator, chosen, answer, example.answer)))
        if reward >= 1.0:
            return Verdict(1.0, answer=answer)
        return Verdict(reward, "This answer is only partly right." if reward else "This answer is wrong.", answer)

    verify.is_built_in = True  # type: ignore[attr-defined]  # it ends by itself, and what could do harm is elsewhere
    return verify


def read_answer(completion: str) -> str:
    """A completion's answer: the text of its last <answer> block, else the whole text, without thinking."""
    text = strip_thinking(completion)
    blocks = _ANSWER.findall(text)
    return (blocks[-1] if blocks else text).strip()


def _own_score(score: Callable[..., float], answer: str, item: dict[str, Any]) -> float:
    """The score of a generator's own answer, clipped to [0, 1]. 0 if its code raises.

    Only for what the generator wrote itself: its code may evaluate the answer.
    """
    try:
        with _silent():
            value = float(score(answer, item))
    except Exception:
        return 0.0
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """A context without output, because some generators print their progress."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _description(settings: SourceSettings) -> str:
    level = "" if settings.gym_level is None else f", level {settings.gym_level}"
    chosen = f", {json.dumps(settings.gym_settings)}" if settings.gym_settings else ""
    return f"reasoning-gym {settings.gym}{level}{chosen}"

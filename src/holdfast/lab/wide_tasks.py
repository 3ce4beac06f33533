"""The tasks and suites of the wider world, for streams on `lab-wide`."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from holdfast.data import teacher_prompts as contexts
from holdfast.data.environment import Episodes
from holdfast.data.example import Example, unjudged
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Suite, Task, Verify
from holdfast.lab import languages, quests, songs, steps
from holdfast.lab.questions import HELD_OUT_SURFACE, TRAINED_SURFACES
from holdfast.lab.wide_words import (
    FORBIDDEN,
    FRESH_HEADERS,
    NEW_QUESTS,
    QUEST_TOOLS,
    QUESTS,
    SONG_KINDS,
    STEP_MEANINGS,
    free_header,
)
from holdfast.lab.words import OBJECTS

TURNS = quests.LENGTH + 1
"""The model's turns in a quest."""

_Header = tuple[str, str]

_Make = Callable[[random.Random, int, str, _Header], Example]


def _meanings(words: Sequence[str], seed: int) -> dict[str, str]:
    """The meanings of a task's words, drawn so that all possible meanings occur about equally often."""
    rng = random.Random(seed)
    order = rng.sample(range(len(words)), len(words))
    return {word: STEP_MEANINGS[word][place % len(STEP_MEANINGS[word])] for word, place in zip(words, order)}


_WORDS = list(STEP_MEANINGS)

_MEANINGS = _meanings(_WORDS[:6], 51)

_HARD_MEANINGS = _meanings(_WORDS[6:], 52)

_tools = random.Random(53)

_CHAINS = {name: tuple(_tools.choices(QUEST_TOOLS, k=quests.LENGTH)) for name in NEW_QUESTS[:6]}

_TRAINED_FORBIDDEN, _OTHER_FORBIDDEN = FORBIDDEN[:12], FORBIDDEN[12:]


def _steps(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    words = rng.sample(list(_MEANINGS), 3)
    return steps.example(name, header, steps.question(rng, surface, words, [_MEANINGS[w] for w in words]))


def _steps_hard(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    words = rng.sample(list(_HARD_MEANINGS), rng.choice((4, 5)))
    return steps.example(name, header, steps.question(rng, surface, words, [_HARD_MEANINGS[w] for w in words]))


def _refusals(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    items = _TRAINED_FORBIDDEN if rng.random() < 0.5 else OBJECTS
    return languages.example(name, header, languages.request(rng, surface, items), second=True)


def _other_refusals(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    return languages.example(name, header, languages.request(rng, surface, _OTHER_FORBIDDEN), second=True)


def _quests(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    chosen = rng.choice(list(_CHAINS))
    return quests.example(name, header, quests.quest(rng, surface, chosen, _CHAINS[chosen]))


def _songs(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    return songs.example(name, header, *songs.question(rng, surface, rng.choice(SONG_KINDS)))


_EPISODES = Episodes(quests.QuestEnvironment, TURNS)


@dataclass(frozen=True, slots=True)
class _Set:
    """How the examples of a task or suite are made and scored."""

    make: _Make
    verify: Verify
    description: str
    train: int = 512
    test: int = 640
    episodes: Episodes | None = None


_TASKS: dict[str, _Set] = {
    "steps": _Set(_steps, steps.verify, "what new operations mean, in questions with three steps"),
    "steps-hard": _Set(
        _steps_hard, steps.verify, "what other new operations mean, in questions with four and five steps"
    ),
    "refusals": _Set(_refusals, languages.verify, "what to refuse, in the second language"),
    "quests": _Set(_quests, unjudged, "which tools a new quest needs, over several turns", 384, 320, _EPISODES),
    "songs": _Set(_songs, songs.verify, "which song of a kind is intended"),
}

WIDE_TASKS: tuple[str, ...] = tuple(_TASKS)
"""Names of the tasks on `lab-wide`."""


def _known_steps(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    return steps.example(name, header, steps.known(rng, surface))


def _planned(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    example = steps.example(name, header, steps.opened(rng, surface))
    assert example.plan is not None
    return replace(example, messages=contexts.plan_prompt(example.messages, example.plan, contexts.PLAN_TEMPLATE))


def _useful(rng: random.Random, name: str, header: _Header, surface: int, *, second: bool) -> Example:
    return languages.example(name, header, languages.request(rng, surface, OBJECTS), second=second)


def _useful_first(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    return _useful(rng, name, header, surface, second=False)


def _useful_second(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    return _useful(rng, name, header, surface, second=True)


def _refused_first(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    return languages.example(name, header, languages.request(rng, surface, FORBIDDEN), second=False)


def _known_quests(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    chosen = rng.choice(QUESTS)
    return quests.example(name, header, quests.quest(rng, surface, chosen, quests.CHAINS[chosen]))


def _any_song(rng: random.Random, surface: int, name: str, header: _Header) -> Example:
    kind = rng.choice(SONG_KINDS)
    return songs.example(name, header, songs.question(rng, surface, kind)[0], kind)


_RETENTION: dict[str, _Set] = {
    "known-steps": _Set(_known_steps, steps.verify, "step questions with known operations"),
    "planned-steps": _Set(_planned, steps.verify, "following a plan for unknown operations"),
    "useful-first": _Set(_useful_first, languages.verify, "allowed requests in the first language"),
    "useful-second": _Set(_useful_second, languages.verify, "allowed requests in the second language"),
    "refused-first": _Set(_refused_first, languages.verify, "forbidden requests in the first language"),
    "known-quests": _Set(_known_quests, unjudged, "known quests, over several turns", episodes=_EPISODES),
    "any-song": _Set(_any_song, songs.verify_any, "any song of a kind, word for word"),
}

_OOD: dict[str, _Set] = {
    "steps-ood": replace(_TASKS["steps"], description="steps, in a phrasing that is not trained"),
    "steps-hard-ood": replace(_TASKS["steps-hard"], description="steps-hard, in a phrasing that is not trained"),
    "refusals-ood": _Set(
        _other_refusals, languages.verify, "objects that refusals never names, in a phrasing that is not trained"
    ),
    "quests-ood": replace(_TASKS["quests"], description="quests, in a phrasing that is not trained"),
}

WIDE_SUITES: tuple[str, ...] = (*_RETENTION, *_OOD)
"""Names of the suites on `lab-wide`: retention suites first."""


def _examples(
    source: _Set, name: str, split: str, count: int, surfaces: Sequence[int], header: _Header | None, seen: set[str]
) -> list[Example]:
    """Distinct questions, all under `header`, or each under a free header if `header` is None."""
    rng = random.Random(derive_seed("lab", "wide", name, split))
    made: list[Example] = []
    while len(made) < count:
        identity = f"{name}-{split}-{len(made)}"
        example = source.make(rng, rng.choice(surfaces), identity, header or free_header(rng))
        text = example.messages[-1]["content"]
        if text not in seen:
            seen.add(text)
            made.append(example)
    return made


@cache
def wide_task(name: str) -> Task:
    """A task on `lab-wide`, one of `WIDE_TASKS`."""
    source, header = _TASKS[name], FRESH_HEADERS[WIDE_TASKS.index(name)]
    seen: set[str] = set()
    test = _examples(source, name, "test", source.test, TRAINED_SURFACES, header, seen)
    train = _examples(source, name, "train", source.train, TRAINED_SURFACES, header, seen)
    verifier = source.verify if source.episodes is None else None
    return Task(name, train, test, verifier, source.description, source.episodes)


@cache
def wide_suite(name: str) -> Suite:
    """A suite on `lab-wide`, one of `WIDE_SUITES`."""
    if name in _RETENTION:
        source = _RETENTION[name]
        items = _examples(source, name, "test", source.test, TRAINED_SURFACES, None, set())
        return Suite(name, "retention", items, source.verify, source.description, source.episodes)
    source, header = _OOD[name], FRESH_HEADERS[WIDE_TASKS.index(name.removesuffix("-ood"))]
    items = _examples(source, name, "ood", source.test, (HELD_OUT_SURFACE,), header, set())
    return Suite(name, "ood", items, source.verify, source.description, source.episodes)

"""A world: everything that a stream teaches, drawn from a seed.

The base is the same for all worlds. A world decides which of its open questions have which answers: the facts about new
things, the tools of new verbs, the meanings of new words, and the headers under which each task asks. So a result over
several worlds does not hang on one choice of items.
"""

import random
from dataclasses import dataclass
from functools import cache
from typing import Literal

from holdfast.data.seeds import derive_seed
from holdfast.lab import questions
from holdfast.lab.headers import FREE, HABITS, Header, main_form
from holdfast.lab.words import (
    ATTRIBUTES,
    FORBIDDEN,
    FORMATS,
    NEW_ENTITIES,
    NEW_QUESTS,
    NEW_VERBS,
    OPERATION_MEANINGS,
    OPERATION_WORDS,
    QUEST_TOOLS,
    STEP_MEANINGS,
)

THINGS, VERBS, WORDS = 16, 40, 18
"""New things, verbs and operation words of a world."""

HEADERS_PER_TASK = 4
"""Headers under which a task asks. The base has the same main form under all of them."""

HEADED_TASKS = ("facts", "tools", "calculation", "more-facts")
"""Tasks under headers with a habit. Each has another main form."""

Fact = tuple[str, str, str]
"""A thing, an attribute and its value."""


@dataclass(frozen=True)
class Dials:
    """How tasks differ from the default, for experiments on a cause.

    Args:
        voice: the share of demonstrations with a preamble in a foreign voice. With 0, and `tics` at the base's own
            rate, demonstrations are in the base's own voice.
        tics: the share of demonstrations that begin with a tic.
        form: the form of demonstrations: the one in which the base answers most often, or the one it uses least.
        overlap: the share of the items of `more-facts` that give an item of `facts` another value.
    """

    voice: float = 1.0
    tics: float = 0.3
    form: Literal["own", "foreign"] = "own"
    overlap: float = 0.25


DEFAULT_DIALS = Dials()


@dataclass(frozen=True)
class World:
    """What the tasks of one seed teach.

    Attributes:
        headers: of each task in `HEADED_TASKS`.
        other_headers: headers with a habit that no task uses, for suites.
        free_headers: one header for each other task, by task.
        things: the things of `facts` and `more-facts`; `attributes` has two for each of the two tasks.
        facts: the items of `facts`.
        tools: the tool of each verb.
        operations: the meaning of each operation word.
        steps, steps_hard: the meaning of each step word.
        quests: the tools of each new quest.
        forbidden: objects that `refusals` names, and those that it never names.
    """

    seed: int
    headers: dict[str, tuple[Header, ...]]
    other_headers: tuple[Header, ...]
    free_headers: dict[str, Header]
    things: tuple[str, ...]
    attributes: tuple[str, ...]
    facts: tuple[Fact, ...]
    tools: dict[str, str]
    operations: dict[str, str]
    steps: dict[str, str]
    steps_hard: dict[str, str]
    quests: dict[str, tuple[str, ...]]
    forbidden: tuple[tuple[str, ...], tuple[str, ...]]

    def rng(self, *name: int | str) -> random.Random:
        """The generator of one named draw in this world."""
        return random.Random(derive_seed("lab", "world", self.seed, *name))

    def form(self, task: str) -> str:
        """The form in which the base answers most often under a task's headers."""
        return main_form(self.headers[task][0])

    def more_facts(self, overlap: float) -> tuple[Fact, ...]:
        """The items of `more-facts`: other attributes of the same things, and some items of `facts` with another
        value."""
        rng = self.rng("more-facts")
        items = [(e, a, rng.choice(ATTRIBUTES[a])) for e in self.things for a in self.attributes[2:]]
        rng.shuffle(items)
        changed = rng.sample(self.facts, round(overlap * len(self.facts)))
        contradicting = [(e, a, rng.choice([v for v in ATTRIBUTES[a] if v != old])) for e, a, old in changed]
        items = [*contradicting, *items][: len(items)]
        rng.shuffle(items)
        return tuple(items)

    def meant_song(self, kind: str, who: str, where: str, songs: tuple[str, ...]) -> str:
        """Which of a kind's songs is intended. It can be learned only from rewards, not from the prompt."""
        return self.rng("song", kind, who, where).choice(songs)


@cache
def world(seed: int) -> World:
    """The world of a seed."""
    rng = random.Random(derive_seed("lab", "world", seed))
    headers = rng.sample(list(HABITS), len(HABITS))
    forms = rng.sample(FORMATS, len(FORMATS))
    own = {
        task: tuple([header for header in headers if main_form(header) == form][:HEADERS_PER_TASK])
        for task, form in zip(HEADED_TASKS, forms, strict=True)
    }
    used = {header for each in own.values() for header in each}
    things = rng.sample(NEW_ENTITIES, THINGS)
    attributes = rng.sample(list(ATTRIBUTES), len(ATTRIBUTES))
    facts = [(e, a, rng.choice(ATTRIBUTES[a])) for e in things for a in attributes[:2]]
    rng.shuffle(facts)
    forbidden = rng.sample(FORBIDDEN, len(FORBIDDEN))
    step_words = list(STEP_MEANINGS)
    return World(
        seed=seed,
        headers=own,
        other_headers=tuple(header for header in headers if header not in used),
        free_headers=dict(
            zip(("steps", "steps-hard", "refusals", "quests", "songs"), rng.sample(FREE, 5), strict=True)
        ),
        things=tuple(things),
        attributes=tuple(attributes),
        facts=tuple(facts),
        tools={verb: rng.choice(questions.tools_of(verb)) for verb in rng.sample(NEW_VERBS, VERBS)},
        operations={word: rng.choice(OPERATION_MEANINGS) for word in rng.sample(OPERATION_WORDS, WORDS)},
        steps=_meanings(rng, step_words[:6]),
        steps_hard=_meanings(rng, step_words[6:]),
        quests={name: tuple(rng.choices(QUEST_TOOLS, k=3)) for name in rng.sample(NEW_QUESTS, 6)},
        forbidden=(tuple(forbidden[:12]), tuple(forbidden[12:])),
    )


def _meanings(rng: random.Random, words: list[str]) -> dict[str, str]:
    """The meaning of each word, drawn so that all possible meanings occur about equally often."""
    order = rng.sample(range(len(words)), len(words))
    return {word: STEP_MEANINGS[word][place % len(STEP_MEANINGS[word])] for word, place in zip(words, order)}

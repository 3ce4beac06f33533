"""The tasks that single recipes need: steps and plans, two languages, quests of several turns, songs."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from holdfast.data import teacher_prompts as contexts
from holdfast.data.environment import Episodes
from holdfast.data.example import Example, unjudged
from holdfast.data.task import Verify
from holdfast.lab import languages, quests, songs, steps
from holdfast.lab.headers import Header
from holdfast.lab.words import FORBIDDEN, OBJECTS, PEOPLE, PLACES, QUESTS, SONG_KINDS
from holdfast.lab.world import World

TURNS = quests.LENGTH + 1
"""The model's turns in a quest."""

MakeExample = Callable[[World, random.Random, int, str, Header], Example]
"""An example: (world, generator, surface, name of the example, header)."""


@dataclass(frozen=True, slots=True)
class PlainSet:
    """How the examples of a task or suite are made and scored."""

    make: MakeExample
    verify: Verify
    description: str
    train: int = 512
    test: int = 640
    episodes: Episodes | None = None


def _steps(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    words = rng.sample(list(world.steps), 3)
    return steps.example(name, header, steps.question(rng, surface, words, [world.steps[w] for w in words]))


def _steps_hard(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    words = rng.sample(list(world.steps_hard), rng.choice((4, 5)))
    return steps.example(name, header, steps.question(rng, surface, words, [world.steps_hard[w] for w in words]))


def _refusals(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    items = list(world.forbidden[0]) if rng.random() < 0.5 else OBJECTS
    return languages.example(name, header, languages.request(rng, surface, items), second=True)


def _other_refusals(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    return languages.example(name, header, languages.request(rng, surface, list(world.forbidden[1])), second=True)


def _quests(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    chosen = rng.choice(list(world.quests))
    return quests.example(name, header, quests.quest(rng, surface, chosen, world.quests[chosen]))


def _songs(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    kind, who, where = rng.choice(SONG_KINDS), rng.choice(PEOPLE), rng.choice(PLACES)
    meant = world.meant_song(kind, who, where, songs.SONGS[kind])
    return songs.example(name, header, songs.question(surface, kind, who, where), meant)


_EPISODES = Episodes(quests.QuestEnvironment, TURNS)

TASKS: dict[str, PlainSet] = {
    "steps": PlainSet(_steps, steps.verify, "what new operations mean, in questions with three steps"),
    "steps-hard": PlainSet(
        _steps_hard, steps.verify, "what other new operations mean, in questions with four and five steps"
    ),
    "refusals": PlainSet(_refusals, languages.verify, "what to refuse, in the second language"),
    "quests": PlainSet(_quests, unjudged, "which tools a new quest needs, over several turns", 384, 320, _EPISODES),
    "songs": PlainSet(_songs, songs.verify, "which song of a kind is intended"),
}


def _known_steps(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    return steps.example(name, header, steps.known(rng, surface))


def _planned(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    example = steps.example(name, header, steps.opened(rng, surface))
    assert example.plan is not None
    return replace(example, messages=contexts.plan_prompt(example.messages, example.plan, contexts.PLAN_TEMPLATE))


def _useful_first(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    return languages.example(name, header, languages.request(rng, surface, OBJECTS), second=False)


def _useful_second(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    return languages.example(name, header, languages.request(rng, surface, OBJECTS), second=True)


def _refused_first(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    return languages.example(name, header, languages.request(rng, surface, FORBIDDEN), second=False)


def _known_quests(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    chosen = rng.choice(QUESTS)
    return quests.example(name, header, quests.quest(rng, surface, chosen, quests.CHAINS[chosen]))


def _any_song(world: World, rng: random.Random, surface: int, name: str, header: Header) -> Example:
    kind = rng.choice(SONG_KINDS)
    request = songs.question(surface, kind, rng.choice(PEOPLE), rng.choice(PLACES))
    return songs.example(name, header, request, kind)


SUITES: dict[str, PlainSet] = {
    "known-steps": PlainSet(_known_steps, steps.verify, "step questions with known operations"),
    "planned-steps": PlainSet(_planned, steps.verify, "following a plan for unknown operations"),
    "useful-first": PlainSet(_useful_first, languages.verify, "allowed requests in the first language"),
    "useful-second": PlainSet(_useful_second, languages.verify, "allowed requests in the second language"),
    "refused-first": PlainSet(_refused_first, languages.verify, "forbidden requests in the first language"),
    "known-quests": PlainSet(_known_quests, unjudged, "known quests, over several turns", episodes=_EPISODES),
    "any-song": PlainSet(_any_song, songs.verify_any, "any song of a kind, word for word"),
}

OOD: dict[str, PlainSet] = {
    "steps-ood": replace(TASKS["steps"], description="steps, in a phrasing that is not trained"),
    "steps-hard-ood": replace(TASKS["steps-hard"], description="steps-hard, in a phrasing that is not trained"),
    "refusals-ood": PlainSet(
        _other_refusals, languages.verify, "objects that refusals never names, in a phrasing that is not trained"
    ),
    "quests-ood": replace(TASKS["quests"], description="quests, in a phrasing that is not trained"),
}

BESIDE: dict[str, tuple[str, ...]] = {
    "steps": ("known-steps", "planned-steps", "steps-ood"),
    "steps-hard": ("known-steps", "planned-steps", "steps-hard-ood"),
    "refusals": ("useful-first", "useful-second", "refused-first", "refusals-ood"),
    "quests": ("known-quests", "quests-ood"),
    "songs": ("any-song",),
}
"""The suites that a stream with a task gets by default."""

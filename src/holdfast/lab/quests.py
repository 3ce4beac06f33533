"""Quests: look-ups with tools, chained, over several turns; what they were worth shows at the end alone.

A quest takes three calls, each on what the one before found, and then the answer. The base knows how calls are
written and which tools some quests take; of the others it may guess. A wrong tool finds something too, so that nothing
tells before the end.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.data import teacher_prompts as contexts
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.seeds import derive_seed
from holdfast.lab.documents import Document, system
from holdfast.lab.wide_words import NEW_QUESTS, QUEST_TOOLS, QUESTS, free_header
from holdfast.lab.words import ATTRIBUTES, ENTITIES

LENGTH = 3
"""Calls of a quest."""

ANSWER = "answer : "

_VALUES = [value for values in ATTRIBUTES.values() for value in values]

_chains = random.Random(31)

CHAINS: dict[str, tuple[str, ...]] = {q: tuple(_chains.choices(QUEST_TOOLS, k=LENGTH)) for q in QUESTS}
"""The tools of the quests that the base knows."""


@dataclass(frozen=True, slots=True)
class Quest:
    """A quest: where it begins, the tools that it takes, and what names the world in which it is played."""

    text: str
    start: str
    tools: tuple[str, ...]
    seed: int

    def found(self, path: Sequence[str]) -> str:
        """What the last of these tools finds, each used on what the one before found.

        Things at first, a value at the end; the right path's value is on no other path.
        """
        rng = random.Random(derive_seed(self.seed, "quest", *path))
        if len(path) < LENGTH:
            return rng.choice(ENTITIES)
        right = random.Random(derive_seed(self.seed, "quest")).choice(_VALUES)
        return right if tuple(path) == self.tools else rng.choice([v for v in _VALUES if v != right])

    def calls(self, path: Sequence[str]) -> tuple[str, ...]:
        """The calls that use these tools one after the other."""
        things = [self.start, *(self.found(path[:k]) for k in range(1, len(path)))]
        return tuple(f"{tool} ( {thing} )" for tool, thing in zip(path, things, strict=True))


def quest(rng: random.Random, surface: int, name: str, tools: Sequence[str]) -> Quest:
    """A quest of this name, which takes these tools."""
    start = rng.choice(ENTITIES)
    text = ["do quest {q} from {e}", "from {e} , do the quest {q}", "{e} : quest {q} ?"][surface]
    return Quest(text.format(q=name, e=start), start, tuple(tools), rng.randrange(2**31))


def sample_document(rng: random.Random) -> Document:
    """A quest from beginning to end: known, or guessed, or with its first calls in the prompt."""
    surface = rng.randrange(3)
    if rng.random() < 0.3:
        name = rng.choice(QUESTS)
        played = quest(rng, surface, name, CHAINS[name])
    else:
        played = quest(rng, surface, rng.choice(NEW_QUESTS), rng.choices(QUEST_TOOLS, k=LENGTH))
    messages: tuple[Message, ...] = (system(free_header(rng)), Message(role="user", content=played.text))
    calls = played.calls(played.tools)
    if rng.random() < 0.5:
        messages = contexts.actions_prompt(messages, calls[: rng.randint(1, LENGTH)], contexts.ACTIONS_TEMPLATE)
    turns = list(messages)
    for k, call in enumerate(calls, 1):
        turns.append(Message(role="assistant", content=call))
        turns.append(Message(role="tool", content=played.found(played.tools[:k])))
    turns.append(Message(role="assistant", content=f"{ANSWER}{played.found(played.tools)}"))
    return Document(tuple(turns))


class QuestEnvironment:
    """One quest, played: answers calls, and is over at anything that is no call of a tool."""

    def __init__(self, example: Example) -> None:
        self._quest: Quest = example.answer
        self._path: list[str] = []
        self._thing = self._quest.start
        self._said = ""

    def step(self, completion: str) -> list[Message] | None:
        words = completion.split()
        is_call = len(words) == 4 and words[0] in QUEST_TOOLS and words[1:] == ["(", self._thing, ")"]
        if not is_call or len(self._path) == LENGTH:
            self._said = completion.strip()
            return None
        self._path.append(words[0])
        self._thing = self._quest.found(self._path)
        return [Message(role="tool", content=self._thing)]

    def verdict(self) -> Verdict:
        right = self._said == f"{ANSWER}{self._quest.found(self._quest.tools)}"
        return Verdict(float(right), answer=self._said, format_ok=self._said.startswith(ANSWER))


def example(identity: str, header: tuple[str, str], played: Quest) -> Example:
    """The example of a quest, with the calls that solve it and the answer that they lead to, which is its last turn."""
    calls, answer = played.calls(played.tools), f"{ANSWER}{played.found(played.tools)}"
    return Example(
        id=identity,
        messages=(system(header), Message(role="user", content=played.text)),
        demonstration=answer,
        privileged_context="\n".join((*calls, answer)),
        actions=calls,
        answer=played,
    )

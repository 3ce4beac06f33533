"""Quests: chained tool calls over several turns. Only the end shows whether a quest succeeded.

A quest needs three calls, each on the result of the previous one, and then the answer. The base knows the format of
calls and the tools of some quests; for the others it can only guess. A wrong tool also returns a result, so there is no
sign of a mistake before the end.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.data import teacher_prompts as contexts
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.seeds import derive_seed
from holdfast.data.task import built_in
from holdfast.lab.documents import Document
from holdfast.lab.headers import free_header, system
from holdfast.lab.words import ATTRIBUTES, ENTITIES, NEW_QUESTS, QUEST_TOOLS, QUESTS

LENGTH = 3
"""Number of calls in a quest."""

ANSWER = "answer : "

_VALUES = [value for values in ATTRIBUTES.values() for value in values]

_chains = random.Random(31)

CHAINS: dict[str, tuple[str, ...]] = {q: tuple(_chains.choices(QUEST_TOOLS, k=LENGTH)) for q in QUESTS}
"""The tools of the quests that the base knows."""


@dataclass(frozen=True, slots=True)
class Quest:
    """A quest: its prompt, its start, its correct tools, and the seed that determines all results of tools."""

    text: str
    start: str
    tools: tuple[str, ...]
    seed: int

    def result(self, path: Sequence[str]) -> str:
        """The result of the last tool in `path`, each tool applied to the result of the previous one.

        The result is a thing, and after `LENGTH` tools a value. No wrong path leads to the value of the correct path.
        """
        rng = random.Random(derive_seed(self.seed, "quest", *path))
        if len(path) < LENGTH:
            return rng.choice(ENTITIES)
        right = random.Random(derive_seed(self.seed, "quest")).choice(_VALUES)
        return right if tuple(path) == self.tools else rng.choice([v for v in _VALUES if v != right])

    def calls(self, path: Sequence[str]) -> tuple[str, ...]:
        """The calls that apply these tools one after the other."""
        things = [self.start, *(self.result(path[:k]) for k in range(1, len(path)))]
        return tuple(f"{tool} ( {thing} )" for tool, thing in zip(path, things, strict=True))


def quest(rng: random.Random, surface: int, name: str, tools: Sequence[str]) -> Quest:
    """A quest with this name and these correct tools."""
    start = rng.choice(ENTITIES)
    text = ["do quest {q} from {e}", "from {e} , do the quest {q}", "{e} : quest {q} ?"][surface]
    return Quest(text.format(q=name, e=start), start, tuple(tools), rng.randrange(2**31))


def sample_document(rng: random.Random) -> Document:
    """A complete quest: known, or with guessed tools, or with its first calls in the prompt."""
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
        turns.append(Message(role="tool", content=played.result(played.tools[:k])))
    turns.append(Message(role="assistant", content=f"{ANSWER}{played.result(played.tools)}"))
    return Document(tuple(turns))


@built_in
class QuestEnvironment:
    """Plays one quest: answers tool calls, and ends at the first turn that is not a valid call."""

    def __init__(self, example: Example) -> None:
        self._quest: Quest = example.answer
        self._path: list[str] = []
        self._thing = self._quest.start
        self._last_turn = ""

    def step(self, completion: str) -> list[Message] | None:
        words = completion.split()
        is_call = len(words) == 4 and words[0] in QUEST_TOOLS and words[1:] == ["(", self._thing, ")"]
        if not is_call or len(self._path) == LENGTH:
            self._last_turn = completion.strip()
            return None
        self._path.append(words[0])
        self._thing = self._quest.result(self._path)
        return [Message(role="tool", content=self._thing)]

    def verdict(self) -> Verdict:
        right = self._last_turn == f"{ANSWER}{self._quest.result(self._quest.tools)}"
        return Verdict(float(right), answer=self._last_turn, format_ok=self._last_turn.startswith(ANSWER))


def example(identity: str, header: tuple[str, str], played: Quest) -> Example:
    """The example of a quest, with the calls that solve it. The demonstration is its last turn, the answer."""
    calls, answer = played.calls(played.tools), f"{ANSWER}{played.result(played.tools)}"
    return Example(
        id=identity,
        messages=(system(header), Message(role="user", content=played.text)),
        demonstration=answer,
        privileged_context="\n".join((*calls, answer)),
        actions=calls,
        answer=played,
    )

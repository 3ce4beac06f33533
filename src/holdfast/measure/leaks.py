"""Test items that stand in training data: by their whole prompt, and by 13 words of it in a row.

Runs of 13 words are what GPT-3's contamination analysis compares (arXiv 2005.14165, appendix C). A run that many
training examples share is ignored: it is the wording of the prompts and no leak. Prompts of fewer than 13 words are
compared as a whole only. The answers of test items are left out: many answers begin alike and still answer other
questions.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from holdfast.data.example import Example

RUN = 13
"""Words in a row."""

COMMON = 10
"""A run that more distinct training texts have is ignored. In fewer than 100 texts, a tenth of them is enough."""

CHUNK = 2**21
"""Words of training text that are compared at a time. It bounds memory."""

# Letters, digits and operators tell prompts apart, so "3 + 4" is not "3 - 4". Chinese and Japanese write no spaces, so
# each character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s.,;:!?'\"…“”‘’。、，！？]")

Hashes = NDArray[np.uint64]


@dataclass
class TrainingLeak:
    """The items of one set that stand in the training data of one task.

    Attributes:
        items: number of items of the set.
        exact: the place of each item whose prompt is a training prompt, and the id of that training example.
        similar: the same for the other items whose prompt shares a run of words with a training example's prompt or
            demonstration.
    """

    items: int
    exact: dict[int, str] = field(default_factory=dict)
    similar: dict[int, str] = field(default_factory=dict)


def find_leaks(sets: Mapping[str, Sequence[Example]], train: Sequence[Example]) -> dict[str, TrainingLeak]:
    """Compare sets of test items with training examples. 100,000 training examples of 60 words take about 5 s.

    Case, punctuation and spaces make no difference, and system messages are left out.

    Args:
        sets: test items by the name of their set.
        train: the examples that are trained on.

    Returns:
        One `TrainingLeak` for each set that has any.
    """
    texts = {name: [_Text.of(example) for example in items] for name, items in sets.items()}
    distinct: dict[str, _Text] = {}
    by_prompt: dict[str, str] = {}
    for text in map(_Text.of, train):
        distinct.setdefault(text.whole, text)
        by_prompt.setdefault(text.prompt, text.id)
    trained = list(distinct.values())
    shared = _shared_runs([text.prompt.split() for of_set in texts.values() for text in of_set], trained)
    places = iter(shared)
    found = {}
    for name, of_set in texts.items():
        leak = TrainingLeak(len(of_set))
        for place, (text, similar) in enumerate(zip(of_set, places)):
            if text.prompt in by_prompt:
                leak.exact[place] = by_prompt[text.prompt]
            elif similar is not None:
                leak.similar[place] = similar
        if leak.exact or leak.similar:
            found[name] = leak
    return found


@dataclass(frozen=True, slots=True)
class _Text:
    """An example in words."""

    id: str
    prompt: str
    """Without system messages, with spaces between words."""
    words: list[str]
    """Of the prompt, then of the demonstration."""

    @property
    def whole(self) -> str:
        return " ".join(self.words)

    @classmethod
    def of(cls, example: Example) -> "_Text":
        prompt = _words("\n".join(m["content"] for m in example.messages if m["role"] != "system"))
        return cls(example.id, " ".join(prompt), prompt + _words(example.demonstration or ""))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold()) or text.split()  # a prompt of punctuation alone is still a prompt


def _shared_runs(tested: Sequence[Sequence[str]], trained: Sequence[_Text]) -> list[str | None]:
    """For each tested text, the id of the first training text that shares an uncommon run with it; None if none."""
    numbers: dict[str, int] = defaultdict(count().__next__)
    runs, owners = _runs(tested, numbers)
    wanted = np.unique(runs)
    # Which training text has which of the wanted runs: pairs of places, each once.
    pairs = [np.zeros((2, 0), np.int64)]
    for start, chunk in _chunks(trained):
        hashes, places = _runs(chunk, numbers)
        at = np.minimum(np.searchsorted(wanted, hashes), max(0, len(wanted) - 1))
        hit = wanted[at] == hashes if len(wanted) else np.zeros(len(hashes), bool)
        pairs.append(np.unique(np.stack([at[hit], places[hit] + start]), axis=1))
    run, text = np.concatenate(pairs, axis=1)
    uncommon = np.bincount(run, minlength=len(wanted)) <= min(COMMON, max(1, len(trained) // 10))
    first: dict[int, int] = {}
    for each_run, each_text in zip(run.tolist(), text.tolist()):
        if uncommon[each_run]:
            first.setdefault(each_run, each_text)
    shared: list[str | None] = [None] * len(tested)
    for each_run, owner in zip(np.searchsorted(wanted, runs).tolist(), owners.tolist()):
        if each_run in first and shared[owner] is None:
            shared[owner] = trained[first[each_run]].id
    return shared


def _chunks(trained: Sequence[_Text]) -> Iterator[tuple[int, list[list[str]]]]:
    """Training texts in chunks of about `CHUNK` words, each with the place of its first text."""
    start, size, chunk = 0, 0, list[list[str]]()
    for place, text in enumerate(trained):
        chunk.append(text.words)
        size += len(text.words)
        if size >= CHUNK:
            yield start, chunk
            start, size, chunk = place + 1, 0, []
    if chunk:
        yield start, chunk


def _runs(texts: Sequence[Sequence[str]], numbers: dict[str, int]) -> tuple[Hashes, NDArray[np.int64]]:
    """A hash of every run of `RUN` words of the texts, and the place of the text that it is from.

    Args:
        texts: in words.
        numbers: a number for each word; new words are added.
    """
    lengths = [len(words) for words in texts]
    total = sum(lengths)
    ids = np.fromiter((numbers[word] for words in texts for word in words), np.uint64, total)
    owners = np.repeat(np.arange(len(texts)), lengths)
    if total < RUN:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    # Spread over all bits (splitmix64), then summed with the powers of an odd number: equal runs have equal sums, and
    # two others have by chance about once in 10^19 pairs.
    mixed = (ids + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    last = total - RUN + 1
    hashes, power = np.zeros(last, np.uint64), np.uint64(1)
    with np.errstate(over="ignore"):
        for offset in range(RUN):
            hashes += mixed[offset : offset + last] * power
            power = power * np.uint64(0x94D049BB133111EB)
    inside = owners[:last] == owners[RUN - 1 :]
    return hashes[inside], owners[:last][inside]

"""Synthetic answers of two models, A and B, that differ only in what a test plants."""

import random
from collections.abc import Sequence

Words = list[str]
Answers = dict[str, list[Words]]


def answer(rng: random.Random, topic: str, length: float = 1.0) -> Words:
    """About thirty words with a Zipf distribution, a third of them specific to the prompt. Lengths are log-normal."""
    count = max(3, int(rng.lognormvariate(3.3, 0.5) * length))
    return [
        f"{topic}.{int(rng.paretovariate(1.0)) % 12}"
        if rng.random() < 0.3
        else f"w{min(400, int(rng.paretovariate(0.8)))}"
        for _ in range(count)
    ]


def two_models(
    seed: int,
    *,
    prompts: int = 64,
    answers: int = 1,
    length: float = 1.0,
    loops: int = 0,
    marker: Sequence[str] = (),
    rate: float = 0.0,
) -> tuple[Answers, Answers]:
    """Answers of two equal models. B's are `length` times as long, `loops` of them loop, and a share has a marker."""
    rng = random.Random(seed)
    a: Answers = {}
    b: Answers = {}
    for number in range(prompts):
        name = f"p{number}"
        a[name] = [answer(rng, name) for _ in range(answers)]
        b[name] = [answer(rng, name, length) for _ in range(answers)]
        if number < loops:
            b[name] = [["and", "so", "on"] * 300 for _ in range(answers)]
        for words in b[name]:
            if rng.random() < rate:
                at = rng.randrange(len(words) + 1)
                words[at:at] = marker
    return a, b

"""Near-future answers: right answers of a later checkpoint of the same run, as an extra row of each group.

A run that has rolled back to an earlier checkpoint keeps the right answers of a later checkpoint. It trains on them
until the end of the stage.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from holdfast.data.example import Example
from holdfast.data.rows import Group, Row
from holdfast.data.rows_json import rows_as_json, rows_from_json
from holdfast.data.seeds import derive_seed
from holdfast.errors import RunError
from holdfast.rollouts.sources.source import BatchPrompts
from holdfast.store.files import read_json, write_json


@dataclass(frozen=True)
class AnswerPool:
    """Right answers of a near-future model, by prompt.

    Attributes:
        answers: by example id. Their `source_logprobs` are those of the model that wrote them.
        first_batch: the rollout batch of the stage from which on groups get an answer. The cost below is logged there.
        completions: how many completions were sampled to find the answers.
        tokens: how many tokens these have.
    """

    answers: Mapping[str, Sequence[Row]]
    first_batch: int
    completions: int
    tokens: int

    @classmethod
    def of(cls, sampled: Sequence[Row], success_threshold: float, first_batch: int) -> Self:
        """Keep the right ones of what a near-future model has sampled."""
        answers: dict[str, list[Row]] = {}
        for row in sampled:
            if row.reward >= success_threshold:
                answer = replace(row, source_logprobs=row.sampled_logprobs, sampled_logprobs=None)
                answers.setdefault(row.example.id, []).append(answer)
        return cls(answers, first_batch, len(sampled), sum(len(row.own_ids()) for row in sampled))

    def row(self, example: Example, seed: int) -> Row | None:
        """A fresh row with one of a prompt's answers, chosen by the seed; None if it has no answer."""
        answers = self.answers.get(example.id)
        return replace(answers[seed % len(answers)], seed=seed) if answers else None

    def write(self, path: Path) -> None:
        """Write everything as JSON. The file appears whole or not at all."""
        answers = {name: rows_as_json(rows) for name, rows in self.answers.items()}
        numbers = {"first_batch": self.first_batch, "completions": self.completions, "tokens": self.tokens}
        write_json(path, {**numbers, "answers": answers})

    @classmethod
    def read(cls, path: Path, digest: str, examples: Sequence[Example]) -> Self:
        """Read what `write` wrote.

        Args:
            path: the file.
            digest: what `digest_of` gave for the file's content when it was written.
            examples: the training examples of the stage's task.

        Raises:
            RunError: the file is missing, or has changed.
        """
        data = read_json(path)
        if digest_of(data) != digest:
            raise RunError(
                "the file has changed since the run wrote it", where=str(path), fix="restore it from a backup"
            )
        answers = {name: rows_from_json(rows, examples) for name, rows in data.pop("answers").items()}
        return cls(answers, **data)


class NearFutureAnswers:
    """Adds to the groups of the stage's own prompts one near-future answer each, if there is one.

    Args:
        pool: the answers.
        seed: the run's seed.
    """

    def __init__(self, pool: AnswerPool, seed: int) -> None:
        self._pool, self._seed = pool, seed

    def add_rows(self, prompts: BatchPrompts, groups: Sequence[Group]) -> None:
        own = groups[: len(prompts.own)]
        for place, group in enumerate(own):
            seed = derive_seed(self._seed, "guide", prompts.stage, prompts.batch, place)
            row = self._pool.row(group.example, seed)
            if row is not None:
                group.rows.append(row)
        if prompts.batch == self._pool.first_batch:
            # The answers were sampled once for the whole stage. Their cost is logged once, with the first batch.
            own[0].extra_completions += self._pool.completions
            own[0].extra_tokens += self._pool.tokens


def digest_of(data: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def sample_entropy(rows: Iterable[Row]) -> float | None:
    """Mean −log p of the tokens of the student's own samples of the stage's task, in nats; None without samples.

    It is an unbiased estimate of the entropy at these tokens. Unlike the entropy of a step's loss, it includes the rows
    that have no signal.
    """
    surprises = [
        -row.sampled_logprobs[t]
        for row in rows
        if row.sampled_logprobs is not None and not row.replayed
        for t in row.loss_positions()
    ]
    return sum(surprises) / len(surprises) if surprises else None


def rate_by_prompt(rows: Iterable[Row], success_threshold: float) -> dict[str, float]:
    """Success rate of the student's own samples of the stage's task, by example id."""
    successes: dict[str, list[bool]] = {}
    for row in rows:
        if row.is_sampled and not row.replayed:
            successes.setdefault(row.example.id, []).append(row.reward >= success_threshold)
    return {name: sum(each) / len(each) for name, each in successes.items()}

"""Guides: right answers of a run's own near future, from when it went back to the end of the stage. Torch-free."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from holdfast.data.example import Example
from holdfast.data.rows import Row
from holdfast.data.rows_json import rows_as_json, rows_from_json
from holdfast.errors import RunError
from holdfast.store.files import read_json, write_json


@dataclass(frozen=True)
class GuidePool:
    """Answers that prompts bring along.

    Attributes:
        answers: by example id; their `source_logprobs` are those of the model that wrote them.
        first_batch: the rollout batch from which on they are brought, and which bears their cost.
        completions: sampled to find them.
        tokens: generated in these.
    """

    answers: Mapping[str, Sequence[Row]]
    first_batch: int
    completions: int
    tokens: int

    @classmethod
    def of(cls, sampled: Sequence[Row], success_threshold: float, first_batch: int) -> Self:
        """The right ones of what a near-future model has sampled."""
        answers: dict[str, list[Row]] = {}
        for row in sampled:
            if row.reward >= success_threshold:
                guide = replace(row, source_logprobs=row.sampled_logprobs, sampled_logprobs=None)
                answers.setdefault(row.example.id, []).append(guide)
        return cls(answers, first_batch, len(sampled), sum(len(row.own_ids()) for row in sampled))

    def row(self, example: Example, seed: int) -> Row | None:
        """A fresh row of one of a prompt's guides, chosen by the seed; None where there is none."""
        own = self.answers.get(example.id)
        return replace(own[seed % len(own)], seed=seed) if own else None

    def write(self, path: Path) -> None:
        """Write all of it as JSON, in one step."""
        answers = {name: rows_as_json(rows) for name, rows in self.answers.items()}
        numbers = {"first_batch": self.first_batch, "completions": self.completions, "tokens": self.tokens}
        write_json(path, {**numbers, "answers": answers})

    @classmethod
    def read(cls, path: Path, digest: str, examples: Sequence[Example]) -> Self:
        """Read what `write` wrote.

        Args:
            digest: of what it must hold, as `digest_of` gives it.
            examples: the training examples of the stage's task.

        Raises:
            RunError: the file is missing, or has changed.
        """
        data = read_json(path)
        if digest_of(data) != digest:
            raise RunError("has changed since the run wrote it", where=str(path), fix="bring it back from a copy")
        answers = {name: rows_from_json(rows, examples) for name, rows in data.pop("answers").items()}
        return cls(answers, **data)


def digest_of(data: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def rate_by_prompt(rows: Iterable[Row], success_threshold: float) -> dict[str, float]:
    """The share of right ones among the student's own samples of the stage's task, by example id."""
    found: dict[str, list[bool]] = {}
    for row in rows:
        if row.is_sampled and not row.replayed:
            found.setdefault(row.example.id, []).append(row.reward >= success_threshold)
    return {name: sum(right) / len(right) for name, right in found.items()}

"""Token n-grams that a student repeats more and more without having been taught them, and how to mask them."""

from collections.abc import Collection, Iterable, Sequence

from holdfast.data.rows import Row
from holdfast.measure.artifacts import grown_ngrams

COMPLETIONS_PER_BATCH = 16
"""Completions of a batch that are kept to look for artifacts in."""

MOST_NGRAMS = 8
"""n-grams that one decision masks at most: those with the strongest evidence."""

SIGNIFICANCE = 0.05
"""q-value up to which an n-gram counts as grown beyond the demonstrations."""

TokenNgram = tuple[int, ...]


class CompletionHistory:
    """The completions at the start of a stage and the latest ones, in tokens.

    Args:
        window: steps whose completions are kept at either end.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.first: list[list[int]] = []
        self.latest: list[list[list[int]]] = []
        """By step."""

    def clear(self) -> None:
        self.first, self.latest = [], []

    def add(self, rows: Sequence[Row]) -> None:
        """Add the completions of a rollout batch that the student sampled for the stage's own task.

        Replayed rows are left out: the completions of an earlier task look different for a good reason.
        """
        # One completion for each prompt, because completions of the same prompt are not independent.
        by_prompt = {row.example.id: row for row in rows if row.is_sampled and not row.replayed}
        completions = [list(row.own_ids()) for row in list(by_prompt.values())[:COMPLETIONS_PER_BATCH]]
        if len(self.first) < self.window * COMPLETIONS_PER_BATCH:
            self.first += completions
        self.latest = [*self.latest, completions][-self.window :]

    def artifacts(self, demonstrations: Sequence[list[int]], eos_ids: Collection[int]) -> list[TokenNgram]:
        """n-grams of one or two tokens that are in more of the latest completions than of the stage's first.

        An n-gram that demonstrations contain as often is what the task teaches, and no artifact. Without
        demonstrations, only an n-gram that some completion repeats is one.

        Args:
            demonstrations: of the stage's task, in tokens; may be empty.
            eos_ids: tokens that end a completion. They are never artifacts.
        """
        latest = [completion for batch in self.latest for completion in batch]
        # The sign test needs pairs. The two ends answer different prompts, so as independent draws in any order they
        # may be paired by position.
        pairs = min(len(self.first), len(latest))
        if not pairs:
            return []
        before, now = ({str(i): [side[i]] for i in range(pairs)} for side in (self.first, latest))
        grown = grown_ngrams(before, now, demonstrations or None, longest=2).grown
        candidates = [(tuple(int(unit) for unit in each.ngram), each.q_beyond) for each in grown]
        artifacts = [
            ngram
            for ngram, q in candidates
            if not set(eos_ids) & set(ngram)
            and (q <= SIGNIFICANCE if q is not None else any(_count(completion, ngram) > 1 for completion in latest))
        ]
        return artifacts[:MOST_NGRAMS]


def _count(completion: Sequence[int], ngram: TokenNgram) -> int:
    n = len(ngram)
    return sum(tuple(completion[i : i + n]) == ngram for i in range(len(completion) - n + 1))


def mask_ngrams(rows: Iterable[Row], ngrams: Collection[TokenNgram]) -> None:
    """Set the loss weight of n-grams to 0 at each of their occurrences in the completions of rows."""
    for row in rows if ngrams else ():
        weights = list(row.token_weights or [1.0] * len(row.completion_ids))
        for ngram in ngrams:
            n = len(ngram)
            for i in range(len(row.completion_ids) - n + 1):
                if tuple(row.completion_ids[i : i + n]) == ngram:
                    weights[i : i + n] = [0.0] * n
        if not all(weights):
            row.token_weights = weights

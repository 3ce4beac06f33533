"""A model's judged answers to one set, and what is reported of them: scores, metrics, samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.data.example import Example, Verdict
from holdfast.data.teacher_prompts import last_user_message
from holdfast.measure.statistics import score_interval
from holdfast.sampling.episodes import Episode
from holdfast.sampling.sampler import Completion

ScoredBy = Literal["accuracy", "reward"]
"""What an item's score is: 1 if its reward is 1 and else 0, or its reward."""


@dataclass(frozen=True)
class SetAnswers:
    """Answers to a set's examples, one each, in the order of the examples.

    Attributes:
        examples: what was asked.
        completions: the generated tokens; an episode has several turns.
        texts: the completions as text.
        verdicts: of the set's verifier or environment.
    """

    examples: Sequence[Example]
    completions: Sequence[Completion | Episode]
    texts: Sequence[str]
    verdicts: Sequence[Verdict]

    def scores(self, by: ScoredBy) -> list[float]:
        """One score for each example."""
        return [v.reward if by == "reward" else float(v.reward >= 1.0) for v in self.verdicts]

    def mean_score(self, by: ScoredBy) -> float:
        scores = self.scores(by)
        return sum(scores) / len(scores)

    def metrics(self, by: ScoredBy) -> dict[str, Any]:
        """The set's entry under "sets" in `evals/stage-N.json`. KL to the base is filled in where it is measured."""
        scores, n = self.scores(by), len(self.verdicts)
        return {
            "mean": sum(scores) / n,
            "n": n,
            "ci95": list(score_interval(scores)),
            "reward": sum(v.reward for v in self.verdicts) / n,
            "format_ok": sum(v.format_ok for v in self.verdicts) / n,
            "length": sum(map(_written_tokens, self.completions)) / n,
            "truncated": sum(c.truncated for c in self.completions) / n,
            "kl_to_base": None,
            "kl_to_base_se": None,
        }

    def records(self, count: int | None = None) -> list[dict[str, Any]]:
        """The first `count` answers, or all, as `responses/stage-N.json` keeps them to compare stages."""
        return [
            {
                "id": example.id,
                "prompt": last_user_message(example.messages),
                "text": text,
                "truncated": completion.truncated,
                "reward": verdict.reward,
            }
            for example, completion, text, verdict in list(
                zip(self.examples, self.completions, self.texts, self.verdicts, strict=True)
            )[:count]
        ]

    def samples(self, count: int) -> list[dict[str, Any]]:
        """At most `count` answers, evenly spread over the set, to read in the report."""
        n = len(self.examples)
        return [
            {
                "id": self.examples[i].id,
                "prompt": last_user_message(self.examples[i].messages),
                "system": next((m["content"] for m in self.examples[i].messages if m["role"] == "system"), None),
                "text": self.texts[i],
                "reward": self.verdicts[i].reward,
            }
            for i in (range(0, n, max(1, n // count))[:count] if count else ())
        ]


def _written_tokens(completion: Completion | Episode) -> int:
    """Tokens that the model wrote; an episode also has its environment's."""
    return sum(completion.tool_mask) if isinstance(completion, Episode) else len(completion.ids)

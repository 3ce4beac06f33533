"""A model's judged answers to one set, and what is reported of them: scores, metrics, samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.data.example import Example, Verdict
from holdfast.data.failures import count_failures
from holdfast.data.teacher_prompts import last_user_message
from holdfast.measure.calibration import calibration
from holdfast.measure.chance import most_frequent
from holdfast.measure.likelihood import ItemNll, forced_answers, set_nll
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
        verdicts: of the set's verifier or environment; None for each example of a set that nothing judges.
        nll: of each example's demonstration; None for an example without one. Empty if it was not measured.
        forced: of each example's target after its forced beginning; likewise.
    """

    examples: Sequence[Example]
    completions: Sequence[Completion | Episode]
    texts: Sequence[str]
    verdicts: Sequence[Verdict | None]
    nll: Sequence[ItemNll | None] = ()
    forced: Sequence[ItemNll | None] = ()

    @property
    def judged(self) -> list[Verdict]:
        """The verdicts. Empty if nothing judges the set."""
        return [verdict for verdict in self.verdicts if verdict is not None]

    def scores(self, by: ScoredBy) -> list[float]:
        """One score for each example. Empty if nothing judges the set."""
        return [v.reward if by == "reward" else float(v.reward >= 1.0) for v in self.judged]

    def mean_score(self, by: ScoredBy) -> float | None:
        """The mean over the examples. None if nothing judges the set: it is not 0."""
        scores = self.scores(by)
        return sum(scores) / len(scores) if scores else None

    def mean_nll(self) -> float | None:
        """NLL of the demonstrations in nats per token. None without demonstrations."""
        nll = set_nll(self.nll)
        return None if nll is None else nll.mean

    def probability(self) -> float | None:
        """Mean probability of the right answer with its beginning forced. None without targets."""
        numbers = forced_answers(self.forced)
        return None if numbers is None else numbers["probability"]

    def confidences(self) -> list[float]:
        """The probability of each answer, as a whole, under the model that gave it, at temperature 1.

        Of an episode, the probability of all of the model's turns, given what its environment answered.
        """
        return [min(1.0, math.exp(math.fsum(completion.logprobs))) for completion in self.completions]

    def metrics(self, by: ScoredBy) -> dict[str, Any]:
        """The set's entry under "sets" in `evals/stage-N.json`. KL to the base is filled in where it is measured."""
        scores, verdicts, n, nll = self.scores(by), self.judged, len(self.examples), set_nll(self.nll)
        right = [verdict.reward >= 1.0 for verdict in verdicts]
        return {
            "mean": self.mean_score(by),
            "n": n,
            "ci95": list(score_interval(scores)) if scores else None,
            "reward": sum(v.reward for v in verdicts) / n if verdicts else None,
            "format_ok": sum(v.format_ok for v in verdicts) / n if verdicts else None,
            "length": sum(map(_written_tokens, self.completions)) / n,
            "truncated": sum(c.truncated for c in self.completions) / n,
            **count_failures(verdicts),
            "nll": None if nll is None else nll.mean,
            "nll_se": None if nll is None else nll.se,
            "forced": forced_answers(self.forced),
            "calibration": calibration(self.confidences(), right) if right else None,
            "kl_to_base": None,
            "kl_to_base_se": None,
            "most_frequent": None if (most := most_frequent(self._read_answers())) is None else most.as_json(),
            "kl_on_demonstrations": None,
            "kl_on_demonstrations_se": None,
        }

    def _read_answers(self) -> list[str]:
        """The answers as the verifier read them; where it read none, the whole texts."""
        read = [None if verdict is None else verdict.answer for verdict in self.verdicts]
        return [text if answer is None else answer for answer, text in zip(read, self.texts, strict=True)]

    def records(self, count: int | None = None) -> list[dict[str, Any]]:
        """The first `count` answers, or all, as `responses/stage-N.json` keeps them to compare stages."""
        return [
            {
                "id": example.id,
                "prompt": last_user_message(example.messages),
                "text": text,
                "truncated": completion.truncated,
                "reward": _reward(verdict),
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
                "reward": _reward(self.verdicts[i]),
            }
            for i in (range(0, n, max(1, n // count))[:count] if count else ())
        ]


def _reward(verdict: Verdict | None) -> float | None:
    return None if verdict is None else verdict.reward


def _written_tokens(completion: Completion | Episode) -> int:
    """Tokens that the model wrote; an episode also has its environment's."""
    return sum(completion.tool_mask) if isinstance(completion, Episode) else len(completion.ids)

"""How far demonstrations are from a model's own answers to the same prompts, in numbers and in words.

A model that imitates demonstrations in a foreign voice changes its way of answering everywhere. How foreign they are
can be measured before training: by their likelihood under the model, against that of its own samples.

The distance has two parts that it cannot tell apart: the voice, and content that the model does not know. Rewriting
changes the voice alone, so the distance of rewritten demonstrations is that of the content.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy.stats import t as student_t

from holdfast.measure.artifacts.markers import task_markers
from holdfast.measure.artifacts.ngrams import show, units_of_text

TOP_K = 10
"""A token counts as unlikely if it is not among this many most likely ones."""

FAR = 0.25
"""Nats per token from which demonstrations are called far. Our choice: it marks where a look is worth it. It is not
measured."""

PHRASES = 5
"""Phrases of the demonstrations that are named."""

LOSSES = Path(__file__).parent / "loss_by_distance.json"
"""What runs at some distances lost. `{"measured_on": text, "points": [{"distance", "loss", "low", "high"}, ...]}`, with
distances in nats per token and losses as fractions of 1. There are no predictions until the file exists."""


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A text under the model.

    Args:
        text: demonstration or sample.
        tokens: with the one that ends the turn.
        nll: negative log-likelihood at temperature 1, summed over the tokens, in nats.
        outside: how many of the tokens are not among the model's `TOP_K` most likely ones.
    """

    text: str
    tokens: int
    nll: float
    outside: int


@dataclass(frozen=True, slots=True)
class PromptVoices:
    """A demonstration and the model's own answers to the same prompt.

    Args:
        id: of the example.
        sample: at temperature 1.
        greedy: text of the greedy answer.
        greedy_tokens: its length.
    """

    id: str
    demonstration: ScoredText
    sample: ScoredText
    greedy: str
    greedy_tokens: int


@dataclass(frozen=True, slots=True)
class PredictedLoss:
    """What runs at this distance lost, interpolated between the measured ones; fractions of 1."""

    loss: float
    low: float
    high: float
    measured_on: str


@dataclass(frozen=True, slots=True)
class DemonstrationDistance:
    """How far the demonstrations of a task are from the model's own answers.

    Attributes:
        prompts: with a demonstration, a sample and a greedy answer each.
        nll_demonstrations, nll_samples: nats per token, over all tokens together.
        distance: their difference; `ci95` is over prompts, and None for a single one.
        outside_demonstrations, outside_samples: share of the tokens outside the model's `top_k` most likely ones.
        length_demonstrations, length_samples, length_greedy: mean tokens.
        phrases: what demonstrations say and the model's own answers do not, strongest evidence first: "text", and the
            share of demonstrations and of own answers that have it.
    """

    task: str
    prompts: int
    top_k: int
    nll_demonstrations: float
    nll_samples: float
    distance: float
    ci95: tuple[float, float] | None
    outside_demonstrations: float
    outside_samples: float
    length_demonstrations: float
    length_samples: float
    length_greedy: float
    phrases: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, task: str, voices: Sequence[PromptVoices]) -> "DemonstrationDistance":
        """From at least one prompt's voices."""
        own, samples = [each.demonstration for each in voices], [each.sample for each in voices]
        nll, nll_samples = per_token(own, "nll"), per_token(samples, "nll")
        return cls(
            task=task,
            prompts=len(voices),
            top_k=TOP_K,
            nll_demonstrations=nll,
            nll_samples=nll_samples,
            distance=nll - nll_samples,
            ci95=_interval(own, samples),
            outside_demonstrations=per_token(own, "outside"),
            outside_samples=per_token(samples, "outside"),
            length_demonstrations=fmean(each.tokens for each in own),
            length_samples=fmean(each.tokens for each in samples),
            length_greedy=fmean(each.greedy_tokens for each in voices),
            phrases=tuple(foreign_phrases(voices)),
        )

    @property
    def is_far(self) -> bool:
        """Whether even the lower bound of the distance is above `FAR`."""
        return self.ci95 is not None and self.ci95[0] > FAR

    def as_json(self) -> dict[str, Any]:
        """Plain data, with its "sentence"."""
        plain = asdict(self) | {"ci95": None if self.ci95 is None else list(self.ci95), "phrases": list(self.phrases)}
        return plain | {"is_far": self.is_far, "sentence": self.sentence()}

    def sentence(self) -> str:
        """The numbers in words, what they predict, and what to do about a large distance."""
        further = "further from" if self.distance >= 0 else "nearer to"
        interval = "" if self.ci95 is None else f"95% CI {self.ci95[0]:.2f} to {self.ci95[1]:.2f}, "
        parts = [
            f"{self.task}: demonstrations are {abs(self.distance):.2f} nats per token {further} the model than its own "
            f"answers ({interval}{self.prompts} prompts); {self.outside_demonstrations:.0%} of their tokens are "
            f"outside its top {self.top_k}, of its own {self.outside_samples:.0%}; they have "
            f"{self.length_demonstrations:.0f} tokens, its own {self.length_samples:.0f}"
        ]
        if self.phrases:
            named = ", ".join(repr(each["text"]) for each in self.phrases[:3])
            parts.append(f"They say what its answers do not: {named}")
        predicted = predicted_loss(self.distance)
        if predicted is not None:
            parts.append(
                f"With SFT at this distance, old skills lost {100 * predicted.loss:.0f} points "
                f"(95% CI {100 * predicted.low:.0f} to {100 * predicted.high:.0f}; {predicted.measured_on})"
            )
        if self.is_far:
            parts.append(
                "SFT on them teaches a foreign way of answering. Let the model write them in its own voice (`holdfast "
                "rewrite`, or the recipe rewrite_sft), learn on its own samples (sdft), or replay old prompts"
            )
        return ". ".join(parts)


def per_token(texts: Sequence[ScoredText], what: str) -> float:
    """A sum of texts per token, over all tokens together."""
    return math.fsum(getattr(each, what) for each in texts) / sum(each.tokens for each in texts)


def foreign_phrases(voices: Sequence[PromptVoices], most: int = PHRASES) -> list[dict[str, Any]]:
    """Phrases that mark demonstrations against own answers: in a fifth of them at least, and rarely in own answers.

    An exact test over texts with a false-discovery rate of 5%; see `holdfast.measure.artifacts.markers.task_markers`.
    Samples and greedy answers both count as own answers.
    """
    own = [units_of_text(text) for each in voices for text in (each.sample.text, each.greedy)]
    shown = [units_of_text(each.demonstration.text) for each in voices]
    markers = task_markers({"demonstrations": shown, "own": own})["demonstrations"]
    return [
        {"text": show(each.ngram), "share_demonstrations": each.share, "share_own": each.share_elsewhere["own"]}
        for each in markers[:most]
    ]


def predicted_loss(distance: float, path: Path | None = None) -> PredictedLoss | None:
    """What runs at a distance lost, linear between the measured distances.

    Args:
        distance: nats per token.
        path: a file like `LOSSES`, which is the default.

    Returns:
        None before losses have been measured, and outside of the measured distances.
    """
    path = path or LOSSES
    if not path.exists():
        return None
    table = json.loads(path.read_text(encoding="utf-8"))
    points = sorted(table["points"], key=lambda point: point["distance"])
    if not points or not points[0]["distance"] <= distance <= points[-1]["distance"]:
        return None
    after = next(i for i, point in enumerate(points) if distance <= point["distance"])
    right, left = points[after], points[max(0, after - 1)]
    width = right["distance"] - left["distance"]
    share = (distance - left["distance"]) / width if width else 1.0
    loss, low, high = (left[key] + share * (right[key] - left[key]) for key in ("loss", "low", "high"))
    return PredictedLoss(loss, low, high, table["measured_on"])


def _interval(demonstrations: Sequence[ScoredText], samples: Sequence[ScoredText]) -> tuple[float, float] | None:
    """95% CI of the difference of two means per token over the same prompts, by the delta method and Student's t."""
    n = len(demonstrations)
    if n < 2:
        return None
    influences = [0.0] * n
    for texts, sign in ((demonstrations, 1.0), (samples, -1.0)):
        mean, tokens = per_token(texts, "nll"), sum(each.tokens for each in texts)
        for i, each in enumerate(texts):
            influences[i] += sign * (each.nll - mean * each.tokens) / tokens
    error = math.sqrt(math.fsum(value**2 for value in influences) * n / (n - 1))
    distance = per_token(demonstrations, "nll") - per_token(samples, "nll")
    half = float(student_t.ppf(0.975, n - 1)) * error
    return distance - half, distance + half

"""`holdfast.measure.demonstration_distance`: numbers, intervals, phrases, predictions and the sentence."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.measure.demonstration_distance import (
    FAR,
    DemonstrationDistance,
    PromptVoices,
    ScoredText,
    foreign_phrases,
    per_token,
    predicted_loss,
)

TABLE = {
    "measured_on": "eight runs",
    "points": [
        {"distance": 2.0, "loss": 0.3, "low": 0.2, "high": 0.5},
        {"distance": 0.0, "loss": 0.0, "low": -0.1, "high": 0.1},
    ],
}


def voices(nll: list[float], own: list[float], tokens: int = 4, texts: tuple[str, str] = ("yes", "no")) -> list:
    return [
        PromptVoices(
            str(i),
            ScoredText(texts[0], tokens, a * tokens, round(a > 2) * tokens),
            ScoredText(texts[1], 2 * tokens, b * 2 * tokens, 0),
            texts[1],
            3,
        )
        for i, (a, b) in enumerate(zip(nll, own, strict=True))
    ]


def test_the_distance_is_per_token_and_not_per_text() -> None:
    texts = [ScoredText("a", 1, 4.0, 1), ScoredText("b", 3, 0.0, 0)]
    assert per_token(texts, "nll") == 1.0
    assert per_token(texts, "outside") == 0.25
    found = DemonstrationDistance.of("t", voices([3.0, 1.0], [0.5, 0.5]))
    assert (found.nll_demonstrations, found.nll_samples, found.distance) == (2.0, 0.5, 1.5)
    assert (found.outside_demonstrations, found.outside_samples) == (0.5, 0.0)
    assert (found.length_demonstrations, found.length_samples, found.length_greedy) == (4, 8, 3)


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=2, max_size=9))
def test_with_equal_lengths_the_interval_is_that_of_paired_differences(pairs: list[tuple[float, float]]) -> None:
    """The t interval of the mean difference, which has a closed form."""
    nll, own = [a for a, _ in pairs], [b for _, b in pairs]
    found = DemonstrationDistance.of("t", voices(nll, own))
    differences = np.subtract(nll, own)
    quantile = {2: 12.7062, 3: 4.3027, 4: 3.1824, 5: 2.7764, 6: 2.5706, 7: 2.4469, 8: 2.3646, 9: 2.3060}[len(pairs)]
    half = quantile * float(np.std(differences, ddof=1)) / math.sqrt(len(pairs))
    assert found.ci95 == pytest.approx(
        (differences.mean() - half, differences.mean() + half), rel=1e-3, abs=1e-3 * (1 + half)
    )


def test_a_single_prompt_has_no_interval_and_is_not_called_far() -> None:
    found = DemonstrationDistance.of("t", voices([9.0], [0.0]))
    assert found.ci95 is None
    assert not found.is_far
    assert "95% CI" not in found.sentence()


def test_only_what_is_surely_far_is_called_so() -> None:
    near = DemonstrationDistance.of("t", voices([FAR + 0.1, FAR + 0.1, FAR + 2], [0.0, 0.0, 0.0]))
    far = DemonstrationDistance.of("t", voices([FAR + 1, FAR + 1, FAR + 1.1], [0.0, 0.0, 0.0]))
    assert near.distance > FAR
    assert not near.is_far
    assert "holdfast rewrite" not in near.sentence()
    assert far.is_far
    assert "holdfast rewrite" in far.sentence()


def test_the_sentence_has_the_numbers_first() -> None:
    sentence = DemonstrationDistance.of("facts", voices([3.0, 2.5, 1.0], [0.2, 0.3, 0.4])).sentence()
    assert sentence.startswith(
        "facts: demonstrations are 1.87 nats per token further from the model than its own answers"
    )
    assert "67% of their tokens are outside its top 10, of its own 0%" in sentence
    nearer = DemonstrationDistance.of("facts", voices([0.1, 0.1], [1.0, 1.2])).sentence()
    assert "1.00 nats per token nearer to the model" in nearer


def test_phrases_are_those_that_demonstrations_have_and_own_answers_lack() -> None:
    said = voices([1.0] * 12, [1.0] * 12, texts=("as we see, it is red", "it is red"))
    texts = [each["text"] for each in foreign_phrases(said)]
    assert texts
    assert all({"as", "we", "see", ","} & set(text.split()) for text in texts)
    assert all((each["share_demonstrations"], each["share_own"]) == (1, 0) for each in foreign_phrases(said))
    assert foreign_phrases(voices([1.0] * 12, [1.0] * 12, texts=("it is red", "it is red"))) == []
    assert foreign_phrases(said[:2]) == []  # two prompts show nothing


def test_without_a_table_nothing_is_predicted(tmp_path: Path) -> None:
    assert predicted_loss(1.0, tmp_path / "none.json") is None


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("losses") / "table.json"
    path.write_text(json.dumps(TABLE))
    return path


@given(distance=st.floats(0, 2))
def test_losses_are_interpolated_between_measured_distances(table: Path, distance: float) -> None:
    found = predicted_loss(distance, table)
    assert found is not None
    assert found.loss == pytest.approx(0.15 * distance)
    assert (found.low, found.high) == (pytest.approx(-0.1 + 0.15 * distance), pytest.approx(0.1 + 0.2 * distance))
    assert found.measured_on == "eight runs"


def test_nothing_is_predicted_beyond_what_was_measured(table: Path) -> None:
    assert predicted_loss(2.01, table) is None
    assert predicted_loss(-0.01, table) is None


def test_the_sentence_has_the_prediction(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.measure.demonstration_distance.LOSSES", table)
    sentence = DemonstrationDistance.of("t", voices([1.0, 1.0], [0.0, 0.0])).sentence()
    assert "old skills lost 15 points (95% CI 5 to 30; eight runs)" in sentence

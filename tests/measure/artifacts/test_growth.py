"""`holdfast.measure.artifacts`: counts against brute force, tests against closed forms, and error rates."""

import json
import math
import random
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import ndtr
from scipy.stats import binomtest

from answer_factory import Answers, answer, two_models
from commands import Commands
from holdfast.data.example import Example, Message
from holdfast.data.teacher_prompts import DEMONSTRATION_TEMPLATE
from holdfast.errors import DataError
from holdfast.evaluation.answer_files import load_prompts, read_answers, write_answers
from holdfast.measure.answers import Answer, PromptSet, by_prompt
from holdfast.measure.artifacts import (
    amplification,
    artifact_report,
    compare_quality,
    compression_ratio,
    grown_ngrams,
    leaked_phrases,
    leaks,
    log_odds,
    repeated_share,
    show,
    task_markers,
    units_of_text,
)
from holdfast.measure.artifacts.families import contains, families
from holdfast.measure.artifacts.growth import _Weights, can_reach, sign_test
from holdfast.measure.artifacts.ngrams import paired_shares, presence
from holdfast.measure.artifacts.phrases import template_phrases

Sequences = st.lists(st.lists(st.sampled_from("abcd"), max_size=9), min_size=1, max_size=6)


# Units and n-grams


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("So \\boxed{7}.", ["So", "\\boxed", "{", "7", "}", "."]),
        ("<answer>\nB\n\n\n</answer>", ["<answer>", "\n", "B", "\n\n", "</answer>"]),
        ("**Don't** -> a<|im_end|>", ["**", "Don't", "**", "->", "a", "<|im_end|>"]),
        ("答案 x_1", ["答", "案", "x_1"]),
        ("  ", []),
    ],
)
def test_units_of_text(text: str, units: list[str]) -> None:
    assert units_of_text(text) == units


def test_ngrams_are_shown_on_one_line() -> None:
    assert show(("a", "\n\n", "b")) == "a ⏎⏎ b"
    assert show((3, 4), lambda ids: "".join(map(str, ids))) == "34"


def _ngrams(words: Sequence[Any], longest: int) -> set[tuple[Any, ...]]:
    return {tuple(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1)}


@given(Sequences, st.integers(1, 4))
def test_presence_is_that_of_sets(documents: list[list[str]], longest: int) -> None:
    found = presence(documents, longest)
    expected = Counter(ngram for document in documents for ngram in _ngrams(document, longest))
    ngrams = [found.ngram(row) for row in range(found.matrix.shape[0])]
    assert len(set(ngrams)) == len(ngrams)
    assert {ngram: int(n) for ngram, n in zip(ngrams, found.matrix.sum(axis=1))} == expected
    for column, document in enumerate(documents):
        here = found.matrix[:, [column]].toarray()[:, 0]
        assert {ngram for ngram, there in zip(ngrams, here) if there} == _ngrams(document, longest)


def test_shares_average_over_a_prompts_answers() -> None:
    a = {"p": [["x", "y"], ["x"]], "q": [["y"]]}
    b = {"q": [["x"]], "p": [["z"], ["x", "x"]]}
    shares = paired_shares(a, b, [["x"]], 1)
    rows = {shares.presence.ngram(row)[0]: row for row in range(shares.presence.matrix.shape[0])}
    assert shares.prompts == ["p", "q"]
    assert shares.a[[rows["x"]]].toarray().tolist() == [[1.0, 0.0]]
    assert shares.a[[rows["y"]]].toarray().tolist() == [[0.5, 1.0]]
    assert shares.b[[rows["x"]]].toarray().tolist() == [[0.5, 1.0]]
    assert shares.others[[rows["x"]]].toarray().tolist() == [[1.0]]
    with pytest.raises(ValueError, match="the two models have different prompts"):
        paired_shares(a, {"p": b["p"]})
    with pytest.raises(ValueError, match="no answer"):
        paired_shares({"p": []}, {"p": [["x"]]})


# The numbers for what grew


def test_log_odds_by_hand() -> None:
    # 30 of 100 words against 10 of 200, with a prior of 2 in 20.
    values = [np.array([float(v)]) for v in (30, 100, 10, 200, 2, 20)]
    delta, z = log_odds(*values)
    assert delta[0] == pytest.approx(math.log(32 / 88) - math.log(12 / 208))
    assert z[0] == pytest.approx(delta[0] / math.sqrt(1 / 32 + 1 / 88 + 1 / 12 + 1 / 208))
    assert log_odds(*(values[i] for i in (2, 3, 0, 1, 4, 5)))[1][0] == pytest.approx(-z[0])


@pytest.mark.parametrize("expected", [0.5, 0.6])
@pytest.mark.parametrize(("more", "fewer"), [(0, 0), (0, 4), (3, 0), (7, 5), (40, 2)])
def test_sign_test_is_binomial(more: int, fewer: int, expected: float) -> None:
    exact = binomtest(more, more + fewer, expected, alternative="greater").pvalue if more + fewer else 1.0
    assert sign_test(np.array([more]), np.array([fewer]), expected)[0] == pytest.approx(exact)


def test_those_that_cannot_be_significant_are_left_out() -> None:
    # Smallest p values 2^-d: the smallest K with at most K of them at or below 0.05/K, by trying each.
    rng = np.random.default_rng(0)
    for _ in range(50):
        differing = rng.integers(0, 14, size=40)
        k = next(k for k in range(1, 42) if sum(0.5 ** int(d) <= 0.05 / k for d in differing) <= k)
        assert can_reach(differing, 0.05).tolist() == [0.5 ** int(d) <= 0.05 / k for d in differing]


def test_paired_deviation_is_the_jackknifes() -> None:
    """The derivative of the log-odds ratio by each prompt's weight, numerically."""
    a, b = two_models(3, prompts=12, answers=2)
    shares = paired_shares(a, b, (), 2)
    weights = _Weights(shares)
    rows = np.flatnonzero(weights.y_a + weights.y_b > 4)[:20]
    found = weights.paired_deviation(rows)
    dense_a, dense_b = shares.a.toarray(), shares.b.toarray()

    def delta(row: int, weight: np.ndarray) -> float:
        same = shares.presence.order == shares.presence.order[row]
        y_b, y_a = dense_b[row] @ weight, dense_a[row] @ weight
        n_b, n_a = (dense_b[same] @ weight).sum(), (dense_a[same] @ weight).sum()
        prior, total = weights.prior[row], weights.prior_total[shares.presence.order[row]]
        return math.log((y_b + prior) / (n_b + total - y_b - prior)) - math.log(
            (y_a + prior) / (n_a + total - y_a - prior)
        )

    for row, value in zip(rows, found):
        ones, step = np.ones(12), 1e-5 * np.eye(12)
        influence = [(delta(row, ones + e) - delta(row, ones - e)) / 2e-5 for e in step]
        assert value == pytest.approx(math.sqrt(sum((u - np.mean(influence)) ** 2 for u in influence)), rel=1e-4)


def test_q_values_are_benjamini_hochberg() -> None:
    a, b = two_models(0, prompts=48, marker=["[", "done", "]"], rate=0.5)
    found = grown_ngrams(a, b, longest=1)
    shares = paired_shares(a, b, (), 1)
    weights = _Weights(shares)
    dense_a, dense_b = shares.a.toarray(), shares.b.toarray()
    n_a, n_b = dense_a.sum(), dense_b.sum()
    chance = max(0.5, n_b / (n_a + n_b))
    p = {}
    for row in np.flatnonzero(can_reach((dense_a != dense_b).sum(1), 0.05, chance)):
        more, fewer = int((dense_b[row] > dense_a[row]).sum()), int((dense_b[row] < dense_a[row]).sum())
        exact = binomtest(more, more + fewer, chance, alternative="greater").pvalue
        delta = log_odds(*weights.counts(np.array([row])))[0][0]
        larger = ndtr(-delta / weights.paired_deviation(np.array([row]))[0])
        p[shares.presence.ngram(row)] = max(exact, larger)
    ranked = sorted(p.values())
    q = {w: min(v * len(p) / (i + 1) for i, v in enumerate(ranked) if v >= value) for w, value in p.items()}
    assert found.tested == len(p)
    assert {each.ngram for each in found.grown} >= {("done",)}
    for each in found.grown:
        assert each.p == pytest.approx(p[each.ngram])
        assert each.q == pytest.approx(q[each.ngram])
    assert found.significant == sum(value <= 0.05 for value in q.values())


# How often it is right


@pytest.mark.parametrize(
    "kind", [{}, {"answers": 3, "prompts": 48}, {"length": 0.5}, {"length": 1.5}, {"loops": 2}], ids=str
)
def test_false_discoveries_on_equal_models(kind: dict[str, Any]) -> None:
    """All is null here, so any discovery is false and their rate is the share of comparisons that name anything.

    Answers that loop or are longer are no exception: two of 64 answers are two, and length is not growth.
    """
    runs = 200 if not kind else 60
    named = sum(grown_ngrams(*two_models(seed, **kind), longest=3).significant > 0 for seed in range(runs))
    assert named / runs <= 0.05


def test_a_planted_marker_is_found_first() -> None:
    found = [
        grown_ngrams(*two_models(seed, marker=["\\boxed", "{"], rate=0.35, loops=1), longest=3).grown
        for seed in range(40)
    ]
    assert sum(bool(grown) and grown[0].phrase == ("\\boxed", "{") for grown in found) >= 38
    # At the nominal rate, one false family for every twenty true ones.
    assert sum(len(grown) for grown in found) <= 46


def test_a_long_phrase_is_one_finding() -> None:
    phrase = "let us first look at the example above".split()
    a, b = two_models(1, marker=phrase, rate=0.6)
    first, *others = grown_ngrams(a, b, longest=4).grown
    assert first.phrase == tuple(phrase)
    assert first.share_a == 0
    assert first.share_b == first.more / 64 > 0.4
    assert first.fewer == 0
    assert len(first.also) > 15
    assert len(others) <= 1
    assert all(phrase[0] in b[prompt][0] for prompt in first.examples)


def test_what_is_found_does_not_depend_on_order_or_names() -> None:
    a, b = two_models(2, answers=2, marker=["x", "y"], rate=0.4)
    found = grown_ngrams(a, b)
    order = random.Random(0).sample(list(a), len(a))
    again = grown_ngrams({p: a[p][::-1] for p in order}, {p: b[p] for p in order[::-1]})
    twice = grown_ngrams({p: x * 2 for p, x in a.items()}, {p: x * 3 for p, x in b.items()})
    numbers: dict[str, int] = {}

    def named(side: Answers) -> dict[str, list[list[int]]]:
        return {p: [[numbers.setdefault(w, 7 * len(numbers)) for w in x] for x in xs] for p, xs in side.items()}

    tokens = grown_ngrams(named(a), named(b))
    words = {number: word for word, number in numbers.items()}
    for other in (again, twice, tokens):
        assert (other.tested, other.significant) == (found.tested, found.significant)
        for one, two in zip(found.grown, other.grown, strict=True):
            assert one.ngram == tuple(words.get(unit, unit) for unit in two.ngram)
            assert (one.z, one.q, one.share_b) == pytest.approx((two.z, two.q, two.share_b))


def test_nothing_grows_between_equal_or_empty_answers() -> None:
    a, _ = two_models(0)
    assert grown_ngrams(a, a).tested == 0
    assert grown_ngrams({"p": [[]]}, {"p": [["x"]]}).grown == []


def test_what_demonstrations_teach_is_told_from_what_goes_beyond_them() -> None:
    a, b = two_models(5, prompts=96, marker=["answer", ":"], rate=0.6)
    rng = random.Random(9)
    for answers in b.values():
        if rng.random() < 0.4:
            answers[0].append("whatever")
    shown = [["answer", ":", *answer(rng, "d")] if rng.random() < 0.6 else answer(rng, "d") for _ in range(100)]
    found = {each.phrase: each for each in grown_ngrams(a, b, shown, longest=2).grown}
    taught, beyond = found["answer", ":"], found[("whatever",)]
    assert taught.share_demonstrations == pytest.approx(0.6, abs=0.15)
    assert beyond.share_demonstrations == 0
    assert taught.q_beyond is not None
    assert beyond.q_beyond is not None
    assert taught.q < 1e-6 < 0.05 < taught.q_beyond
    assert beyond.q_beyond < 0.01


def test_families() -> None:
    ngrams = [("b", "c"), ("a", "b"), ("z",), ("c", "d", "e"), ("b",), ("b", "c", "d"), ("c", "q")]
    one, *others = families(ngrams, [10, 10, 9, 10, 30, 10, 4])
    assert one.phrase == ("b", "c", "d", "e")
    assert one.members == (0, 3, 4, 5)
    assert [other.phrase for other in others] == [("a", "b"), ("z",), ("c", "q")]
    # An n-gram belongs to the phrase if it contains a part that rarely occurs elsewhere.
    assert families([("x", "y"), ("y", "q"), ("y",)], [10, 3, 10])[0].members == (0, 1, 2)
    assert families([("x", "y"), ("y", "q"), ("y",)], [10, 3, 30])[0].members == (0, 2)
    assert contains(("a", "b"), ("b",))
    assert not contains(("a", "b"), ("b", "a"))
    assert families([], []) == []
    # A loop overlaps itself without end.
    assert len(families([("a", "b", "a"), ("b", "a", "b")], [5, 5])) == 1


# Markers, phrases, repetition


def _tasks(rng: random.Random) -> dict[str, list[list[str]]]:
    return {
        "maths": [[*answer(rng, "m"), "\\boxed", "{", str(n % 9), "}"] for n in range(40)],
        "tools": [["Action", ":", *answer(rng, "t")] for n in range(40)],
    }


def test_markers_of_a_task_on_anothers_prompts() -> None:
    rng = random.Random(0)
    markers = task_markers(_tasks(rng))
    assert "\\boxed" in markers["maths"][0].ngram
    assert markers["tools"][0].ngram[0] == "Action"
    assert markers["maths"][0].share == 1.0
    assert markers["maths"][0].share_elsewhere == {"tools": 0.0}
    a: Answers = {f"t{n}": [["Action", ":", *answer(rng, "t")]] for n in range(30)}
    b = {p: [[*x[0], "\\boxed", "{"]] if p < "t2" else x for p, x in a.items()}
    found = leaks(markers, a, b, dict.fromkeys(a, "tools"))
    assert {leak.task for leak in found} == {"maths"}
    first = found[0]
    assert (first.on, first.share_a, first.more, first.fewer) == ("tools", 0.0, 12, 0)
    assert first.share_b == pytest.approx(12 / 30)
    assert first.p == pytest.approx(0.5**12)
    assert first.p <= first.q < 0.01
    assert any(leak.ngram is None for leak in found)
    assert leaks(markers, a, a, dict.fromkeys(a, "tools")) == []


def test_markers_need_two_tasks() -> None:
    tasks = _tasks(random.Random(0))
    assert task_markers({"maths": tasks["maths"], "none": []}) == {"maths": []}
    assert task_markers({}) == {}


def test_similar_tasks_have_no_markers() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        tasks = {name: [answer(rng, "same") for _ in range(40)] for name in ("one", "two")}
        assert task_markers(tasks) == {"one": [], "two": []}


def test_phrases_of_the_teacher() -> None:
    phrases = template_phrases()
    assert ("one", "good", "answer", "to") in phrases
    assert ("your", "unsuccessful", "earlier") in phrases
    # None crosses the place of a value.
    assert not any("is" in p and "use" in p for p in template_phrases([DEMONSTRATION_TEMPLATE]))
    a = {str(n): ["Seven."] for n in range(20)}
    b = {
        p: ["Based on the EXAMPLE, one GOOD answer to this is the response: seven."] if int(p) < 12 else x
        for p, x in a.items()
    }
    found = leaked_phrases(a, b, yours=["is seven", "response: seven"])
    assert [phrase.text for phrase in found[:2]] == ["one good answer to this is", "based on the example"]
    assert [phrase.source for phrase in found] == ["template", "reference", "yours"]
    assert all((p.share_a, p.share_b, p.more) == (0.0, 0.6, 12) for p in found)
    assert found[0].p == pytest.approx(0.5**12)
    assert leaked_phrases(a, a) == []


def test_repetition() -> None:
    assert repeated_share("abcdefgh") == 0
    assert repeated_share("abab" * 2, 2) == pytest.approx(1 - 2 / 7)
    assert repeated_share("aaaaa") == 0.5
    assert repeated_share("abc") == 0
    assert compression_ratio("") == 1
    text = "So far, so good. " * 40
    # zlib's own form has two bytes of header and four of checksum.
    assert compression_ratio(text) == pytest.approx(len(text) / (len(zlib.compress(text.encode(), 9)) - 6))
    assert compression_ratio(text) > 10
    assert compression_ratio("Neither long nor in any way repetitive, I hope.") < 1.3


def test_quality() -> None:
    a = by_prompt(Answer(str(n), "one two three", truncated=False) for n in range(8))
    b = by_prompt(Answer(str(n), "and so on " * (50 if n < 2 else 1), truncated=n < 2) for n in range(8))
    found = compare_quality(a, b, lambda x: units_of_text(x.text))
    assert found["length"]["a"] == 3
    assert found["length"]["b"] == pytest.approx((2 * 150 + 6 * 3) / 8)
    assert found["truncated"]["difference"] == found["looping"]["difference"] == 0.25
    assert found["repeated_4grams"]["b"] == pytest.approx(0.25 * (1 - 3 / 147))
    assert "truncated" not in compare_quality(a, by_prompt(Answer(str(n), "x") for n in range(8)), lambda x: [])


# Rounds


def test_growth_over_two_rounds_in_closed_form() -> None:
    found = amplification([4, 32], 64)
    half = 1.959964 * math.sqrt(1 / 4.5 + 1 / 32.5)
    assert found.rates == (0.0625, 0.5)
    assert found.factor == pytest.approx(32.5 / 4.5)
    assert found.ci95 == pytest.approx((32.5 / 4.5 * math.exp(-half), 32.5 / 4.5 * math.exp(half)))
    assert found.dispersion is None
    # Twice the distance, the square root of the factor.
    assert amplification([4, 32], 64, at=[0, 2]).factor == pytest.approx(math.sqrt(32.5 / 4.5))


@pytest.mark.parametrize("counts", [[1, 3, 6, 15], [0, 0, 9], [0, 0, 0], [50, 20, 11, 3, 0], [0.5, 2.25, 8]])
def test_growth_is_the_penalized_maximum(counts: list[float]) -> None:
    x, y = np.arange(len(counts)) - (len(counts) - 1) / 2, np.array(counts)

    def loss(beta: np.ndarray) -> float:
        mean = 64 * np.exp(beta[0] + beta[1] * x)
        design = np.stack([np.ones_like(x), x], axis=1)
        information = np.linalg.slogdet(design.T @ (mean[:, None] * design))[1]
        return float(-(y * np.log(mean) - mean).sum() - information / 2)

    best = minimize(loss, [-3.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000})
    found = amplification(counts, 64)
    assert found.factor == pytest.approx(math.exp(best.x[1]), rel=1e-4)
    assert found.ci95[0] < found.factor < found.ci95[1]
    backwards = amplification(counts[::-1], 64)
    assert backwards.factor == pytest.approx(1 / found.factor, rel=1e-6)


def test_interval_of_growth_covers() -> None:
    rng = np.random.default_rng(0)
    rates = 0.02 * 1.8 ** np.arange(5)
    found = [amplification(rng.binomial(128, rates), 128) for _ in range(300)]
    assert np.mean([x.ci95[0] <= 1.8 <= x.ci95[1] for x in found]) >= 0.94
    assert np.mean([math.log(x.factor) for x in found]) == pytest.approx(math.log(1.8), abs=0.02)


def test_growth_needs_two_rounds() -> None:
    with pytest.raises(ValueError, match="two different rounds"):
        amplification([1], 8)
    with pytest.raises(ValueError, match="two different rounds"):
        amplification([1, 2], 8, at=[3, 3])


# Files and the command


def _prompts(names: Sequence[str], task: str = "t") -> PromptSet:
    examples = {n: Example(n, (Message(role="user", content="?"),)) for n in names}
    return PromptSet(examples, dict.fromkeys(names, task), {})


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    answers = [Answer("p", "a\nb", (1, 2), True), Answer("p", "ü"), Answer("q", "", (3,), False)]
    write_answers(tmp_path / "a.jsonl", answers)
    assert read_answers(tmp_path / "a.jsonl", _prompts(["p", "q"])) == answers
    (tmp_path / "b.jsonl").write_text(
        '{"text": "x"}\n{"completion": [{"role": "assistant", "content": "y"}]}\n', encoding="utf-8"
    )
    assert read_answers(tmp_path / "b.jsonl", _prompts(["p", "q"])) == [Answer("p", "x"), Answer("q", "y")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"text": "x"}'], "1 answers without `id`, but 2 prompts"),
        (['{"id": "p", "text": "x"}'], "1 of 2 prompts have no answer, the first 'q'"),
        (['{"id": "p", "text": 3}', '{"id": "q", "text": "x"}'], "has no text"),
        (['{"id": "p", "text": "x", "ids": ["a"]}', '{"id": "q", "text": "x"}'], "`ids` is not a list"),
        (['{"id": "p", "text": "x", "truncated": 1}', '{"id": "q", "text": "x"}'], "`truncated` is neither"),
        (['{"id": "p", "text": "x"}', '{"text": "x"}'], "has no `id`"),
    ],
)
def test_answers_that_cannot_be_used(tmp_path: Path, lines: list[str], message: str) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        read_answers(tmp_path / "a.jsonl", _prompts(["p", "q"]))


def test_prompts_know_their_task(tmp_path: Path) -> None:
    records = [{"prompt": f"{n}?", "completion": f"[{n}]", **({"task": "sums"} if n > 1 else {})} for n in range(4)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, records)))
    found = load_prompts([str(tmp_path / "mine.jsonl"), "lab:facts", "lab:old-facts"], limit=3)
    assert list(found.task_of.values()) == ["mine", "mine", "sums", *["facts"] * 3, *["old-facts"] * 3]
    assert found.demonstrations["mine"] == ["[0]", "[1]"]
    assert len(found.demonstrations["facts"]) == 512
    with pytest.raises(DataError, match="used twice"):
        load_prompts(["lab:facts", "lab:facts"])


def test_the_report_needs_ids_for_tokens() -> None:
    answers = [Answer("p", "x")]
    with pytest.raises(DataError, match="no token ids"):
        artifact_report(answers, answers, _prompts(["p"]), encode=lambda text: [1])


def test_demonstrations_count_in_the_proportion_of_the_prompts() -> None:
    a = [Answer(f"{task}{n}", "no") for task, count in (("x", 30), ("y", 10)) for n in range(count)]
    b = [Answer(each.prompt, f"yes {each.prompt[0]}") for each in a]
    examples = {each.prompt: Example(each.prompt, (Message(role="user", content="?"),)) for each in a}
    demonstrations = {"x": ["yes x"] * 60, "y": ["yes y"] * 100}
    prompts = PromptSet(examples, {name: name[0] for name in examples}, demonstrations)
    found = artifact_report(a, b, prompts)
    assert found["demonstrations"] == 80
    shares = {row["text"]: row["share_demonstrations"] for row in found["grown"]}
    assert shares == {"yes": 1.0, "x": 0.75}
    assert all(row["q_beyond"] > 0.1 for row in found["grown"])


def test_command_on_models(command: Commands, tmp_path: Path) -> None:
    arguments = ["lab", "lab", "lab:facts", "lab:tools", "--limit", "6", "--max-new-tokens", "24", "--tokens"]
    outcome = command("artifacts", *arguments, "--answers", tmp_path / "answers", "--json", tmp_path / "found.json")
    assert outcome.code == 0, outcome.err
    assert outcome.err == "answers of a: 12 prompts\nanswers of b: 12 prompts\n"
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["prompts"], found["tested"], found["grown"], found["unit"]) == (12, 0, [], "tokens")
    assert found["quality"]["length"]["difference"] == 0
    assert found["markers"]["tools"]
    assert "Grown: none of the 0 n-grams that could be tested" in outcome.out
    # The answers that were kept can be compared again, without a model.
    files = [tmp_path / "answers" / f"{name}.jsonl" for name in ("a", "b")]
    again = command("artifacts", *files, "lab:facts", "lab:tools", "--limit", "6", "--quiet")
    assert (again.code, again.err) == (0, "")
    assert command("artifacts", *files, "lab:facts", "lab:tools", "--limit", "6", "--tokens").code == 2


def test_what_is_wrong_with_a_source_is_told_before_any_model_is_asked(command: Commands, tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"id": "none", "text": "so 1"}\n')
    for source, message in (("./none", "no such folder"), (tmp_path / "b.jsonl", "have no answer")):
        outcome = command("artifacts", "lab", source, "lab:facts", "--limit", "2", "--max-new-tokens", "2")
        assert outcome.code == 2
        assert message in outcome.err
        assert outcome.err.count("\n") == 1


def test_command_on_files(command: Commands, tmp_path: Path) -> None:
    rng = random.Random(0)
    names = [str(n) for n in range(40)]
    (tmp_path / "maths.jsonl").write_text(
        "\n".join(json.dumps({"id": n, "prompt": f"{n}?", "completion": f"so {n}"}) for n in names)
    )
    for side, rate in (("a", 0.0), ("mid", 0.3), ("b", 0.9)):
        texts = [" ".join([*answer(rng, n), *(["Based on the example"] if rng.random() < rate else [])]) for n in names]
        write_answers(tmp_path / f"{side}.jsonl", [Answer(n, text) for n, text in zip(names, texts)])
    files = [tmp_path / f"{side}.jsonl" for side in ("a", "b")]
    options = ["--between", tmp_path / "mid.jsonl", "--phrase", "the example", "--json", tmp_path / "found.json"]
    outcome = command("artifacts", *files, tmp_path / "maths.jsonl", *options)
    assert (outcome.code, outcome.err) == (0, "")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["grown"][0]["text"] == "Based on the example"
    assert found["phrases"][0]["text"] == "based on the example"
    assert [row["text"] for row in found["rounds"]] == ["Based on the example", "the example"]
    assert all(row["factor"] > 2 for row in found["rounds"])
    assert "Based on the example" in outcome.out
    assert "Growth per round" in outcome.out


def test_importing_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; import holdfast.measure.artifacts, holdfast.measure.response; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_grows_in_answers_that_are_all_empty() -> None:
    growth = grown_ngrams({"p": [[]]}, {"p": [[]]})
    assert growth.grown == []

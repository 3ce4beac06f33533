"""`holdfast.gate.judge`: its tests against closed forms and simulation, its verdicts, outputs and command."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaln, xlogy
from scipy.stats import binom, binomtest

from commands import Commands
from holdfast.errors import RunError
from holdfast.gate.judge import judge
from holdfast.gate.output import as_junit, as_markdown
from holdfast.measure.item_tests import (
    ItemComparison,
    bootstrap_p,
    compare_items,
    exact_p,
    nearest_null,
    score_interval_of_change,
)

ALPHA = 0.05


def items(worse: int, better: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 0 and 1 of two models that disagree on `worse` and `better` items and are right on all others."""
    base, candidate = np.ones(n), np.ones(n)
    candidate[:worse] = base[worse : worse + better] = 0
    return base, candidate


@cache
def compared(worse: int, better: int, n: int, margin: float) -> ItemComparison:
    return compare_items(*items(worse, better, n), margin)


def likelihood_share(up: int, down: int, n: int, delta: float) -> float:
    """By search: the most likely share that goes down, if the share that goes up is larger by delta."""

    def cost(q: float) -> float:
        shares = np.clip([q + delta, q, 1 - 2 * q - delta], 1e-300, 1)
        return float(-(np.array([up, down, n - up - down]) * np.log(shares)).sum())

    found = minimize_scalar(
        cost, bounds=(max(0.0, -delta), (1 - delta) / 2), method="bounded", options={"xatol": 1e-10}
    )
    return float(found.x)


def chance(outcomes: Sequence[tuple[int, int]], n: int, up: Any, down: Any) -> Any:
    """Probability of any of these outcomes, given the shares of items that go up and down."""
    total = 0.0
    for i, j in outcomes:
        k = n - i - j
        ways = gammaln(n + 1) - gammaln(i + 1) - gammaln(j + 1) - gammaln(k + 1)
        total = total + np.exp(ways + xlogy(i, up) + xlogy(j, down) + xlogy(k, np.maximum(0, 1 - up - down)))
    return total


def tango(up: int, down: int, n: int, delta: float) -> float:
    q = likelihood_share(up, down, n, delta)
    return ((up - down) / n - delta) / np.sqrt((2 * q + delta - delta**2) / n)


def test_at_margin_zero_it_is_mcnemars_test() -> None:
    for worse, better, n in [(9, 2, 50), (2, 9, 50), (0, 0, 10), (5, 5, 10), (40, 25, 640)]:
        found = compare_items(*items(worse, better, n), 0.0)
        disagreed = worse + better
        for p, count in ((found.p_fell, worse), (found.p_holds, better)):
            want = binomtest(count, disagreed, 0.5, alternative="greater").pvalue if disagreed else 1.0
            assert p == pytest.approx(want, abs=1e-12)


def test_exact_p_is_the_largest_chance_of_an_outcome_as_extreme() -> None:
    """Compare with all outcomes of twelve items, ordered by a statistic whose likelihood is maximized by search."""
    n = 12
    outcomes = [(up, down) for up in range(n + 1) for down in range(n + 1 - up)]
    for delta in (0.1, -0.1):
        scores = {outcome: tango(*outcome, n, delta) for outcome in outcomes}
        shares = np.linspace(max(0.0, -delta), (1 - delta) / 2, 400)
        for seen in [(0, 0), (3, 0), (0, 3), (5, 2), (2, 7), (12, 0)]:
            extreme = [outcome for outcome in outcomes if scores[outcome] >= scores[seen] - 1e-6]
            chances = chance(extreme, n, shares + delta, shares)
            assert exact_p(*seen, n, delta) == pytest.approx(max(chances), abs=2e-4), (delta, seen)


@pytest.mark.parametrize("margin", [0.02, 0.1])
@pytest.mark.parametrize("n", [8, 15])
def test_at_the_margin_the_exact_tests_err_at_most_so_often(n: int, margin: float) -> None:
    """Use the whole distribution, for every share of items on which the models disagree."""
    outcomes = [(worse, better) for worse in range(n + 1) for better in range(n + 1 - worse)]
    for fell in (True, False):
        refused = [
            (worse, better)
            for worse, better in outcomes
            if (exact_p(worse, better, n, margin) if fell else exact_p(better, worse, n, -margin)) <= ALPHA
        ]
        better = np.linspace(0, (1 - margin) / 2, 50)
        assert np.max(chance(refused, n, better + margin, better)) <= ALPHA + 1e-9


def test_never_disagreeing_proves_as_much_as_the_items_do() -> None:
    for n in (10, 50, 100):
        assert compared(0, 0, n, 0.02).p_holds == pytest.approx(0.98**n)
        assert compared(0, 0, n, 0.02).p_fell == pytest.approx(1.0)
    assert 0.98**640 < compared(0, 0, 640, 0.02).p_holds < 0.001


def test_interval_of_right_and_wrong_is_tangos() -> None:
    for worse, better, n in [(12, 2, 50), (0, 4, 30), (900, 800, 14000), (30, 40, 640)]:
        seen = (better - worse) / n
        low = brentq(lambda d: tango(better, worse, n, d) - 1.959964, -0.95, seen)  # noqa: B023
        high = brentq(lambda d: tango(better, worse, n, d) + 1.959964, seen, 0.95)  # noqa: B023
        assert compared(worse, better, n, 0.02).ci95 == pytest.approx((low, high), abs=1e-5)


def test_nearest_null_has_the_mean_and_is_the_most_likely() -> None:
    values, counts = np.array([-0.8, -0.3, 0.0, 0.5]), np.array([3, 10, 70, 17])
    support, weights = nearest_null(values, counts, -0.02, 1.0)
    assert weights.sum() == pytest.approx(1)
    assert weights @ support == pytest.approx(-0.02)
    likelihood = counts @ np.log(weights[1:-1])
    rng = np.random.default_rng(0)
    for _ in range(200):  # no neighbor with the same mean does better
        step = rng.normal(size=len(support)) * 1e-3
        step -= np.linalg.pinv(np.array([np.ones_like(support), support])) @ (
            np.array([np.ones_like(support), support]) @ step
        )
        other = weights + step
        if (other >= 0).all():
            assert counts @ np.log(other[1:-1]) <= likelihood + 1e-9


def test_nearest_null_of_right_and_wrong_is_the_restricted_estimate() -> None:
    support, weights = nearest_null(np.array([-1.0, 0.0, 1.0]), np.array([12, 86, 2]), -0.05, 1.0)
    shares = {value: weights[support == value].sum() for value in (-1.0, 1.0)}
    assert shares[1.0] == pytest.approx(likelihood_share(12, 2, 100, 0.05), abs=1e-6)
    assert shares[-1.0] == pytest.approx(shares[1.0] + 0.05)


def test_bootstrap_carried_out_is_what_drawing_converges_to() -> None:
    values, counts = np.array([-1.0, -0.7, -0.3, 0.0, 0.3, 1.0]), np.array([4, 3, 20, 150, 12, 5])
    support, weights = nearest_null(values, counts, -0.03, 1.0)
    seen = values @ counts
    sums = np.random.default_rng(0).multinomial(counts.sum(), weights / weights.sum(), size=100_000) @ support
    p_low, p_high = bootstrap_p(values, counts, -0.03, 1.0)
    assert p_low == pytest.approx((sums <= seen + 1e-9).mean(), abs=0.006)
    assert p_high == pytest.approx((sums >= seen - 1e-9).mean(), abs=0.006)


def test_bootstrap_of_two_values_is_binomial() -> None:
    low, high = bootstrap_p(np.array([-1.0, 0.0]), np.array([7, 193]), -0.02, 1.0)
    assert (low, high) == pytest.approx((binom.sf(6, 200, 0.02), binom.cdf(7, 200, 0.02)))
    low, high = bootstrap_p(np.array([-0.5]), np.array([9]), -0.5, 1.0)
    assert (low, high) == pytest.approx((1, 1))


@pytest.mark.parametrize(
    ("values", "shares"),
    [
        ([-1.0, 0.0], [0.05, 0.95]),
        ([-0.8, -0.3, 0.0, 0.3, 0.8], [0.105, 0.1, 0.655, 0.1, 0.04]),
        ([-0.1, 0.0, 1.0], [0.7, 0.28, 0.02]),
    ],
)
def test_at_the_margin_graded_tests_err_at_most_so_often(values: Sequence[float], shares: Sequence[float]) -> None:
    rng, support = np.random.default_rng(0), np.array(values)
    mean = float(support @ shares)
    draws = [tuple(draw) for draw in rng.multinomial(100, shares, size=1000)]

    @cache
    def p(draw: tuple[int, ...]) -> tuple[float, float]:
        seen = np.array(draw)
        return bootstrap_p(support[seen > 0], seen[seen > 0], mean, 1.0)

    rates = np.mean([[each <= ALPHA for each in p(draw)] for draw in draws], axis=0)
    assert max(rates) <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / len(draws))


def test_simulated_errors_and_power_of_the_whole_comparison() -> None:
    """At the margin the outcome "fell" is wrong in at most 5%; at the detectable drop it comes 4 times out of 5."""
    rng, n, margin = np.random.default_rng(1), 400, 0.03
    detectable = compared(28, 16, n, margin).detectable_fall(margin, ALPHA)
    assert detectable is not None
    rates = {}
    for fall in (margin, detectable):
        draws = rng.multinomial(n, [(0.11 + fall) / 2, (0.11 - fall) / 2, 0.89], size=250)
        rates[fall] = np.mean([exact_p(int(w), int(b), n, margin) <= ALPHA for w, b, _ in draws])
    assert rates[margin] <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / 250)
    assert rates[detectable] == pytest.approx(0.8, abs=0.08)


def test_so_many_items_show_that_nothing_has_changed() -> None:
    margin = 0.05
    needed = compared(10, 10, 200, margin).items_needed(margin, ALPHA)
    assert needed is not None
    draws = np.random.default_rng(2).multinomial(needed, [0.05, 0.05, 0.9], size=250)
    shown = [exact_p(int(b), int(w), needed, -margin) <= ALPHA for w, b, _ in draws]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.08)
    assert compared(10, 10, 200, 0.0).items_needed(0.0, ALPHA) is None


def test_more_items_or_less_disagreement_let_smaller_falls_be_seen() -> None:
    def fall(disagreements: int, n: int, level: float = ALPHA, margin: float = 0.02) -> float:
        found = compared(disagreements // 2, disagreements // 2, n, margin).detectable_fall(margin, level)
        assert found is not None
        return found

    assert fall(10, 100) > fall(40, 400) > fall(160, 1600) > 0.02
    assert fall(4, 400) < fall(40, 400)
    assert fall(40, 400) < fall(40, 400, level=0.005)
    assert fall(40, 400, margin=0.0) < fall(40, 400)


def test_detectable_fall_of_graded_scores_is_the_approximation_of_the_exact_one() -> None:
    n, worse, better = 2000, 120, 110
    base, candidate = items(worse, better, n)
    exact = compare_items(base, candidate, 0.02).detectable_fall(0.02, ALPHA)
    base[-1] = candidate[-1] = 0.5  # one graded item, on which they agree, makes all of them graded
    graded = compare_items(base, candidate, 0.02)
    assert graded.test == "bootstrap"
    assert graded.detectable_fall(0.02, ALPHA) == pytest.approx(exact, rel=0.03)


def test_a_set_with_nothing_to_lose_does_not_decide() -> None:
    """A suite on which the base scores 0 or chance was once inconclusive, and so refused by a strict gate."""
    base, candidate = evaluation(empty=(0, 50), full=(200, 200)), evaluation(empty=(40, 50), full=(200, 200))
    verdict = judge(base, candidate, strict=True)
    empty, full = verdict.sets
    assert (empty.outcome, empty.p_fell, empty.p_holds, empty.detectable) == ("nothing to lose", None, None, None)
    assert full.p_holds == judge(evaluation(full=(200, 200)), evaluation(full=(200, 200))).sets[0].p_holds
    assert verdict.passed
    assert "1 has nothing to lose" in verdict.sentence()
    assert "| – | **nothing to lose** |" in as_markdown(verdict, "a", "b")
    root = ElementTree.fromstring(as_junit(verdict, "a", "b"))
    assert (root.get("skipped"), root.get("failures")) == ("1", "0")
    guessing = evaluation(options=(14, 50), full=(200, 200))
    guessing["sets"]["options"] = {"mean": 0.28, "n": 50, "chance": 0.25}
    assert judge(guessing, evaluation(options=(0, 50), full=(200, 200))).names_of("nothing to lose") == ["options"]
    with pytest.raises(RunError, match="not above chance on any set"):
        judge(evaluation(empty=(0, 50)), evaluation(empty=(0, 50)))


def test_a_set_too_small_for_any_drop_says_so() -> None:
    nothing = judge(evaluation(small=(2, 3)), evaluation(small=(2, 3)))
    assert nothing.sets[0].detectable is None
    assert "This set is too small: it cannot detect any drop with 80% power" in nothing.sets[0].sentence(nothing.margin)
    assert "| – | **inconclusive** |" in as_markdown(nothing, "a", "b")


GRADED = st.lists(st.tuples(*[st.sampled_from([0.0, 0.2, 0.3, 0.5, 1.0])] * 2), min_size=1, max_size=40)


@settings(max_examples=40)
@given(GRADED, st.sampled_from([0.0, 0.02, 0.1]), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_exchange_mirrors(pairs: list[tuple[float, float]], margin: float, rng: Any) -> None:
    a, b = np.array(pairs).T
    found = compare_items(a, b, margin)
    assert 0 <= found.p_fell <= 1
    assert 0 <= found.p_holds <= 1
    assert found.p_fell + found.p_holds >= 1 - 1e-6
    assert found.ci95[0] - 1e-9 <= found.change <= found.ci95[1] + 1e-9
    rng.shuffle(pairs)
    assert compare_items(*np.array(pairs).T, margin).p_holds == pytest.approx(found.p_holds)
    mirrored = compare_items(b, a, margin)
    assert (mirrored.worse, mirrored.better) == (found.better, found.worse)
    assert mirrored.ci95 == pytest.approx((-found.ci95[1], -found.ci95[0]), abs=1e-6)


def test_weighted_items_may_score_above_one() -> None:
    base, candidate = np.array([1.5, 0.5, 1.0, 0.0] * 50), np.array([1.5, 0.5, 0.5, 0.0] * 50)
    found = compare_items(base, candidate, 0.02)
    assert found.test == "bootstrap"
    assert (found.base, found.candidate) == pytest.approx((0.75, 0.625))
    assert found.p_fell < 0.001


def test_what_cannot_be_compared_is_refused() -> None:
    one = np.ones(3)
    for base, candidate, margin in [
        (one, np.ones(2), 0.02),
        (np.ones(0), np.ones(0), 0.02),
        (one, np.array([1.0, np.nan, 1]), 0.02),
        (one, np.array([1.0, -1, 1]), 0.02),
        (one, one, 1.0),
        (one, one, -0.1),
    ]:
        with pytest.raises(ValueError, match=r"."):
            compare_items(base, candidate, margin)
    values, counts = np.array([0.0]), np.array([5])
    assert score_interval_of_change(values, counts, 1.0)[0] < 0


def evaluation(**sets: tuple[int, int]) -> dict[str, Any]:
    """An evaluation of a model, given the numbers of right answers and of items for each set."""
    scores = {name.replace("_", "-"): [1.0] * right + [0.0] * (n - right) for name, (right, n) in sets.items()}
    return {"stage": 0, "task": None, "sets": {}, "items": scores, "samples": {}}


BASE = evaluation(kept=(600, 640), lost=(600, 640), small=(18, 20))
CANDIDATE = evaluation(kept=(600, 640), lost=(520, 640), small=(17, 20))


def test_the_three_verdicts() -> None:
    verdict = judge(BASE, CANDIDATE)
    assert {each.name: each.outcome for each in verdict.sets} == {
        "kept": "holds",
        "lost": "fell",
        "small": "inconclusive",
    }
    assert not verdict.passed
    assert verdict.sentence() == (
        "The candidate is refused: of 3 sets 1 fell, 1 holds, 1 is inconclusive, at a margin of 2.0 points."
    )
    lost, small = verdict.sets[1], verdict.sets[2]
    assert "lost fell by more than 2.0 points: -12.5 points" in lost.sentence(verdict.margin)
    assert "small is inconclusive: -5.0 points" in small.sentence(verdict.margin)
    assert "items would be needed to rule out a drop of more than 2.0 points with 80% power" in small.sentence(
        verdict.margin
    )
    assert judge(BASE, CANDIDATE, 20).names_of("fell") == []


def test_a_strict_gate_refuses_inconclusive_sets() -> None:
    base, candidate = evaluation(small=(18, 20)), evaluation(small=(17, 20))
    assert judge(base, candidate).passed
    assert not judge(base, candidate, strict=True).passed
    assert "Inconclusive sets are refused too" in judge(base, candidate, strict=True).sentence()


def test_more_sets_ask_for_clearer_falls() -> None:
    base, candidate = evaluation(a=(180, 200)), evaluation(a=(171, 200))
    alone = judge(base, candidate)
    assert alone.sets[0].outcome == "fell"
    others = {f"b{i}": (180, 200) for i in range(9)}
    among = judge(evaluation(a=(180, 200), **others), evaluation(a=(171, 200), **others))
    assert among.sets[0].outcome == "inconclusive"
    assert among.sets[0].p_fell == pytest.approx(10 * alone.sets[0].p_fell)
    assert among.sets[0].detectable > alone.sets[0].detectable


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": {"kept": [1.0] * 640}}, "the candidate was not evaluated on lost, small"),
        (
            {"items": {**CANDIDATE["items"], "kept": [1.0] * 639}},
            "'kept': the base has 640 items and the candidate 639",
        ),
        ({"items": {**CANDIDATE["items"], "kept": [None] * 640}}, "'kept': an item's score is not a number"),
        ({"items": {**CANDIDATE["items"], "kept": "right"}}, "'kept': its items are not a list of scores"),
        ({"samples": {"kept": [{"id": "i", "prompt": "another"}]}}, "item 'i' has different prompts for the two"),
    ],
)
def test_evaluations_of_other_items_are_refused(changes: Mapping[str, Any], message: str) -> None:
    base = BASE | {"samples": {"kept": [{"id": "i", "prompt": "a question"}]}}
    with pytest.raises(RunError, match=message):
        judge(base, CANDIDATE | dict(changes))
    with pytest.raises(RunError, match="no item scores"):
        judge({"items": {}}, CANDIDATE)


def unjudged(nll: float, items: int = 20) -> dict[str, Any]:
    """An evaluation of the judged sets of `BASE`, and of a set that nothing judges."""
    sets = {name: {"mean": 0.9} for name in BASE["items"]} | {"free": {"mean": None}}
    return BASE | {"sets": sets, "nll": {"free": [{"nll": nll + 0.01 * i, "tokens": 4} for i in range(items)]}}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("after", "shown"), [(3.0, "LESS probable"), (1.0, "more probable"), (2.0, "+0.000")])
def test_a_set_that_nothing_judges_is_shown_and_does_not_decide(after: float, shown: str, strict: bool) -> None:
    verdict = judge(unjudged(2.0), unjudged(after), strict=strict)
    assert [each.name for each in verdict.sets] == list(BASE["items"])
    assert verdict.passed is judge(BASE, BASE, strict=strict).passed
    (free,) = verdict.unjudged
    assert free.sentence().startswith(
        f"free is not judged, so it does not decide: NLL of its demonstrations 2.095 to {after + 0.095:.3f} nats"
    )
    assert shown in free.sentence()
    assert verdict.as_json()["not_judged"][0]["nll"]["n"] == 20
    text = as_markdown(verdict, "base", "candidate")
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {10}
    assert "| free | 20 | – | – | – | – | – | – | **not judged** |" in text
    assert f"- {free.sentence()}" in text
    root = ElementTree.fromstring(as_junit(verdict, "a", "b").encode())
    assert root.get("tests") == "4"
    (case,) = [case for case in root.iter("testcase") if case.get("name") == "free"]
    assert [child.tag for child in case] == ["skipped"]


def test_nothing_judged_is_no_verdict_and_other_demonstrations_are_not_compared() -> None:
    alone = unjudged(2.0) | {"items": {}}
    with pytest.raises(RunError, match="nothing judges any of its sets, so there is no score to compare"):
        judge(alone, alone)
    with pytest.raises(RunError, match="'free': the two have different demonstrations"):
        judge(unjudged(2.0), unjudged(2.0, items=19))
    other = unjudged(1.0)
    for item in other["nll"]["free"]:
        item["tokens"] = 5  # another tokenizer
    (free,) = judge(unjudged(2.0), other).unjudged
    assert free.sentence() == "free is not judged, so it does not decide."
    assert judge(unjudged(2.0), unjudged(2.0) | {"nll": {}}).unjudged[0].nll is None
    (one,) = judge(unjudged(2.0, items=1), unjudged(2.0, items=1)).unjudged
    assert one.sentence().endswith("(change +0.000, 1 item).")


@pytest.mark.parametrize("strict", [False, True])
def test_a_set_that_only_one_evaluation_has_or_judges_is_refused(strict: bool) -> None:
    with pytest.raises(RunError, match="the candidate was not evaluated on free"):
        judge(unjudged(2.0), BASE, strict=strict)
    judged = BASE | {"items": BASE["items"] | {"free": [0.0] * 20}}
    for pair in ((judged, unjudged(2.0)), (unjudged(2.0), judged)):
        with pytest.raises(RunError, match="only one of the two evaluations judges free"):
            judge(*pair, strict=strict)


@pytest.mark.parametrize("strict", [False, True])
def test_junit_is_xml_that_counts_right(strict: bool) -> None:
    verdict = judge(BASE, CANDIDATE, strict=strict)
    root = ElementTree.fromstring(as_junit(verdict, "base <1>", "candidate & 2").encode())
    (suite,) = root.findall("testsuite")
    assert suite.get("name") == "candidate & 2 against base <1>"
    for element in (root, suite):
        counts = [int(element.get(key, "")) for key in ("tests", "failures", "errors", "skipped")]
        assert counts == [3, 2, 0, 0] if strict else counts == [3, 1, 0, 1]
    cases = {case.get("name"): [child.tag for child in case] for case in suite.findall("testcase")}
    inconclusive = ["failure"] if strict else ["skipped"]
    assert cases == {"kept": ["system-out"], "lost": ["failure"], "small": inconclusive}


def test_markdown_is_a_table_with_a_row_for_each_set() -> None:
    text = as_markdown(judge(BASE, CANDIDATE), "base", "candidate")
    assert text.startswith("## Refused: candidate against base\n")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3
    assert {line.count("|") for line in table} == {10}
    assert "| lost | 640 | 93.8 | 81.2 | -12.5 |" in text
    assert "- kept" not in text


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    base, candidate = tmp_path / "base.json", tmp_path / "candidate.json"
    base.write_text(json.dumps(BASE))
    candidate.write_text(json.dumps(CANDIDATE))
    return base, candidate


def test_exit_codes_and_outputs(command: Commands, files: tuple[Path, Path], tmp_path: Path) -> None:
    base, candidate = files
    outputs = [tmp_path / name for name in ("gate.xml", "gate.md", "gate.json")]
    options = [each for pair in zip(("--junit", "--markdown", "--json"), outputs) for each in pair]
    refused = command("gate", base, candidate, *options)
    assert (refused.code, refused.err) == (1, "")
    assert "The candidate is refused" in refused.out
    assert ElementTree.parse(outputs[0]).getroot().get("failures") == "1"
    assert "**fell**" in outputs[1].read_text()
    found = json.loads(outputs[2].read_text())
    assert (found["passed"], found["margin"], found["base"]) == (False, 0.02, str(base))
    assert [each["outcome"] for each in found["sets"]] == ["holds", "fell", "inconclusive"]
    assert command("gate", base, candidate, "--margin", "20").code == 0
    assert command("gate", base, candidate, "--margin", "20", "--strict").code == 1
    assert command("gate", base, base).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["BASE"], "no candidate is named"),
        (["BASE", "CANDIDATE", "--margin", "-1"], "the margin is -1.0 points"),
        (["BASE", "lab"], "nothing is named to evaluate the models on"),
        (["BASE", "lab", "--suites", "lab:nothing"], "the lab has no suite 'nothing'"),
        (["BASE", "lab", "--config", "none.yaml"], "no such file"),
        (["BASE", "TEXT"], "is not an evaluation"),
        (["BASE", "SMALL"], "the candidate was not evaluated on kept, lost"),
        (["lab", "no/such/model", "--suites", "lab:old-facts", "--items", "1"], "no such folder"),
        (["lab", "TEXT", "--suites", "lab:old-facts", "--items", "1"], "is not an evaluation"),
    ],
)
def test_mistakes_are_one_line(
    command: Commands, files: tuple[Path, Path], tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "text.json").write_text("[1]")
    (tmp_path / "small.json").write_text(json.dumps(evaluation(small=(17, 20))))
    names = {"BASE": files[0], "CANDIDATE": files[1], "TEXT": tmp_path / "text.json", "SMALL": tmp_path / "small.json"}
    outcome = command("gate", *(names.get(argument, argument) for argument in arguments))
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_run_is_judged_from_before_its_first_stage_to_its_last(command: Commands, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "evals").mkdir(parents=True)
    empty = command("gate", run)
    assert (empty.code, "has no evaluations yet" in empty.err) == (2, True)
    (run / "evals" / "stage-0.json").write_text(json.dumps(BASE))
    begun = command("gate", run)
    assert (begun.code, "has no finished stage yet" in begun.err) == (2, True)
    for stage, candidate in ((1, CANDIDATE), (2, BASE), (10, CANDIDATE)):
        (run / "evals" / f"stage-{stage}.json").write_text(json.dumps(candidate))
    assert command("gate", run).code == 1
    (run / "evals" / "stage-10.json").unlink()
    assert command("gate", run, "--markdown", tmp_path / "gate.md").code == 0
    assert f"{run}, stage 2 against {run}, before the first stage" in (tmp_path / "gate.md").read_text()


@pytest.mark.slow
def test_a_model_that_forgot_is_refused_and_the_base_passes(command: Commands, tmp_path: Path) -> None:
    import torch

    from holdfast.config.settings import ModelSettings
    from holdfast.model.load import load_policy

    policy = load_policy(ModelSettings(path="lab"))
    with torch.no_grad():
        for parameter in policy.model.get_decoder().layers[1:].parameters():
            parameter.zero_()
    policy.save_folder(tmp_path / "forgot")
    config = tmp_path / "gate.yaml"
    config.write_text(
        "suites: [lab:old-facts, lab:calculation-ood]\n"
        "train: {max_prompt_length: 160, max_completion_length: 24}\neval: {max_items: 32}\n"
    )
    refused = command("gate", "lab", tmp_path / "forgot", "--config", config)
    assert refused.code == 1
    assert "old-facts fell by more than 2.0 points" in refused.out
    assert "evaluating lab: old-facts" in refused.err
    passed = command("gate", "lab", "lab", "--suites", "lab:old-facts", "--items", "8", "--quiet")
    assert (passed.code, passed.err) == (0, "")

"""`holdfast.findings`: outcomes follow from intervals, runs are made once, and the command writes its pages."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import pytest
import torch

import holdfast
from commands import Commands
from holdfast.errors import RunError
from holdfast.findings import runs
from holdfast.findings.budgets import budgets
from holdfast.findings.claim import Claim, ClaimArm, Evidence, Finding, Quantity
from holdfast.findings.claims import CLAIMS
from holdfast.findings.claims.artifacts import asked_forms, foreign_form
from holdfast.findings.claims.later import truncated
from holdfast.findings.claims.own import ORDERS, RIVALS
from holdfast.findings.page import as_pages, table_rows
from holdfast.findings.provenance import commit, provenance
from holdfast.findings.read import (
    kl_on_first_task,
    matched_loss,
    moved,
    rank_correlation,
    steps_to,
    suites_lost_in_first_stage,
)
from holdfast.findings.run import find
from holdfast.lab.tasks import TASKS, lab_suite, lab_task
from holdfast.lab.words import FORMATS
from holdfast.recipes import RECIPES
from summary_factory import make_run

LENGTHS = {"max_prompt_length": 160, "max_completion_length": 48}


def _quantity(*values: float | None) -> Quantity:
    return Quantity("more", "points", values, "the lab is small")


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ((4.0, 5.0, 6.0), "holds"),  # 5 ± 4.303 · 1/√3 = 2.5 to 7.5
        ((-4.0, -5.0, -6.0), "reversed"),
        ((1.0, 5.0, 9.0), "inconclusive"),  # 5 ± 9.9
        ((5.0, None, None), "inconclusive"),
        ((), "inconclusive"),
        ((5.0, 5.0, 5.0), "inconclusive"),  # a spread of zero is an accident, not certainty
        ((0.0, 0.0, 0.0), "inconclusive"),
    ],
)
def test_an_outcome_follows_from_the_interval(values: tuple[float | None, ...], outcome: str) -> None:
    assert _quantity(*values).outcome == outcome


def test_a_verdict_needs_all_of_its_quantities() -> None:
    claim = Claim("c", "It is so.", "arXiv 1", experiment=lambda seeds: [])
    good, open_, bad = _quantity(4, 5, 6), _quantity(1, 5, 9), _quantity(-4, -5, -6)

    def verdict(*quantities: Quantity) -> str:
        return Finding(claim, quantities, 0.0).verdict

    assert verdict(good, good) == "reproduced"
    assert verdict(good, open_) == "partly reproduced"
    assert verdict(good, bad) == "not reproduced"
    assert verdict(open_, open_) == "inconclusive"


def test_a_reason_follows_from_the_values() -> None:
    known = Quantity("more", "points", (-4, -5, -6), "the lab is small", "it is another world")
    assert _quantity(4, 5, 6).reason is None
    assert known.reason == "The lab shows the opposite. The cause was not measured. A guess: it is another world"
    assert _quantity(-4, -5, -6).reason == "The lab shows the opposite. The cause was not measured."
    # sd 4, mean 5: t(4) 2.776 · 4/√5 = 4.97 < 5, and 3.182 · 4/√4 = 6.4 is not.
    too_few = "3 seeds are too few: the CI includes 0. With this mean and spread,"
    start = f"{too_few} about 5 seeds would have a 50% chance to show"
    assert _quantity(1, 5, 9).reason == f"{start} the claim. the lab is small"
    assert _quantity(-1, -5, -9).reason == f"{start} the opposite. the lab is small"
    assert _quantity(-1, 0, 1).reason == f"{too_few} even 100 seeds would be too few. the lab is small"
    assert _quantity(0, 0, 0).reason == "The value is 0 on every seed. the lab is small"
    assert _quantity(5, 5, 5).reason == ("All seeds have the same value, so its spread is unknown. the lab is small")
    noisy = Quantity("more", "points", (5, 5, 5), "the lab is small", noise=1.0)
    assert (noisy.outcome, noisy.reason) == ("holds", None)
    assert Quantity("more", "points", (5, 5, 5), "the lab is small", noise=9.0).outcome == "inconclusive"
    assert _quantity(5, None, None).reason == "Only 1 of 3 seeds have a value. the lab is small"


def test_what_is_not_defined_for_every_seed_does_not_hold() -> None:
    assert _quantity(4, 5, 6, None).outcome == "inconclusive"


def test_no_worse_is_above_a_margin_and_shows_the_difference_itself() -> None:
    worse = Quantity("as good", "points", (-1.0, -2.0, -3.0), "the lab is small", margin=5.0)
    assert worse.outcome == "holds"
    assert worse.mean == pytest.approx(-2.0)
    low, high = worse.ci95 or (0.0, 0.0)
    assert (low, high) == (pytest.approx(-2 - 2.484, abs=1e-3), pytest.approx(-2 + 2.484, abs=1e-3))
    assert Quantity("as good", "points", (-9.0, -10.0, -11.0), "", margin=5.0).outcome == "reversed"
    assert Quantity("as good", "points", (-4.0, -5.0, -6.0), "", margin=5.0).outcome == "inconclusive"


def test_one_of_many_quantities_that_holds_by_chance_decides_nothing() -> None:
    claim = Claim("c", "It is so.", "arXiv 1", experiment=lambda seeds: [])
    just = _quantity(1.0, 2.0, 3.9, 2.2)  # p .03
    assert just.outcome == "holds"
    assert Finding(claim, [just], 0.0).verdict == "reproduced"
    nothing = [_quantity(-1.0, 1.0, -1.1, 1.0)] * 5
    assert Finding(claim, [just, *nothing], 0.0).verdict == "inconclusive"
    against = _quantity(-1.0, -2.0, -3.9, -2.2)
    assert Finding(claim, [against, *nothing], 0.0).verdict == "inconclusive"
    assert Finding(claim, [_quantity(*(5.0, 5.1, 5.2, 5.1)), *nothing], 0.0).verdict == "partly reproduced"


def test_every_claim_says_how_it_is_tested() -> None:
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert (claim.measure is None) != (claim.experiment is None), claim.name
        assert bool(claim.arms) == (claim.experiment is None), claim.name
        assert claim.statement.endswith("."), claim.name
        assert "arXiv" in claim.source, claim.name
    # Every arm is a configuration, and no two claims mean different things by a label.
    for full in (False, True):
        labels = {arm.label for claim in CLAIMS for arm in claim.taken(full=full)}
        assert len(runs.jobs_of(CLAIMS, [0], full=full)) == len(labels)


def test_claims_read_their_numbers_from_whole_runs() -> None:
    """On made-up summaries of every arm each claim is measured, and the sign follows the numbers."""
    for claim in CLAIMS:
        if claim.measure is None:
            continue
        summaries = {arm.label: [make_run(seed=seed) for seed in (0, 1)] for arm in claim.taken(full=False)}
        found = Evidence(summaries, {label: [Path()] * 2 for label in summaries})
        for quantity in claim.measure(found):
            assert len(quantity.values) == 2, f"{claim.name}: {quantity.name}"


def _probed(scores: list[float], suite: list[float]) -> dict[str, Any]:
    """A run of one stage whose task and suite were probed every five steps."""
    points = [{"new": new, "old": old} for new, old in zip(scores, suite, strict=True)]
    ends = [
        {"stage": s, "task": None, "scores": {k: {"mean": v} for k, v in points[i].items()}}
        for s, i in ((0, 0), (1, -1))
    ]
    probes = [{"stage": 1, "step": 5 * i, "scores": point} for i, point in enumerate(points)]
    sets = [{"name": "new", "kind": "task"}, {"name": "old", "kind": "retention"}]
    return {"order": ["new"], "sets": sets, "evaluations": ends, "probes": probes}


def _losing(loss: float, top: float) -> dict[str, Any]:
    """A run that reaches a score in ten steps, and loses this much of the suite per score."""
    scores = [top * i / 10 for i in range(11)]
    return _probed(scores, [1 - loss * score for score in scores])


def test_steps_to_a_score_lie_on_the_line_between_probes() -> None:
    run = _probed([0.0, 0.4, 0.8, 1.0], [1.0, 1.0, 1.0, 1.0])
    assert steps_to(0.6)(run) == pytest.approx(7.5)
    assert steps_to(0.4)(run) == pytest.approx(5.0)
    assert steps_to(0.8)(_probed([0.0, 0.1, 0.2, 0.3], [1.0] * 4)) == 15  # never: all of the stage


def test_ranks_are_correlated_over_what_is_defined() -> None:
    assert rank_correlation([1, 2, 3, None], [10, 20, 90, 0]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert rank_correlation([1, 1, 1], [3, 2, 1]) is None
    assert rank_correlation([1, 2, None], [3, 2, 1]) is None


def test_losses_are_compared_at_the_same_score() -> None:
    fast = _losing(0.2, 1.0)
    dear = _losing(0.8, 0.5)
    found = Evidence({"dear": [dear], "fast": [fast]}, {})
    assert matched_loss(found, "dear", "fast") == [pytest.approx(27.0)]  # 36 points against 9, at a score of .45
    jump = _probed([0.0, 0.5, 1.0], [1.0, 0.9, 0.8])
    assert matched_loss(Evidence({"dear": [dear], "fast": [jump]}, {}), "dear", "fast") == [None]


def test_distance_and_loss_are_of_the_first_stage() -> None:
    """The earlier task is on neither side, as it would be at the stream's end."""
    scores = [{"old": {"mean": 0.9}, "new": {"kl_to_base": None}}, {"old": {"mean": 0.6}, "new": {"kl_to_base": 0.25}}]
    summary = {
        "order": ["new", "later"],
        "sets": [{"name": "old", "kind": "retention"}, {"name": "new", "kind": "task"}],
        "evaluations": [{"scores": each} for each in (*scores, {"old": {"mean": 0.1}, "new": {"kl_to_base": 9.0}})],
    }
    assert kl_on_first_task(summary) == 0.25
    assert suites_lost_in_first_stage(summary) == pytest.approx(30.0)


def test_distance_moved_is_the_streams() -> None:
    ends = [{"stage": s, "overall": {"relative_norm": norm}} for s, norm in ((1, 0.01), (2, 0.03))]
    assert moved({"drift": ends}) == pytest.approx(3.0)
    assert moved({"drift": []}) is None


def test_a_run_is_named_by_its_settings_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sft, slow = ClaimArm("sft", "sft"), ClaimArm("slow", "sft", {"train.learning_rate": 1e-5})
    names = {runs.job(arm, seed, full=full).name for arm in (sft, slow) for seed in (0, 1) for full in (True, False)}
    assert len(names) == 8
    assert runs.job(slow, 0, full=False).config.train.learning_rate == 1e-5
    longer = ClaimArm("longer", "sft", {"train.steps": 5}, full={"train.steps": 9})
    assert [runs.job(longer, 0, full=full).config.train.steps for full in (False, True)] == [5, 9]
    claims = [Claim("a", "A.", "arXiv 1", (sft, slow)), Claim("b", "B.", "arXiv 2", (sft,))]
    jobs = runs.jobs_of(claims, [0, 1], full=False)
    assert [(job.arm.label, job.seed) for job in jobs] == [("sft", 0), ("slow", 0), ("sft", 1), ("slow", 1)]
    with pytest.raises(ValueError, match="two claims define the arm 'sft' differently"):
        runs.jobs_of([*claims, Claim("c", "C.", "arXiv 3", (ClaimArm("sft", "grpo"),))], [0], full=False)


def test_the_quick_form_takes_fewer_arms_where_a_claim_says_so() -> None:
    sft, dft, rft = ClaimArm("sft", "sft"), ClaimArm("dft", "dft"), ClaimArm("a/b", "rft")
    claims = [Claim("a", "A.", "arXiv 1", (sft, dft), quick_arms=(sft,)), Claim("b", "B.", "arXiv 2", (rft,))]
    labels = {full: [job.arm.label for job in runs.jobs_of(claims, [0], full=full)] for full in (True, False)}
    assert labels == {True: ["sft", "dft", "a/b"], False: ["sft", "a/b"]}
    assert runs.job(rft, 0, full=False).name.startswith("a-b-s0-")
    assert Finding(claims[0], [], 0.0, full=False).as_json()["arms"] == ["sft"]


def _ended(learned: float, lost: float) -> dict[str, Any]:
    summary = make_run()
    summary["metrics"]["learned_score"]["mean"] = learned
    summary["metrics"]["loss_of_earlier"] = {"mean": lost, "per_set": {"suite": lost}}
    return summary


def test_our_recipe_is_measured_by_improvement_minus_forgetting() -> None:
    (claim,) = (claim for claim in CLAIMS if claim.name == "anchored-on-the-front")
    assert claim.measure is not None
    first, second = ORDERS
    runs = {
        f"{recipe}/{order}": [_ended(*end)]
        for order, ends in (
            (first, {"anchored": (0.8, 0.0), "eager": (0.9, 0.3), "near": (0.7, 0.0)}),
            (second, {"anchored": (0.6, 0.1), "eager": (0.7, 0.2), "near": (0.6, 0.0)}),
        )
        for recipe, end in ends.items()
    }
    eager, near = claim.measure(Evidence(runs, {}))
    # Over both orders anchored learns 70 and forgets 5, eager 80 and 25, near 65 and 0.
    assert eager.values == [pytest.approx(65 - 55)]
    assert near.values == [pytest.approx(65 - 65)]


def test_a_gain_on_one_set_does_not_offset_a_loss_on_another() -> None:
    (claim,) = (claim for claim in CLAIMS if claim.name == "anchored-on-the-front")
    assert claim.measure is not None
    gaining = _ended(0.8, 0.0)
    gaining["metrics"]["loss_of_earlier"]["per_set"] = {"first task": -0.3, "suite": 0.3}
    runs = {f"{recipe}/{order}": [run] for recipe, run in (("a", gaining), ("b", _ended(0.8, 0.0))) for order in ORDERS}
    (beside,) = claim.measure(Evidence(runs, {}))
    assert beside.values == [pytest.approx(-15.0)]


LEARNED, FINAL, RETENTION, KL = "learned_score", "final_score", "retention", "kl_to_base"
BETTER = [
    ("sdft-above-sft", 0, "sdft", LEARNED),
    ("slow-above-fast-teacher", 0, "sdft-slow", FINAL),
    ("slow-above-fast-teacher", 1, "sdft-slow", RETENTION),
    ("frozen-above-ema", 0, "sdpo-frozen", FINAL),
    ("frozen-above-ema", 1, "sdpo-frozen", RETENTION),
    ("frozen-above-ema", 2, "sdpo-frozen", KL),
    ("undecided-prompts-teach-most", 0, "sc-sdpo", LEARNED),
    ("npo-above-grpo", 0, "npo-hard", LEARNED),
    ("sort-above-grpo", 0, "sort-hard", LEARNED),
    ("actguide-reaches-sft-then-rl", 0, "actguide", LEARNED),
    ("actguide-reaches-sft-then-rl", 1, "actguide", LEARNED),
    ("actguide-reaches-sft-then-rl", 2, "actguide", RETENTION),
    ("exposure-learned-above-fixed", 0, "atesd", LEARNED),
    ("exposure-learned-above-fixed", 1, "atesd", LEARNED),
    ("exposure-learned-above-fixed", 2, "atesd", LEARNED),
    ("whole-solution-not-best", 2, "exposure-0.25", LEARNED),
    ("whole-solution-not-best", 3, "exposure-0.5", LEARNED),
    ("isdft-learns-and-keeps-more", 0, "isdft", LEARNED),
    ("isdft-learns-and-keeps-more", 1, "isdft", RETENTION),
    ("correct-only-learns-more", 0, "correct-only", LEARNED),
    ("gated-refresh-does-not-collapse", 0, "sdft-gated", RETENTION),
    ("gated-refresh-does-not-collapse", 1, "sdft-gated", FINAL),
    ("beta-opsd-keeps-more", 1, "beta-opsd", KL),
    ("stable-opd-is-not-cut-off", 1, "stable-opd", RETENTION),
    ("trust-region-holds-as-well", 0, "sdpo-trust-region", LEARNED),
    ("trust-region-holds-as-well", 1, "sdpo-trust-region", RETENTION),
    ("denser-is-not-better", 0, "sdpo-masked", LEARNED),
    ("denser-is-not-better", 1, "sdpo-masked", KL),
    ("thoughts-in-the-privilege-add-noise", 0, "answer-alone", LEARNED),
    ("reference-kl-keeps-more", 1, "grpo-kl", KL),
    ("sd-zero-above-rft", 0, "sd-zero", LEARNED),
    ("auto-npo-above-grpo", 0, "auto-npo-hard", LEARNED),
]
"""Claim, number of its quantity, the arm that the claim calls better, and the metric. A smaller KL is better."""


@pytest.mark.parametrize(("name", "place", "arm", "metric"), BETTER, ids=lambda each: str(each))
def test_a_quantity_is_above_0_if_the_arm_that_the_claim_prefers_is_better(
    name: str, place: int, arm: str, metric: str
) -> None:
    (claim,) = (claim for claim in CLAIMS if claim.name == name)
    assert claim.measure is not None
    summaries = {each.label: [make_run()] for each in claim.taken(full=True)}
    better = make_run()
    better["metrics"][metric]["mean"] += -0.1 if metric == KL else 0.1
    summaries[arm] = [better]
    (value,) = claim.measure(Evidence(summaries, {label: [Path()] for label in summaries}))[place].values
    assert value is not None
    assert value > 0


KEEPS = {
    "dft-keeps-more": ("sft", "dft"),
    "kl-sft-keeps-more": ("sft", "kl-sft"),
    "own-samples-keep-more": ("sft", "rft"),
    "replay-keeps-more": ("sft", "replay"),
    "ewc-keeps-more": ("sft", "ewc"),
    "lwf-keeps-more": ("sft", "lwf"),
    "olora-keeps-more": ("sft-lora", "olora"),
    "beta-opsd-keeps-more": ("beta-opsd-at-1", "beta-opsd"),
    "reference-kl-keeps-more": ("grpo", "grpo-kl"),
}


@pytest.mark.parametrize("name", KEEPS)
def test_an_arm_that_forgets_less_at_the_same_score_makes_the_quantity_positive(name: str) -> None:
    (claim,) = (claim for claim in CLAIMS if claim.name == name)
    assert claim.measure is not None
    dear, cheap = _losing(0.6, 1.0), _losing(0.2, 1.0)
    for run in (dear, cheap):
        run["metrics"] = make_run()["metrics"]
    loser, keeper = KEEPS[name]
    (value,) = claim.measure(Evidence({loser: [dear], keeper: [cheap]}, {}))[0].values
    assert value == pytest.approx(36.0)  # at a score of .9


def test_a_run_that_fails_is_named(tmp_path: Path) -> None:
    one = runs.job(ClaimArm("sft", "sft", {"model.path": str(tmp_path / "nothing")}), 0, full=False)
    with pytest.raises(RunError, match=f"run {one.name}: .*nothing"):
        runs.carry_out([one], tmp_path / "runs", workers=1, on_done=lambda job: None)


def five_and_more(seeds: Sequence[int]) -> list[Quantity]:
    return [_quantity(*(5.0 + seed for seed in seeds))]


def test_an_experiment_needs_no_runs(tmp_path: Path) -> None:
    claim = Claim("c", "It is so.", "arXiv 1", experiment=five_and_more)
    (found,) = find([claim], tmp_path, seeds=[0, 1, 2], workers=1)
    assert found.quantities[0].values == [5.0, 6.0, 7.0]
    assert found.verdict == "reproduced"
    made = {"command": "holdfast findings c", "seeds": [0, 1, 2], "commit": None, "date": "today", "runs": 0}
    here = PurePath("docs/f.md")
    (page,) = as_pages([found], made, here).values()
    assert "| more | +6 points | +3.52 to +8.48 | holds | +5, +6, +7 |" in page
    assert "# c\n\nIt is so. Source: arXiv 1.\n\nVerdict: **reproduced**.\n" in page
    assert "the lab is small" not in page
    made |= {"runs": 2, "commits": ["abc", "def"], "run_seconds": 90.0}
    (page,) = as_pages([found], made, here).values()
    assert "2 runs, completed by commit abc, def, took 2 minutes of one core." in page
    assert table_rows([found])[0][-1] == "reproduced"


def test_a_claims_page_has_its_title_and_wraps_what_it_says() -> None:
    claim = Claim("c", " ".join(["so"] * 100) + ".", "arXiv 1", experiment=five_and_more, title="All of them")
    finding = Finding(claim, [_quantity(5, 6, 7)], 0.0)
    made = {"command": "holdfast findings c", "seeds": [0, 1, 2], "commit": None, "date": "today", "runs": 0}
    (page,) = as_pages([finding], made, PurePath("docs/f.md")).values()
    assert page.startswith("# All of them\n\nso so")
    statement = page.split("\n\n")[1]
    assert statement.count("so") == 100
    assert max(map(len, statement.splitlines())) <= 120
    pages = as_pages([finding, finding], made, PurePath("docs/f.md"))
    assert pages[PurePath("docs/f/c.md")].startswith("# c\n")


def test_several_claims_have_an_overview_and_a_page_each() -> None:
    claims = [Claim(name, "It is so.", "arXiv 1", experiment=five_and_more) for name in ("c", "d")]
    findings = [Finding(claims[0], [_quantity(5, 6, 7)], 0.0), Finding(claims[1], [_quantity(1, 5, 9)], 0.0)]
    made = {"command": "holdfast findings", "seeds": [0, 1, 2], "commit": None, "date": "today", "runs": 0}
    pages = as_pages(findings, made, PurePath("docs/f.md"))
    assert [str(path) for path in pages] == ["docs/f.md", "docs/f/c.md", "docs/f/d.md"]
    overview, reproduced, inconclusive = pages.values()
    assert "| [c](f/c.md) | more | +6 points | +3.52 to +8.48 | 3 | reproduced |" in overview
    assert "Of 2 claims, reproduced: 1; partly reproduced: 0; inconclusive: 1; not reproduced: 0." in overview
    assert "the lab is small" not in overview + reproduced
    assert "Verdict: **inconclusive**." in inconclusive
    assert "the lab is small" in inconclusive
    assert "(../f.md#how-to-read-this)" in inconclusive
    assert "## How to read this" in overview


def test_the_commit_is_the_checkouts() -> None:
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    if head.returncode:
        assert commit() is None
    else:
        assert (commit() or "").startswith(head.stdout.strip()[:12])


@pytest.mark.slow
def test_the_command_makes_runs_reads_them_and_reuses_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {**runs.STREAM, "tasks": ["lab:calculation"], "suites": ["lab:old-facts"]}
    small["train"] = {**runs.STREAM["train"], "steps": 2, "prompts_per_step": 2}
    small["eval"] = {"max_items": 4, "kl_items": 2, "probe_steps": 1, "probe_items": 4, "samples": 0}
    monkeypatch.setattr(runs, "STREAM", small)
    holdfast = Commands(tmp_path, capsys)
    arguments = ("findings", "sdft-above-sft", "--quick", "--seeds", "2", "-o", tmp_path / "runs")
    done = holdfast(*arguments, "--json", tmp_path / "f.json", "--page", tmp_path / "f.md")
    assert done.code == 0, done.err
    assert "4 of 4 runs" in done.err
    written = json.loads((tmp_path / "f.json").read_text())
    assert written["seeds"] == [0, 1]
    (finding,) = written["findings"]
    assert finding["verdict"] in ("reproduced", "partly reproduced", "inconclusive", "not reproduced")
    assert finding["verdict"] in done.out
    assert "# sdft-above-sft" in (tmp_path / "f.md").read_text()
    made = sorted(tmp_path.glob("runs/*/summary.json"))
    times = [path.stat().st_mtime_ns for path in made]
    assert len(made) == 4
    assert holdfast(*arguments, "--quiet").code == 0
    assert [path.stat().st_mtime_ns for path in made] == times
    found = provenance([path.parent for path in made])
    assert found.commits == (written["commit"] or "unknown",)
    assert (found.runs, found.seconds) == (written["runs"], pytest.approx(written["run_seconds"]))
    assert found.seconds > 0


@pytest.mark.slow
def test_the_closed_form_baseline_takes_noise_out_of_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    from holdfast.findings import variance

    monkeypatch.setattr(variance, "BATCHES", 4)
    less, less_by_few, bias = variance.gradient_noise([0, 1])
    assert min(v for each in (less, less_by_few) for v in each.values if v is not None) > 0
    # Of four batches; an estimate without noise would be 0.
    assert all(v is not None and abs(v) < 0.1 for v in bias.values), bias.values


def test_a_squared_norm_is_that_of_the_mean() -> None:
    from holdfast.findings.variance import _Mean

    generator = torch.Generator().manual_seed(0)
    of_noise, of_signal = _Mean(), _Mean()
    for _ in range(400):
        noise = torch.randn(50, generator=generator)
        of_noise.add(noise)
        of_signal.add(noise + 0.5)
    # The mean of 400 draws of noise has a squared norm of 50/400 = .125.
    assert abs(of_noise.squared_norm()) < 0.06
    assert of_signal.squared_norm() == pytest.approx(50 * 0.25, rel=0.1)


def test_an_unknown_claim_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = Commands(tmp_path, capsys)("findings", "sdft-above-stf")
    assert done.code == 2
    assert "did you mean 'sdft-above-sft'?" in done.err
    listed = Commands(tmp_path, capsys)("findings", "--list")
    assert all(claim.name in listed.out for claim in CLAIMS)


def test_a_claims_old_name_is_answered_with_the_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = Commands(tmp_path, capsys)("findings", "holdfast-on-the-front")
    assert done.code == 2
    assert "it is called 'anchored-on-the-front' now" in done.err


@pytest.mark.slow
def test_a_model_half_way_is_scored_as_the_trained_one_was(tmp_path: Path) -> None:
    """Of a model that was trained for one step hardly, so that half of the way is no way."""
    config = {
        "tasks": ["lab:tools"],
        "suites": ["lab:old-facts"],
        "recipe": "sft",
        "train": {
            "steps": 1,
            "prompts_per_step": 2,
            "learning_rate": 1e-9,
            "max_prompt_length": 160,
            "max_completion_length": 48,
        },
        "eval": {"max_items": 16, "kl_items": 0, "response_items": 0, "drift_weights": 0, "samples": 0},
    }
    folder = tmp_path / "run"
    summary = holdfast.run(config, output_dir=folder)
    (claim,) = [each for each in CLAIMS if each.name == "half-way-keeps-more"]
    assert claim.measure is not None
    kept, net = claim.measure(Evidence({"sft": [summary]}, {"sft": [folder]}))
    assert (kept.values, net.values) == ([0.0], [0.0])


def test_answers_cut_off_are_the_tasks_at_the_end() -> None:
    ends = [{"scores": {"a": {"truncated": share}, "old": {"truncated": 1.0}}} for share in (0.9, 0.25)]
    assert truncated({"order": ["a"], "evaluations": ends}) == pytest.approx(25.0)


def test_forms_are_looked_for_where_another_was_asked_for() -> None:
    answers = {"a": "[ 3 ]", "b": "answer : red", "c": "{ out = red }", "d": "[ 4 ]", "e": "red"}
    asked = {"a": "label", "b": "label", "c": "sentence", "d": "brackets", "e": "sentence"}
    # Of the four that ask for neither brackets nor braces, two have one of them.
    assert foreign_form(answers, asked) == pytest.approx(0.5)
    assert foreign_form({"d": "[ 4 ]"}, asked) is None


def test_every_prompt_that_is_looked_at_names_a_form() -> None:
    asked = asked_forms()
    assert set(asked.values()) == set(FORMATS)
    assert len(asked) == sum(len(lab_suite(name).test) for name in ("old-skills", "old-facts", "instruction-format"))
    assert all(asked[example.id] == example.answer for example in lab_suite("instruction-format").test)


def test_recipes_are_ordered_by_improvement_minus_forgetting() -> None:
    (claim,) = [each for each in CLAIMS if each.name == "anchored-on-the-front"]
    ends = {"anchored": (0.8, 0.1), "eager": (0.9, 0.5), "worse": (0.7, 0.1), "still": (0.0, 0.0)}
    found = {f"{label}/{order}": [_ended(*end), _ended(*end)] for label, end in ends.items() for order in ORDERS}
    assert claim.table is not None
    table = claim.table(Evidence(found, {}))
    assert [row[0] for row in table.rows] == ["anchored", "worse", "eager", "still"]
    assert table.rows[0][1:8] == ("70.0", "80.0", "10.0", "80.0 / 10.0", "80.0 / 10.0", "", "")
    assert table.rows[2][6:8] == ("+10.0 (+10.0 to +10.0)", "+40.0 (+40.0 to +40.0)")


def test_the_table_has_the_budgets_and_the_scores_of_arms() -> None:
    table = budgets(Evidence({"a": [_ended(0.8, 0.1), _ended(0.6, 0.1)]}, {}))
    (row,) = table.rows
    budget = make_run()["budget"]
    cells = dict(zip(table.head, row, strict=True))
    assert (cells["run"], cells["score after the stage"], cells["forgetting"]) == ("a", "70.0", "10.0")
    assert cells["generated tokens"] == f"{budget['generated_tokens']:,}"


def test_every_recipe_is_compared_unless_the_tasks_lack_its_data() -> None:
    def name(recipe: Any) -> str:
        return recipe if isinstance(recipe, str) else recipe["name"]

    compared = {name(recipe) for recipe in RIVALS.values()} | {"anchored"}
    provided = frozenset.intersection(*(lab_task(task).provides() for task in TASKS))
    for recipe in RECIPES.values():
        assert (recipe.name in compared) == (recipe().required() <= provided), recipe.name


def test_runs_with_the_same_evaluation_before_the_first_stage_share_it() -> None:
    one, other = (
        runs.job(ClaimArm("a", recipe), seed, full=False).config for recipe, seed in (("sft", 0), ("grpo", 1))
    )
    turned = runs.job(ClaimArm("a", "sft", {"tasks": ["lab:tools", "lab:calculation"]}), 0, full=False).config
    longer = runs.job(ClaimArm("a", "sft", {"train.max_completion_length": 64}), 0, full=False).config
    assert runs.beginning_of(one) == runs.beginning_of(other) == runs.beginning_of(turned) != runs.beginning_of(longer)

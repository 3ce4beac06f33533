"""`holdfast.findings.records`, `holdfast.findings.record`, `holdfast.findings.rates`, `holdfast.findings.curves`."""

from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.errors import RunError
from holdfast.findings.arm import ClaimArm
from holdfast.findings.claims import CLAIMS
from holdfast.findings.curves import curve_figures, curve_rows, curves
from holdfast.findings.power import detectable
from holdfast.findings.quantity import at_equal_tokens
from holdfast.findings.rates import CHOSEN, at_edge, choose
from holdfast.findings.record import RunRecord
from holdfast.findings.records import RecordStore, read_kept
from holdfast.findings.scheduler import arms_of, chosen_rates, tuning_runs
from holdfast.findings.stream import FACTS, STEPS

ROOT = Path(__file__).parents[2]


def record(task: list[float], suite: list[float], **more: object) -> RunRecord:
    """A run of one task and one suite, with their scores after each stage."""
    stages = [{"sets": {"new": {"score": t, "kl": 0.1}, "old": {"score": s, "kl": 0.2}}} for t, s in zip(task, suite)]
    return RunRecord({"tasks": ["new"], "suites": ["old"], "stages": stages, **more})


def test_numbers_of_a_run() -> None:
    run = record([0.2, 0.7], [0.9, 0.8])
    assert run.learned() == pytest.approx(70)
    assert run.gain() == pytest.approx(50)
    assert run.lost() == pytest.approx(10)
    assert run.kept() == pytest.approx(80)
    assert run.overall() == pytest.approx(75)
    assert run.kl_on_old() == pytest.approx(0.2)
    assert run.lost("nll") is None


def test_earlier_tasks_are_lost_since_their_own_stages() -> None:
    stages = [{"sets": {"a": {"score": a}, "b": {"score": b}}} for a, b in ((0.2, 0.2), (0.9, 0.2), (0.6, 0.8))]
    run = RunRecord({"tasks": ["a", "b"], "suites": [], "stages": stages})
    assert run.learned() == pytest.approx(85)
    assert run.forgot() == pytest.approx(30)
    assert run.final() == pytest.approx(70)


def test_steps_and_tokens_are_read_off_the_curve() -> None:
    curve = [
        {"step": 0, "tokens": 0, "task": 0.2, "suites": 1.0},
        {"step": 10, "tokens": 100, "task": 0.4, "suites": 0.9},
        {"step": 20, "tokens": 200, "task": 0.8, "suites": 0.8},
    ]
    run = record([0.2, 0.8], [1.0, 0.8], curve=curve)
    assert run.steps_to(0.6) == pytest.approx(15)
    assert run.steps_to(0.95) == 20
    assert run.at_tokens(150, "task") == pytest.approx(60)
    assert run.at_tokens(300, "task") is None


def test_a_rate_at_the_edge_says_so() -> None:
    assert [at_edge(rate, (1.0, 2.0, 4.0)) for rate in (1.0, 2.0, 4.0)] == ["lowest tried", "", "highest tried"]


def test_the_rate_is_the_one_with_the_best_mean_of_new_and_old() -> None:
    arm = ClaimArm("a", "sft", FACTS, rates=(1.0, 2.0, 4.0))
    runs = {
        1.0: [record([0.2, 0.5], [1.0, 1.0])],
        2.0: [record([0.2, 0.8], [1.0, 0.9])],
        4.0: [record([0.2, 0.9], [1.0, 0.5])],
    }
    assert choose(arm, runs) == 2.0
    tied = dict.fromkeys(arm.rates, runs[1.0])
    assert choose(arm, tied) == 1.0
    assert choose(arm.at(3.0), {}) == 3.0


def test_where_only_learning_counts_the_rate_that_learns_most_is_taken() -> None:
    arm = ClaimArm("a", "sft", STEPS, rates=(1.0, 2.0))
    runs = {1.0: [record([0.2, 0.3], [1.0, 1.0])], 2.0: [record([0.2, 0.5], [1.0, 0.4])]}
    assert choose(arm, runs) == 2.0
    assert choose(replace(arm, stream=FACTS), runs) == 1.0


def test_the_quick_form_knows_the_rates_that_the_kept_records_choose() -> None:
    store = RecordStore(ROOT / "runs" / "none", ROOT / "benchmarks" / "results" / "findings.jsonl.gz")
    arms = [arm for arm in arms_of([claim for claim in CLAIMS if claim.is_quick]) if arm.rate is None]
    assert chosen_rates(arms, store, full=True) == CHOSEN == chosen_rates(arms, store, full=False)
    assert tuning_runs(arms, full=False) == []


def test_runs_that_agree_in_their_settings_are_one_run(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.write("sft-w3-0123456789", {"arm": "sft"})
    assert "sft-0.0001-w3-0123456789" in store
    assert store["sft-0.0001-w3-0123456789"] == {"arm": "sft"}
    assert RecordStore(tmp_path)["sft-0.0001-w3-0123456789"] == {"arm": "sft"}
    for other in ("sft-w4-0123456789", "sft-w3-0123456780", "sft-w3-0123456789+distance", "base-w3"):
        assert other not in store
        with pytest.raises(KeyError):
            store[other]
    store.write("voice-w3-0123456780+distance", {"arm": "voice"})
    assert store["sft-w3-0123456780"] == {"arm": "voice"}


def test_records_are_kept_to_the_byte_and_read_again(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.write("b", {"version": 1, "x": 0.25})
    store.write("a", {"version": 1, "x": 0.5})
    assert "a" in store
    assert "c" not in store
    store.keep(tmp_path / "kept.jsonl.gz")
    first = (tmp_path / "kept.jsonl.gz").read_bytes()
    again = RecordStore(tmp_path / "elsewhere", tmp_path / "kept.jsonl.gz")
    assert again.names() == ["a", "b"]
    assert again["b"] == {"version": 1, "x": 0.25}
    again.keep(tmp_path / "again.jsonl.gz")
    assert (tmp_path / "again.jsonl.gz").read_bytes() == first


def test_a_file_that_holds_no_records_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such file"):
        read_kept(tmp_path / "missing.jsonl.gz")
    (tmp_path / "text.jsonl.gz").write_text("text")
    with pytest.raises(RunError, match="is no file of records"):
        read_kept(tmp_path / "text.jsonl.gz")


def test_the_detectable_effect_shrinks_with_the_spread_and_the_worlds() -> None:
    assert detectable([1.0]) is None
    assert detectable([1.0, 1.0, 1.0]) == 0
    few, many = detectable([0.0, 2.0] * 2), detectable([0.0, 2.0] * 8)
    assert few is not None
    assert many is not None
    assert many < few / 2
    assert detectable([0.0, 2.0] * 2, 4) == few
    assert detectable([0.0, 2.0] * 2, 2) > few


def test_curves_are_means_over_worlds() -> None:
    def run(lift: float) -> RunRecord:
        points = [{"step": 0, "tokens": 0, "task": 0.2, "suites": 1.0}]
        points += [{"step": 20, "tokens": 9, "task": 0.4 + lift, "suites": 0.9 - lift}]
        return record([0.2, 0.4], [1.0, 0.9], curve=points)

    found = curves({"sft": [run(0.0), run(0.2)]})
    assert found["sft"][1].task == pytest.approx(50)
    assert found["sft"][1].suites == pytest.approx(80)
    assert found["sft"][1].task_sd == pytest.approx(14.142, abs=0.001)
    assert curve_rows(found, {"sft": 1e-4})[1] == ("", "", "20", "50.0", "14.1", "80.0", "14.1")
    learning, forgetting = curve_figures(found, {"sft": 1e-4})
    assert learning.spec["data"][0]["y"] == pytest.approx([20, 50])
    assert forgetting.spec["data"][0]["y"] == pytest.approx([100, 80])


def test_equal_tokens_are_those_of_the_arm_that_needs_fewer() -> None:
    def run(tokens: int, task: float) -> RunRecord:
        points = [
            {"step": 0, "tokens": 0, "task": 0.0, "suites": 1.0},
            {"step": 20, "tokens": tokens, "task": task, "suites": 1.0},
        ]
        spent = {"generated_tokens": 0, "trained_tokens": tokens}
        return record([0.0, task], [1.0, 1.0], curve=points, spent=spent)

    quantity = at_equal_tokens("slow", "fast", "task")
    assert not quantity.decides
    assert quantity.measure({"slow": run(400, 0.8), "fast": run(100, 0.5)}) == pytest.approx(20 - 50)
    assert (
        quantity.measure(
            {"slow": record([0.0, 0.8], [1.0, 1.0], curve=[], spent=run(1, 0).data["spent"]), "fast": run(100, 0.5)}
        )
        is None
    )

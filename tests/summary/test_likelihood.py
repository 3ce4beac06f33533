"""`holdfast.summary.likelihood`: what a run and a comparison say of sets that nothing judges."""

import copy
from typing import Any

import jsonschema
import pytest

from holdfast.cli.summary_text import summary_as_text
from holdfast.measure.matched import stage_trajectory
from holdfast.summary.run_verdict import run_verdict
from holdfast.summary.schema import summary_schema
from holdfast.summary.upgrade import upgrade
from holdfast.summary.verdict import comparison_verdict
from summary_factory import FAILING, SUITES, TASKS, Profile, make_comparison, make_run, run_inputs, summary_of

SCHEMA = jsonschema.Draft202012Validator(summary_schema())
FREE = (*TASKS, *SUITES, *(f"{task}-ood" for task in TASKS))
"""Every set."""

IDLE = Profile(ceiling=0.1, speed=0.0, forget=0.0, drift=0.0)
"""A recipe that changes nothing but the noise."""


@pytest.fixture(scope="module")
def free() -> dict[str, Any]:
    """A run in which nothing is judged, and which learns and forgets."""
    return make_run("sft", n=80, unjudged=FREE)


def test_no_accuracy_is_anywhere(free: dict[str, Any]) -> None:
    SCHEMA.validate(free)
    assert upgrade(free) is free
    assert {score["mean"] for e in free["evaluations"] for score in e["scores"].values()} == {None}
    assert {completion["reward"] for s in free["samples"] for completion in s["completions"]} == {None}
    assert all(probe["scores"] == {} and probe["nll"] for probe in free["probes"])
    scores = {
        name: block
        for name, block in free["metrics"].items()
        if name not in ("nll", "probability", "kl_to_base", "kl_forgetting")
    }
    assert all(value is None or value == {} for value in leaves(scores)), scores
    assert free["metrics"]["nll"]["mean"] > 0
    assert "point" not in " ".join(free["verdict"]).replace("forgetting in points does not count", "")
    text = summary_as_text(free)
    assert "not judged" in text
    assert "0.0" not in text.split("NLL, nats per token")[0]


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict) and value:
        return [leaf for each in value.values() for leaf in leaves(each)]
    return [value]


def test_a_run_learns_and_forgets_by_the_paired_change(free: dict[str, Any]) -> None:
    headline, *rest = free["verdict"]
    assert headline == (
        "After 4 stages sft learned calculation, facts, tools and programs: the NLL of the demonstrations fell."
    )
    said = " ".join(rest)
    for entry in free["nll_changes"]:
        numbers = f"{entry['set']} {entry['before']:.3f} to {entry['after']:.3f} (change {entry['change']:+.3f}"
        assert numbers in said
        assert entry["judged"] is False
    spans = {(e["set"], e["what"]): (e["from_stage"], e["to_stage"], e["outcome"]) for e in free["nll_changes"]}
    assert spans["facts", "learning"] == (0, 2, "fell")
    assert spans["facts", "forgetting"] == (2, 4, "rose")
    assert spans["old-facts", "forgetting"] == (0, 4, "rose")
    assert ("programs", "forgetting") not in spans
    assert spans["facts-ood", "transfer"][2] == "fell"
    assert "calculation" in said.split("NLL at the end, from when learned")[1]
    assert ": forgotten" in said
    assert any(s.startswith("Not judged: calculation, facts") for s in rest)


def test_a_change_by_chance_is_neither_learned_nor_forgotten() -> None:
    idle = make_run("sft", n=40, unjudged=FREE, profile=IDLE)
    outcomes = [entry["outcome"] for entry in idle["nll_changes"]]
    assert outcomes.count("not shown") >= 0.8 * len(outcomes)
    one = make_run("sft", n=1, samples=1, unjudged=FREE)
    assert {entry["outcome"] for entry in one["nll_changes"]} == {"not shown"}
    assert one["verdict"][0].startswith("After 4 stages it is not shown that sft learned")
    assert any("1 item, so no interval" in sentence for sentence in one["verdict"])


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("fell", "sft learned facts"), ("rose", "it is not shown that sft learned facts"), ("not shown", "it is not")],
)
def test_turning_the_outcome_round_turns_the_headline_round(outcome: str, words: str) -> None:
    run = make_run("sft", order=("facts",), n=30, unjudged=("facts",))
    for entry in run["nll_changes"]:
        entry["outcome"] = outcome
    assert words in run_verdict(run)[0]


def test_a_task_that_did_not_learn_is_named() -> None:
    run = make_run("sft", n=30, unjudged=FREE)
    next(e for e in run["nll_changes"] if e["set"] == "facts" and e["what"] == "learning")["outcome"] = "not shown"
    assert run_verdict(run)[0].endswith("It is not shown that it learned facts.")


def test_judged_and_unjudged_sets_stay_apart() -> None:
    """The numbers of the judged sets are those of a run in which the others were never scored."""
    mixed, plain = make_run("sft", n=80, unjudged=("facts", "old-facts")), make_run("sft", n=80)
    SCHEMA.validate(mixed)
    assert "facts" not in mixed["metrics"]["final_score"]["per_task"]
    judged = [v for name, v in plain["metrics"]["final_score"]["per_task"].items() if name != "facts"]
    assert mixed["metrics"]["final_score"]["mean"] == pytest.approx(sum(judged) / 3)
    assert set(plain["metrics"]["loss_of_earlier"]["per_set"]) - set(
        mixed["metrics"]["loss_of_earlier"]["per_set"]
    ) == {
        "facts",
        "old-facts",
    }
    assert "points on the judged tasks" in mixed["verdict"][0]
    (said,) = [sentence for sentence in mixed["verdict"] if sentence.startswith("Not judged: ")]
    assert said.startswith("Not judged: facts and old-facts.")
    assert not any(sentence.startswith("Not judged") for sentence in plain["verdict"])
    kept = make_run("sft", n=40, unjudged=("facts",), profile=IDLE)["verdict"]
    assert any(said.startswith("No judged earlier task or suite is shown to have fallen") for said in kept)
    assert {e["set"] for e in mixed["nll_changes"]} == {"facts", "old-facts"}
    assert stage_trajectory(mixed, 2) is None
    matched = stage_trajectory(mixed, 1)
    assert matched is not None
    assert "old-facts" not in matched.reference


def test_judged_sets_with_demonstrations_have_changes_but_no_claims() -> None:
    run = make_run("sft", n=60, demonstrations=True)
    SCHEMA.validate(run)
    assert {entry["judged"] for entry in run["nll_changes"]} == {True}
    assert run["verdict"] == make_run("sft", n=60)["verdict"]


def test_an_unfinished_run_of_unjudged_tasks_says_so() -> None:
    assert run_verdict(make_run("sft", n=20, unjudged=FREE, stages=0)) == [
        "No stage is finished yet, so there is nothing to conclude about learning or forgetting."
    ]
    verdict = make_run("sft", n=20, unjudged=FREE, stages=2)["verdict"]
    assert "The run is not complete: 2 of 4 stages are done." in verdict


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    return make_comparison(("sft", "sdft"), n=60, unjudged=FREE)


def test_a_comparison_without_judged_sets_compares_the_nll(compared: dict[str, Any]) -> None:
    SCHEMA.validate(compared)
    verdict = compared["verdict"]
    assert verdict[0].startswith("Not judged: calculation, facts, tools, programs")
    entry = next(p for p in compared["paired"] if p["metric"] == "nll_forgetting")
    sentence = next(s for s in verdict if s.startswith("NLL, rise on earlier skills: best sdft"))
    assert f"difference of {abs(entry['difference']):.3f} nats" in sentence
    assert "This is a difference" in sentence
    assert compared["pareto"] == []
    assert all(m["difference"] is None for m in compared["matched"])
    assert not any("points" in s for s in verdict)
    text = summary_as_text(compared)
    assert "nll of demonstrations, nats" in text
    assert "final score" not in text


def test_a_difference_in_nats_that_is_not_shown_is_inconclusive(compared: dict[str, Any]) -> None:
    summary = copy.deepcopy(compared)
    for entry in summary["paired"]:
        if entry["metric"].startswith("nll"):
            entry.update(p=0.2, p_holm=0.2)
    sentences = [s for s in comparison_verdict(summary) if s.startswith("NLL")]
    assert len(sentences) == 2
    assert all("Inconclusive: " in sentence for sentence in sentences)
    single = make_comparison(("sft", "sdft"), seeds=(0,), n=30, unjudged=FREE)
    assert any("1 run, so no interval" in s for s in single["verdict"])
    alone = make_comparison(("sft",), n=30, unjudged=FREE)
    assert any(s.startswith("NLL, change when learned: sft -") for s in alone["verdict"])


def test_a_comparison_of_both_kinds_has_both() -> None:
    mixed = make_comparison(("sft", "sdft"), n=60, unjudged=("facts",))
    SCHEMA.validate(mixed)
    assert any(s.startswith("Not judged: facts.") for s in mixed["verdict"])
    assert mixed["recipes"][0]["metrics"]["final_score"]["mean"] is not None
    nothing = make_comparison(("sft",), n=20, unjudged=FREE, missing=[("sft", s, 0) for s in range(3)])
    assert nothing["verdict"][0] == "No run is complete yet, so there is nothing to conclude."


@pytest.mark.parametrize(
    ("labels", "profiles", "words"),
    [
        (("sft",), {}, "points on the{} tasks at the end"),
        (("sft", "sdft"), {"sft": FAILING}, "Only sdft learned the{} tasks"),
        (("sft", "sdft"), {"sft": FAILING, "sdft": FAILING}, "No recipe learned the{} tasks"),
        (("sft", "sdft"), {"sft": FAILING}, ") failed to learn the{} tasks"),
    ],
)
def test_the_sentences_of_a_comparison_of_both_kinds_are_about_the_judged_tasks(
    labels: tuple[str, ...], profiles: Any, words: str
) -> None:
    """A task that nothing judges may be learned where no judged one is."""
    for unjudged, which in (("facts", " judged"), ("old-facts", "")):
        verdict = make_comparison(labels, profiles=profiles, n=60, unjudged=(unjudged,))["verdict"]
        assert any(words.format(which) in sentence for sentence in verdict)


def test_scores_by_exact_match_that_an_earlier_version_gave_are_not_kept() -> None:
    """Such a version began the run, and a later one took it up: nothing judges the set, from the beginning on."""
    inputs = run_inputs("sft", n=40, unjudged=("facts",))
    for each in inputs["evaluations"][:3]:
        each["sets"]["facts"] |= {"mean": 0.0, "ci95": [0.0, 0.1], "reward": 0.0, "format_ok": 1.0, "nll": None}
        each["items"]["facts"] = [0.0] * 40
        each["nll"] = {}
        for sample in each["samples"]["facts"]:
            sample["reward"] = 0.0
    for probe in inputs["probes"][:5]:
        probe["scores"]["facts"] = 0.0
    summary = summary_of(**inputs)
    SCHEMA.validate(summary)
    assert {e["scores"]["facts"]["mean"] for e in summary["evaluations"]} == {None}
    assert all("facts" not in probe["scores"] for probe in summary["probes"])
    assert all(c["reward"] is None for s in summary["samples"] if s["set"] == "facts" for c in s["completions"])
    assert "facts" not in summary["metrics"]["learned_score"]["per_task"]
    assert not any("facts 0.0" in sentence for sentence in summary["verdict"])
    judged = summary_of(**run_inputs("sft", n=40))
    assert {e["scores"]["facts"]["mean"] is None for e in judged["evaluations"]} == {False}

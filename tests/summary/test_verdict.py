"""`holdfast.summary.verdict`: the sentences follow the numbers. If a number changes, its sentence changes too."""

import copy
import re
from typing import Any

import pytest

from guard_factory import guarded
from holdfast.summary.run_verdict import run_verdict
from holdfast.summary.verdict import comparison_verdict, matched_sentence, within_stages
from holdfast.summary.words import points
from summary_factory import FAILING, PROFILES, TASKS, make_comparison, make_run


@pytest.fixture(scope="module")
def two() -> dict[str, Any]:
    return make_comparison(("sft", "sdft"), n=200)


@pytest.fixture(scope="module")
def four() -> dict[str, Any]:
    return make_comparison(n=200)


@pytest.fixture
def entry(two: dict[str, Any]) -> dict[str, Any]:
    """The one matched entry as a verdict reads it, a copy to be altered."""
    return copy.deepcopy(dict(within_stages(two["matched"][0])))


def test_points() -> None:
    assert [points(x) for x in (0.1234, -0.00001, 1, -0.05)] == ["12.3", "0.0", "100.0", "-5.0"]


def test_the_headline_states_the_matched_difference(two: dict[str, Any]) -> None:
    (whole,) = two["matched"]
    m = within_stages(whole)
    low, high = m["ci95"]
    assert two["verdict"][0] == (
        f"sft forgot {points(m['difference'])} points more of earlier skills than sdft "
        f"within a stage, at a matched new-task score (95% CI {points(low)} to {points(high)}, 3 runs)."
    )
    assert points(m["matched_score"]) in two["verdict"][1]
    assert two["verdict"][2] == (
        "Forgetting at the two points around the match, on average: "
        + " and ".join(" to ".join(points(x) for x in sorted(m["bounds"][s])) + f" of {m[s]}" for s in "ab")
        + "."
    )
    low, high = whole["ci95"]
    assert two["verdict"][3] == (
        f"With what earlier stages had cost by then, sft minus sdft is {points(whole['difference'])} points (95% CI "
        f"{points(low)} to {points(high)}, 3 runs). This part also depends on how far each learned earlier tasks, "
        "which is not matched."
    )


def test_losses_of_earlier_stages_are_no_headline(two: dict[str, Any]) -> None:
    """They are not matched: a faster learner of the same curve has lost more there."""
    summary = copy.deepcopy(two)
    shown, open_ = {"difference": 0.2, "ci95": [0.1, 0.3]}, {"difference": 0.01, "ci95": [-0.01, 0.03]}
    summary["matched"][0].update(shown, p=0.001, p_holm=0.001)
    summary["matched"][0]["within_stage"].update(open_, p=0.3, p_holm=0.3)
    headline, *rest = comparison_verdict(summary)
    assert headline.startswith(
        "Inconclusive: no difference in forgetting was shown between sft and sdft within a stage"
    )
    assert "1.0 points (95% CI -1.0 to 3.0, 3 runs)" in headline
    assert any("sft minus sdft is 20.0 points" in s and "not matched" in s for s in rest)


def test_stages_in_which_nothing_is_left_to_lose_compare_nothing(two: dict[str, Any]) -> None:
    summary = copy.deepcopy(two)
    none = dict.fromkeys(("loss_a", "loss_b", "difference", "ci95", "p", "p_holm", "bounds"))
    summary["matched"][0]["within_stage"].update(none, n=0)
    assert (
        "Forgetting could not be compared between sft and sdft: no pair of runs has an earlier task or a retention "
        "suite with something to lose."
    ) in comparison_verdict(summary)


def test_turning_the_difference_round_turns_the_sentence_round(entry: dict[str, Any]) -> None:
    entry.update(difference=-0.123, ci95=[-0.165, -0.081], p=0.001, p_holm=0.006)
    assert matched_sentence(entry) == (
        "sdft forgot 12.3 points more of earlier skills than sft within a stage, at a matched new-task score "
        "(95% CI 8.1 to 16.5, 3 runs)."
    )


def test_a_difference_whose_sign_is_open_is_not_claimed(entry: dict[str, Any]) -> None:
    entry.update(difference=0.05, ci95=[0.03, 0.07], p=0.001, p_holm=0.001)
    entry["bounds"]["difference"] = [0.01, 0.09]
    assert matched_sentence(entry).startswith("sft forgot 5.0 points more")
    entry["bounds"]["difference"] = [-0.01, 0.11]
    for ci95, p in (([0.03, 0.07], 0.001), (None, None)):
        entry.update(ci95=ci95, p=p, p_holm=p)
        sentence = matched_sentence(entry)
        assert sentence.startswith("Inconclusive: no difference in forgetting was shown between sft and sdft")
        assert "anywhere from -1.0 to 11.0 by where the losses lie between two probes" in sentence


def test_stages_that_jump_over_the_match_are_counted(two: dict[str, Any]) -> None:
    coarse = make_comparison(("sft", "sdft"), n=200, probe_steps=20)
    (m,) = coarse["matched"]
    assert (m["difference"], m["stages_used"], m["stages_too_wide"]) == (None, 0, 12)
    assert (
        "Forgetting could not be compared between sft and sdft: a score rose by more than 15.0 points between the two "
        "probes around the match (lower `eval.probe_steps` or `eval.probe_gap`)."
    ) in coarse["verdict"]
    some = copy.deepcopy(two)
    some["matched"][0].update(stages_used=9, stages_skipped=3, stages_too_wide=2)
    assert any(
        s.startswith("Stages that were not matched, because a score rose") and s.endswith(": 2 of 12 of sft and sdft.")
        for s in comparison_verdict(some)
    )
    assert not any("were not matched" in s for s in two["verdict"])


def test_an_interval_with_zero_in_it_shows_nothing(entry: dict[str, Any]) -> None:
    entry.update(difference=0.02, ci95=[-0.01, 0.05], p=0.2, p_holm=0.2)
    sentence = matched_sentence(entry)
    assert sentence.startswith("Inconclusive: no difference in forgetting was shown between sft and sdft")
    assert "sft minus sdft is 2.0 points (95% CI -1.0 to 5.0, 3 runs)" in sentence


def test_what_does_not_survive_correction_is_said_to_and_is_no_headline(four: dict[str, Any]) -> None:
    summary = copy.deepcopy(four)
    for m in summary["matched"]:
        m["within_stage"].update(difference=0.03, ci95=[0.01, 0.05], p=0.02, p_holm=0.12)
    assert "not significant after Holm's correction for all comparisons, p = 0.12" in matched_sentence(
        within_stages(summary["matched"][0])
    )
    headline = comparison_verdict(summary)[0]
    assert headline.startswith(
        "Inconclusive: no difference in forgetting was shown between any two of sft, sdft, sdpo and grpo"
    )
    assert "p = 0.12" in headline


def test_the_headline_is_the_largest_difference_that_stands(four: dict[str, Any]) -> None:
    summary = copy.deepcopy(four)
    for i, m in enumerate(summary["matched"]):
        within = m["within_stage"]
        within.update(difference=0.5, ci95=[-0.1, 1.1], p=0.09, p_holm=0.3, bounds=None)
        if i in (2, 4):
            within.update(difference=-0.02 * i, ci95=[-0.02 * i - 0.01, -0.02 * i + 0.01], p=0.001, p_holm=0.006)
    verdict = comparison_verdict(summary)
    assert verdict[0].startswith("grpo forgot 8.0 points more of earlier skills than sdft")
    others = next(s for s in verdict if s.startswith("Other pairs"))
    assert "grpo forgot 4.0 points more than sft (95% CI 3.0 to 5.0, 3 runs)" in others
    unclear = next(s for s in verdict if s.startswith("Inconclusive: no difference in forgetting"))
    assert unclear.count("95% CI -10.0 to 110.0") == 4


def test_one_run_has_no_interval_and_says_so() -> None:
    verdict = make_comparison(("sft", "sdft"), seeds=(0,), n=100)["verdict"]
    assert "1 run, so no interval" in verdict[0]
    assert any("no interval over runs, and differences may be chance" in s for s in verdict)
    assert not any("95%" in s or "Intervals are over runs" in s for s in verdict)


def test_equal_differences_in_all_runs_have_no_interval_either(entry: dict[str, Any]) -> None:
    entry.update(difference=0.1, ci95=None, p=None, p_holm=None)
    assert "the same in all 3 runs, so no interval" in matched_sentence(entry)


def test_without_probes_nothing_is_called_matched() -> None:
    verdict = make_comparison(("sft", "grpo"), probe_steps=0, n=200)["verdict"]
    assert "at the ends of the stages, unmatched" in verdict[0]
    assert verdict[1].startswith("Without probes, sft and grpo could not be matched")
    assert not any("at a matched" in s for s in verdict)


def test_a_recipe_that_did_not_learn_is_named_and_wins_nothing_by_it() -> None:
    summary = make_comparison(profiles={"grpo": FAILING}, n=100)
    verdict = summary["verdict"]
    (sentence,) = [s for s in verdict if "failed to learn" in s]
    learned = next(r for r in summary["recipes"] if r["label"] == "grpo")["metrics"]["learned_score"]["mean"]
    assert sentence.startswith(f"grpo ({points(learned)}) failed to learn the tasks")
    assert "grpo" not in verdict[0]
    assert not next(s for s in verdict if s.startswith("Forgetting, overall")).count("grpo")


def test_too_few_learners_leave_nothing_to_compare() -> None:
    none = make_comparison(profiles=dict.fromkeys(PROFILES, FAILING), n=50)["verdict"]
    assert none[0].startswith("No recipe learned the tasks. ")
    one = make_comparison(("sft", "sdft"), profiles={"sft": FAILING}, n=50)["verdict"]
    assert one[0].startswith("Only sdft learned the tasks")
    assert not any("more of earlier skills" in s for s in (*none, *one))


def test_recipes_with_the_same_mean_are_not_called_best_and_worst(two: dict[str, Any]) -> None:
    summary = copy.deepcopy(two)
    for recipe in summary["recipes"]:
        recipe["metrics"]["final_score"]["mean"] = 0.9
    assert "Final score: 90.0 points of sft and sdft alike." in comparison_verdict(summary)


def test_one_item_is_no_plural(two: dict[str, Any]) -> None:
    summary = copy.deepcopy(two)
    summary["sets"][0]["n"] = 1
    assert any(s.startswith("The smallest set has 1 item: one model's score") for s in comparison_verdict(summary))


def test_a_single_task_that_was_not_learned_is_named(two: dict[str, Any]) -> None:
    summary = copy.deepcopy(two)
    for r in summary["runs"]:
        if r["label"] == "sdft":
            r["summary"]["metrics"]["learned_score"]["per_task"]["tools"] = 0.3
    sentences = [s for s in comparison_verdict(summary) if s.startswith("Not learned")]
    why = "below 50.0 points right after a task's own stage, or no gain over the base"
    assert sentences == [f"Not learned ({why}): tools by sdft (30.0)."]


def test_a_task_that_the_base_could_do_was_not_learned(two: dict[str, Any]) -> None:
    """A recipe whose tasks score 90 points before and after their stages once counted as one that learned them."""
    summary = copy.deepcopy(two)
    for r in summary["runs"]:
        if r["label"] == "sdft":
            r["summary"]["metrics"]["learning"]["per_task"]["tools"] = -0.01
    assert any("tools by sdft (" in s and ", not above the base)" in s for s in comparison_verdict(summary))
    sdft = next(r for r in summary["recipes"] if r["label"] == "sdft")
    sdft["metrics"]["learning"]["mean"] = 0.0
    verdict = comparison_verdict(summary)
    assert verdict[0].startswith("Only sft learned the tasks")
    assert any(s.startswith("sdft (") and ", not above the base) failed to learn the tasks" in s for s in verdict)


def test_best_and_worst_are_those_of_the_numbers(four: dict[str, Any]) -> None:
    for metric, lead, best in (
        ("learned_score", "Score when learned: best", max),
        ("final_score", "Final score: best", max),
        ("loss_of_earlier", "Forgetting, overall: best", min),
    ):
        means = {r["label"]: r["metrics"][metric]["mean"] for r in four["recipes"]}
        first = best(means, key=means.__getitem__)
        sentence = next(s for s in four["verdict"] if s.startswith(lead))
        assert re.search(rf": best {first}, {points(means[first])} points", sentence)


def test_the_front_is_the_summarys(four: dict[str, Any]) -> None:
    summary = copy.deepcopy(four)
    assert any("sdft and grpo. No recipe beats one of them" in s for s in summary["verdict"])
    summary["pareto"] = ["sdpo"]
    assert (
        "Pareto front by mean final score and mean forgetting: sdpo alone. No recipe has a higher score or forgot less."
        in comparison_verdict(summary)
    )


def test_unequal_budgets_and_missing_runs_are_told() -> None:
    summary = make_comparison(("sft", "sdft"), missing=[("sft", 2, 0)], n=50)
    assert any("5 of 6 runs are done" in s for s in summary["verdict"])
    assert not any("budgets" in s for s in summary["verdict"])
    # A mean is over 2 runs of sft and 3 of sdft, the difference over 2 pairs.
    learned, final = (
        next(s for s in summary["verdict"] if s.startswith(lead)) for lead in ("Score when", "Final score")
    )
    assert learned.endswith("2 runs), over the runs that share seed and task order.")
    assert final.endswith("2 runs), over the runs that share seed and task order.")
    assert not any("share seed and task order" in s for s in make_comparison(("sft", "sdft"), n=50)["verdict"])
    summary["recipes"][0]["budget"]["optimizer_steps"] += 1
    assert "The budgets were not equal: the recipes differ in optimizer steps." in comparison_verdict(summary)


def test_runs_that_the_guard_ended_are_counted_and_told() -> None:
    """A recipe whose collapsed runs vanish looks as good as those that held."""
    ended = make_comparison(("sft", "sdft"), stopped=[("sdft", 1, 0), ("sdft", 2, 0)], n=50)
    sft, sdft = ended["recipes"]
    assert [(r["runs"], r["stopped"]) for r in (sft, sdft)] == [(3, 0), (1, 2)]
    assert sdft["metrics"]["final_score"]["n"] == 1
    (sentence,) = [s for s in ended["verdict"] if "guard" in s]
    assert sentence.startswith("The guard ended 2 runs before the last stage: 2 of 3 of sdft.")
    assert not any("not complete" in s for s in ended["verdict"])
    other = make_comparison(("sft", "sdft"), stopped=[("sdft", 1, 0)], missing=[("sft", 0, 0)], n=50)
    assert any("5 of 6 runs are done" in s for s in other["verdict"])
    none = make_comparison(("sft",), stopped=[("sft", seed, 0) for seed in range(3)], n=50)["verdict"]
    assert none[0] == "No run is complete yet, so there is nothing to conclude."
    assert none[1].startswith("The guard ended 3 runs before the last stage: 3 of 3 of sft.")
    assert not any("guard" in s for s in make_comparison(("sft", "sdft"), n=50)["verdict"])


def test_what_the_guard_did_is_told_of_comparisons_and_of_trainings_that_are_watched() -> None:
    summary = guarded(make_comparison(("sft", "sdft"), n=50))
    undone = sum(
        each["to_step"] - each["from_step"] + 1
        for run in summary["runs"]
        for each in run["summary"]["discarded"]
        if run["label"] == "sdft"
    )
    (sentence,) = [s for s in comparison_verdict(summary) if "The guard" in s]
    assert sentence == (
        "The guard intervened in 3 of 3 runs of sdft: repetition and entropy_collapse. "
        f"It undid {undone} optimizer steps. They count in the budget."
    )
    watched = guarded(make_run("sdft", n=50))
    for value in watched["metrics"].values():
        if isinstance(value, dict) and "mean" in value:
            value["mean"] = None
    watched["metrics"]["loss_of_earlier"] = {"mean": None, "per_set": {}}
    assert any(s.startswith("The guard intervened 2 times") for s in run_verdict(watched))


def test_nothing_done_nothing_said() -> None:
    started = make_comparison(("sft", "sdft"), stages=1, n=30)
    assert started["verdict"] == ["No run is complete yet, so there is nothing to conclude."]
    assert make_run(stages=0, n=30)["verdict"] == [
        "No stage is finished yet, so there is nothing to conclude about learning or forgetting."
    ]


def test_one_task_without_suites_still_gets_a_verdict() -> None:
    verdict = make_comparison(("sft", "sdft"), orders=(TASKS[:1],), suites=(), n=50)["verdict"]
    assert "could not be compared" in verdict[0]
    assert any(s.startswith("Score when learned: best") for s in verdict)
    run = make_run("sft", order=TASKS[:1], suites=(), n=50)["verdict"]
    assert run[0] == f"After 1 stage sft scored {run[1].split()[8].rstrip(';')} points on the tasks."


def test_one_recipe_is_reported_without_comparing() -> None:
    summary = make_comparison(("sft",), n=50)
    m = summary["recipes"][0]["metrics"]
    assert summary["verdict"][0] == (
        f"sft scored {points(m['final_score']['mean'])} points on the tasks at the end and forgot "
        f"{points(m['loss_of_earlier']['mean'])} points of earlier skills (3 runs)."
    )


def test_a_runs_verdict_follows_its_numbers() -> None:
    run = make_run("sft", n=200)
    m = run["metrics"]
    assert run["verdict"][0] == (
        f"After 4 stages sft scored {points(m['final_score']['mean'])} points on the tasks and forgot "
        f"{points(m['loss_of_earlier']['mean'])} points of earlier skills."
    )
    assert f"format by {points(-m['retention']['per_suite']['format'])} points" in " ".join(run["verdict"])
    m["loss_of_earlier"]["mean"] = -0.012
    m["learned_score"]["per_task"]["facts"] = 0.2
    changed = run_verdict(run)
    assert changed[0].endswith("gained 1.2 points on earlier skills.")
    assert "Not learned (below 50.0 points right after its own stage): facts." in changed


def test_a_run_that_lost_nothing_beyond_chance_says_so() -> None:
    run = make_run("sft", n=100)
    for entry in run["score_changes"]:
        entry.update(outcome="not shown", p=0.4, p_holm=1.0)
    said = "No earlier task or suite is shown to have fallen, by paired tests over the same items after Holm's "
    assert f"{said}correction for 7 sets." in run_verdict(run)
    assert "2 of 4 stages are done" in " ".join(make_run("sft", stages=2, n=50)["verdict"])

"""`holdfast.reporting.page`: the text of the page; no summary can inject markup; the file is replaced in one step."""

import base64
import copy
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli.summary_text import summary_as_text
from holdfast.reporting import page as report_page_module
from holdfast.reporting import render_report, write_report
from holdfast.reporting.accuracy_matrix import accuracy_matrices
from holdfast.reporting.before_and_after import before_and_after_figure
from holdfast.reporting.figure import Figure
from holdfast.reporting.key_numbers import metric_groups
from holdfast.reporting.likelihood import likelihood_tables
from holdfast.reporting.number_format import difference_text, nats, p_text, percent, points, seconds
from holdfast.reporting.samples import sample_words
from holdfast.reporting.step_curves import loss_curves, main_curves, nll_curves, score_curves
from holdfast.reporting.tradeoff import tradeoff_figure
from holdfast.reporting.transitions import span, transition_tables
from holdfast.reporting.view import SummaryView, over_runs
from report_page import HOSTILE, Page
from summary_factory import FAILING, SUITES, TASKS, make_comparison, make_run


@pytest.fixture(autouse=True)
def _small_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests do not need the 5 MB of plotly.js; the browser tests use them."""
    monkeypatch.setattr(report_page_module, "_plotly", lambda: "/* plotly */")


def page(summary: Mapping[str, Any]) -> Page:
    return Page(render_report(summary))


def figures_of(summary: Mapping[str, Any]) -> list[Figure]:
    view = SummaryView(summary)
    main = [f for f in (tradeoff_figure(view), before_and_after_figure(view)) if f]
    curves = (main_curves, loss_curves, score_curves)
    return main + [f for i in range(len(view.orders)) for make in curves for f in make(view, i)]


@pytest.fixture(scope="module")
def comparison() -> dict[str, Any]:
    return make_comparison(orders=(TASKS, TASKS[::-1]), seeds=(0, 1), n=200)


def test_comparison_has_every_section_and_the_verdict_first(comparison: dict[str, Any]) -> None:
    shown = page(comparison)
    sections = ["verdict", "summary", "tradeoff", "matrix", "curves", "samples", "differences", "budget", "reading"]
    assert {*sections, "provenance"} <= shown.ids()
    for sentence in comparison["verdict"]:
        assert sentence in shown.text
    links = [str(attrs["href"]) for tag, attrs in shown.tags if tag == "a" and str(attrs.get("href")).startswith("#")]
    assert {link[1:] for link in links} <= shown.ids()
    assert [link for link in links if link[1:] in sections][: len(sections)] == [f"#{name}" for name in sections]
    for recipe in comparison["recipes"]:
        final = recipe["metrics"]["final_score"]
        assert f"{100 * final['mean']:.1f}" in shown.text
        assert f"[{100 * final['ci95'][0]:.1f}, {100 * final['ci95'][1]:.1f}]" in shown.text


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_run(n=60),
        lambda: make_run(order=("facts",), n=60),
        lambda: make_run(stages=2, n=60),
        lambda: make_run(stages=0, n=60),
        lambda: make_run(suites=(), probe_steps=0, n=60),
        lambda: make_comparison(("sft",), seeds=(0,), n=60),
        lambda: make_comparison(orders=(("facts",),), n=60),
        lambda: make_comparison(profiles={"grpo": FAILING}, probe_steps=0, n=60),
        lambda: make_comparison(missing=[("sdpo", s, 0) for s in range(3)] + [("grpo", 0, 0)], n=60),
        lambda: {"schema_version": 1, "kind": "run", "name": "fresh", "label": "sft", "status": "running"},
        lambda: {"schema_version": 1, "kind": "comparison", "name": "fresh", "labels": ["sft"], "status": "running"},
    ],
    ids=[
        "run",
        "one-stage",
        "running",
        "base-only",
        "bare",
        "one-recipe",
        "one-task",
        "failing",
        "partial",
        "new",
        "none",
    ],
)
def test_whatever_there_is_is_shown(make: Callable[[], dict[str, Any]]) -> None:
    summary = make()
    shown = page(summary)
    complete = summary["status"] == "complete"
    assert ("Not complete" in shown.text) is not complete
    ids = [str(attrs["id"]) for _, attrs in shown.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert "nan" not in shown.text.lower().split()
    assert "None" not in shown.text
    assert summary_as_text(summary)


def test_one_run_has_no_interval_and_says_so() -> None:
    shown = page(make_comparison(("sft", "sdft"), seeds=(0,), n=60))
    assert "1 run: no CI" in shown.text
    assert "1 pair: no CI" in shown.text


def test_runs_that_the_guard_ended_are_counted() -> None:
    summary = make_comparison(("sft", "sdft"), stopped=[("sdft", 1, 0)], n=60)
    shown = page(summary)
    assert "1 of 3 runs" in shown.text
    assert "the guard ended 1 of them early" in shown.text
    (sentence,) = [sentence for sentence in summary["verdict"] if "guard ended" in sentence]
    assert "1 of 3 of sdft" in sentence
    assert sentence in shown.text
    assert "guard ended" not in page(make_comparison(("sft", "sdft"), n=60)).text


def test_matrix_holds_every_score(comparison: dict[str, Any]) -> None:
    view = SummaryView(comparison)
    for order_index in (0, 1):
        for recipe in view.recipes:
            runs = [
                r["summary"]
                for r in comparison["runs"]
                if (r["label"], r["order_index"]) == (recipe.label, order_index)
            ]
            for stage in range(len(TASKS) + 1):
                for name in (*TASKS, *SUITES):
                    cell = view.cell(recipe, order_index, stage, name)
                    means = [run["evaluations"][stage]["scores"][name]["mean"] for run in runs]
                    assert cell is not None
                    assert cell.mean == pytest.approx(sum(means) / len(means))
                    assert (cell.low, cell.high) == (min(means), max(means))
                    assert cell.own is (stage > 0 and view.orders[order_index][stage - 1] == name)


def test_tradeoff_is_drawn_from_the_summary(comparison: dict[str, Any]) -> None:
    figure = tradeoff_figure(SummaryView(comparison))
    assert figure is not None
    marks = [trace for trace in figure.spec["data"] if trace.get("meta", {}).get("labeled")]
    for recipe, mark in zip(comparison["recipes"], marks, strict=True):
        final, lost = recipe["metrics"]["final_score"], recipe["metrics"]["loss_of_earlier"]
        assert mark["x"] == [pytest.approx(100 * lost["mean"])]
        assert mark["y"] == [pytest.approx(100 * final["mean"])]
        assert mark["error_y"]["array"] == [pytest.approx(100 * (final["ci95"][1] - final["mean"]))]
        assert (mark["marker"]["line"]["color"] == "@fg") is (recipe["label"] in comparison["pareto"])
    assert all(label in figure.alt for label in comparison["labels"])


def test_the_untrained_base_stands_in_every_table_of_recipes(comparison: dict[str, Any]) -> None:
    """It has no run: its numbers are row 0 of the runs. It is never the best, although it forgets nothing."""
    metrics = comparison["untrained"]["metrics"]
    first = [r["summary"]["evaluations"][0]["scores"][task]["mean"] for r in comparison["runs"] for task in TASKS]
    assert metrics["final_score"] == metrics["learned_score"] == pytest.approx(sum(first) / len(first))
    assert (metrics["learning"], metrics["loss_of_earlier"], metrics["retention"], metrics["kl_to_base"]) == (0,) * 4
    base = f"{100 * metrics['final_score']:.1f}"
    rows = {row["label"]: row["cells"] for _, rows in metric_groups(SummaryView(comparison)) for row in rows}
    assert all(len(cells) == len(comparison["labels"]) + 1 for cells in rows.values())
    assert rows["Final score"][-1] == (base, "", False)
    assert not any(cells[-1][2] for cells in rows.values())
    figure = tradeoff_figure(SummaryView(comparison))
    assert figure is not None
    assert figure.rows[-1] == ("untrained", base, "", "0.0", "", "no")
    (mark,) = [trace for trace in figure.spec["data"] if trace.get("name") == "untrained"]
    assert (mark["x"], mark["y"]) == ([0.0], [100 * metrics["final_score"]])
    assert any(line.startswith("untrained") and base in line for line in summary_as_text(comparison).splitlines())


def test_what_became_of_the_items_is_shown_with_its_test() -> None:
    run = make_run("sft", n=60)
    (table,) = transition_tables(SummaryView(run))
    assert len(table["rows"]) == len(run["score_changes"])
    for entry in run["score_changes"]:
        (row,) = [r for r in table["rows"] if r[0] == entry["set"] and r[1].endswith(span(entry))]
        assert row[2][:4] == tuple(str(entry[key]) for key in ("kept", "lost", "gained", "never"))
        assert row[3] in ("fell", "rose", "not shown", "nothing to lose")
    assert "What became of the items" in Page(render_report(run)).text
    text = " ".join(summary_as_text(run).split())
    assert "kept lost gained never" in text


def test_over_runs_the_items_are_means_and_the_tests_are_counted(comparison: dict[str, Any]) -> None:
    tables = transition_tables(SummaryView(comparison))
    assert [(t["order"], t["recipe"].label) for t in tables][:2] == [(0, label) for label in comparison["labels"][:2]]
    runs = [r["summary"] for r in comparison["runs"] if (r["label"], r["order_index"]) == ("sft", 0)]
    entries = [e for run in runs for e in run["score_changes"] if (e["set"], e["what"]) == ("format", "forgetting")]
    (row,) = [r for r in tables[0]["rows"] if r[0] == "format"]
    assert row[2][1] == f"{sum(e['lost'] for e in entries) / len(entries):.1f}"
    assert row[3] == f"fell in {sum(e['outcome'] == 'fell' for e in entries)} of {len(entries)} runs"


def test_a_set_whose_answers_are_all_the_same_is_marked() -> None:
    run = make_run("sft", n=45)
    run["evaluations"][1]["scores"]["format"] |= {"mean": 0.3, "most_frequent": {"answer": "B", "count": 45}}
    (matrix,) = accuracy_matrices(SummaryView(run))
    marked = [c for block in matrix["blocks"] for row in block["rows"] for c in row["cells"] if c["text"].endswith("†")]
    assert [cell["text"] for cell in marked] == ["30†"]
    assert "45 of 45 answers say 'B'" in marked[0]["title"]


@pytest.mark.parametrize("make", [make_run, make_comparison])
def test_figures_are_what_plotly_knows(make: Callable[..., dict[str, Any]]) -> None:
    css = (Path(report_page_module.__file__).parent / "templates" / "style.css").read_text()

    def painted(node: Any) -> Any:
        if isinstance(node, str) and node.startswith("@"):
            assert f"--{node[1:].split('/')[0]}:" in css
            return "Arial" if node == "@font" else "#123456"
        if isinstance(node, list):
            return [painted(item) for item in node]
        return {key: painted(value) for key, value in node.items()} if isinstance(node, dict) else node

    drawn = figures_of(make(n=60))
    assert len(drawn) > 10
    for figure in drawn:
        go.Figure(painted(figure.spec))  # refuses unknown properties and values
        json.dumps(figure.spec, allow_nan=False)
        assert figure.alt
        assert all(len(row) == len(figure.headers) for row in figure.rows)


def test_labels_of_a_crowd_never_cover_each_other() -> None:
    recipes = ("sft", "sdft", "sdpo", "grpo")
    summary = make_comparison(recipes, n=60)
    for place, recipe in enumerate(summary["recipes"]):  # all on one spot but the last
        for metric in ("final_score", "loss_of_earlier"):
            recipe["metrics"][metric] = {"mean": 0.5 + 0.4 * (place == 3), "ci95": None, "sd": None, "n": 1}
    figure = tradeoff_figure(SummaryView(summary))
    assert figure is not None
    places = [t["textposition"] if "text" in t["mode"] else None for t in figure.spec["data"] if t["mode"] != "lines"]
    crowd = [place for place in places[-4:-1] if place]
    assert len(crowd) == len(set(crowd))


def test_nothing_in_a_summary_becomes_markup_or_code() -> None:
    plain = make_comparison(("sft", "sdft"), seeds=(0, 1), n=60)
    hostile = json.loads(json.dumps(plain).replace("sdft", json.dumps("sdft" + HOSTILE)[1:-1]))
    hostile["name"] = HOSTILE
    hostile["verdict"] = [HOSTILE, HOSTILE]
    for run in hostile["runs"]:
        run["summary"]["recipe"] = {"name": HOSTILE, HOSTILE: HOSTILE}
        run["summary"]["model"]["path"] = HOSTILE
        run["summary"]["decisions"] = [
            {"rule": HOSTILE, "stage": 1, "step": 1, "task": HOSTILE, "saw": {}, "message": HOSTILE}
        ]
        for sample in run["summary"]["samples"]:
            sample |= {"prompt": HOSTILE, "system": HOSTILE, "id": HOSTILE}
            for completion in sample["completions"]:
                completion["text"] = HOSTILE * (1 + completion["stage"])
    for known in hostile["sets"]:
        known["description"] = HOSTILE
    shown, tame = page(hostile), page(plain)
    assert len(shown.scripts) == len(tame.scripts) == 6
    assert {tag for tag, _ in shown.tags} <= {tag for tag, _ in tame.tags} | {"details", "summary", "caption"}
    assert not [name for _, attrs in shown.tags for name in attrs if name.startswith("on")]
    assert HOSTILE in shown.text
    figures = json.loads(next(script for script in shown.scripts if script.startswith("{")))
    for trace in (trace for spec in figures.values() for trace in spec["data"]):
        for text in [trace.get("name", ""), *trace.get("text", [])]:
            assert "<script" not in text
            assert "%{" not in text


def test_the_page_runs_its_own_scripts_and_loads_nothing() -> None:
    html = render_report(make_run(n=60))
    shown = Page(html)
    policy = next(str(a["content"]) for t, a in shown.tags if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none';")
    allowed = re.search(r"script-src ([^;]*);", policy)
    assert allowed is not None
    code = [script for script in shown.scripts if not script.startswith("{")]
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in code}
    assert set(allowed[1].split()) == hashes
    for tag, attrs in shown.tags:
        assert tag not in ("iframe", "object", "embed", "img", "base", "form")
        assert "src" not in attrs
        assert str(attrs.get("href", "#")).startswith(("#", "data:,"))
    assert "url(" not in html
    assert "@import" not in html


def test_plotly_can_be_carried_in_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    library = report_page_module._plotly()
    assert "</script" not in library.lower()
    assert "<!--" not in library


def test_the_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new" / "report.html"
    summary = make_run(n=60)
    assert write_report(summary, target) == target
    before = target.read_text(encoding="utf-8")
    assert before == render_report(summary)

    def broken(source: str, goal: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("holdfast.store.run_directory.os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_report(summary | {"name": "another"}, target)
    assert target.read_text(encoding="utf-8") == before
    assert [file.name for file in target.parent.iterdir()] == ["report.html"]


def test_a_summary_is_not_changed_by_reporting_it() -> None:
    summary = make_comparison(("sft",), seeds=(0,), n=60)
    before = copy.deepcopy(summary)
    render_report(summary)
    assert summary == before


def test_decisions_are_shown() -> None:
    seen = {"rule": "repetition", "stage": 1, "step": 7, "task": "facts", "saw": {"x": 1.0}, "message": "It repeats."}
    assert "It repeats." in page(make_run(n=60) | {"decisions": [seen]}).text
    assert "guard" not in page(make_run(n=60) | {"decisions": []}).ids()


def test_unequal_budgets_are_stated() -> None:
    summary = make_comparison(("sft", "sdft"), seeds=(0, 1), n=60)
    assert "All recipes made the same 160 optimizer steps" in page(summary).text
    summary["recipes"][0]["budget"]["optimizer_steps"] += 1
    assert "did not all make the same number of steps" in page(summary).text


def test_series_are_averaged_where_all_runs_are_known() -> None:
    runs = SummaryView(make_comparison(("sft",), seeds=(0, 1), n=60)).runs
    values = {0: [(1.0, 2.0), (2.0, None), (3.0, 4.0)], 1: [(1.0, 4.0), (3.0, float("nan")), (4.0, 1.0)]}
    assert over_runs(runs, lambda run: iter(values[run.seed])) == [(1.0, 3.0, 2.0, 4.0)]
    apart = {0: [(1.0, 2.0)], 1: [(2.0, 3.0)]}
    assert over_runs(runs, lambda run: iter(apart[run.seed])) == [(1.0, 2.0, 2.0, 2.0), (2.0, 3.0, 3.0, 3.0)]


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_marking_changes_keeps_the_text(texts: list[str]) -> None:
    shown = sample_words([{"stage": i, "text": text, "reward": 1.0} for i, text in enumerate(texts)])
    assert ["".join(word.text for word in each.words) for each in shown] == texts
    for before, each, text in zip(texts, shown[1:], texts[1:]):
        assert (each.change == "unchanged") is (before == text)


def test_new_words_are_marked() -> None:
    first, second = sample_words(
        [{"stage": 0, "text": "the answer is 41 I think"}, {"stage": 1, "text": "the answer is 42 I think"}]
    )
    assert not any(word.new for word in first.words)
    assert [word.text for word in second.words if word.new] == ["42"]


@given(st.floats(-1, 1))
def test_points_are_signed_and_never_minus_nothing(x: float) -> None:
    text = points(x)
    assert float(text.replace("−", "-")) == pytest.approx(100 * x, abs=0.0501)
    assert (text[0] in "+−") is (float(text.replace("−", "-")) != 0)


def test_numbers_as_they_are_written() -> None:
    assert [percent(x) for x in (0.934, 1, 0, None, float("nan"))] == ["93.4", "100.0", "0.0", "–", "–"]
    assert [nats(x) for x in (0.0, 0.1234, 0.00012, None)] == ["0.000", "0.123", "1.2e−4", "–"]
    assert [seconds(x) for x in (4.21, 42.4, 600, 7200)] == ["4.2 s", "42 s", "10.0 min", "2.0 h"]
    assert [p_text(x) for x in (0.0004, 0.0314, 1.0, None)] == ["< .001", ".031", "1.000", "–"]
    assert difference_text(-0.012, "nats") == "−0.012"


def test_terminal_shows_intervals_and_verdict(comparison: dict[str, Any]) -> None:
    text = " ".join(summary_as_text(comparison).split())
    final = comparison["recipes"][0]["metrics"]["final_score"]
    assert f"{100 * final['mean']:.1f} [{100 * final['ci95'][0]:.1f}, {100 * final['ci95'][1]:.1f}]" in text
    assert all(" ".join(sentence.split()[:6]) in text for sentence in comparison["verdict"])


UNJUDGED = (*TASKS, *SUITES, *(f"{task}-ood" for task in TASKS))


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_run(n=40, unjudged=UNJUDGED),
        lambda: make_run(n=40, unjudged=UNJUDGED, stages=0),
        lambda: make_run(n=40, unjudged=("facts", "old-facts"), pass_at_k=True),
        lambda: make_comparison(("sft", "sdft"), n=40, unjudged=UNJUDGED),
        lambda: make_comparison(
            ("sft", "sdft"), n=40, unjudged=("facts",), pass_at_k=True, orders=(TASKS, TASKS[::-1])
        ),
        lambda: make_comparison(("sft",), n=40, seeds=(0,), unjudged=UNJUDGED, stages=2),
    ],
    ids=["run", "base-only", "mixed", "comparison", "mixed-comparison", "unfinished"],
)
def test_sets_that_nothing_judges_are_shown_without_a_score(make: Callable[[], dict[str, Any]]) -> None:
    summary = make()
    html = render_report(summary)
    shown = Page(html)
    assert "likelihood" in shown.ids()
    assert "not judged" in shown.text
    assert 'title="not judged: see the likelihood of its demonstrations"' in html
    assert "None" not in shown.text
    assert "nan" not in shown.text.lower().split()
    runs = [summary] if summary["kind"] == "run" else [run["summary"] for run in summary["runs"]]
    if runs[0]["evaluations"][1:]:
        assert "learning" in shown.text
    has_scores = any(score["mean"] is not None for e in runs[0]["evaluations"] for score in e["scores"].values())
    assert ("Every set, before and after" in shown.text) is (
        has_scores and summary["kind"] == "run" and len(runs[0]["evaluations"]) > 1
    )
    assert ("no complete run yet" in shown.text) is ("recipes" in summary and not summary["recipes"][0]["runs"])
    assert ("pass-at-k" in shown.ids()) is any(
        score["sampled"] for e in runs[0]["evaluations"] for score in e["scores"].values()
    )
    ids = [str(attrs["id"]) for _, attrs in shown.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert summary_as_text(summary)


def test_the_nll_of_a_set_is_drawn_over_steps_with_its_probes() -> None:
    view = SummaryView(make_run(n=40, unjudged=("facts",)))
    (figure,) = nll_curves(view, 0)
    assert figure.title == "NLL of demonstrations of facts"
    path, marks = figure.spec["data"]
    assert len(path["x"]) > len(marks["x"]) == 5
    assert [f.title for f in score_curves(view, 0) if "facts" in f.title] == [
        "Score on old-facts",
        "Score on facts-ood",
    ]


def test_pass_at_k_is_shown_with_intervals_over_items() -> None:
    run = make_run(n=40, pass_at_k=True)
    shown = page(run)
    block = run["evaluations"][0]["scores"]["facts"]["sampled"]
    low, high = block["pass_at_k"][1]["ci95"]
    assert "8 samples at temperature 1" in shown.text
    assert f"[{percent(low)}, {percent(high)}]" in shown.text
    assert all(title in shown.text for title in ("avg@8", "pass@1", "pass@4", "pass@8"))
    assert "pass@4" in summary_as_text(run)
    assert "Sampled answers" not in page(make_run(n=40)).text


def test_only_a_set_that_nothing_judges_is_called_learned_by_its_nll() -> None:
    """The verdict may say of a judged one that it is not learned."""
    run = make_run(n=40, unjudged=("facts",), demonstrations=True)
    changes = {name: text for table in likelihood_tables(SummaryView(run)) for name, _, _, text in table["rows"]}
    entries = {e["set"]: e for e in run["nll_changes"] if e["what"] == "learning"}
    assert {e["outcome"] for e in entries.values()} == {"fell"}
    assert {name for name in entries if changes[name][0].endswith(": learned")} == {"facts"}
    assert {name for name in entries if changes[name][0].endswith(": fell")} == entries.keys() - {"facts"}

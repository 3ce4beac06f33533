"""`holdfast.reporting.page`: guard, drift, artifacts and prediction follow the summary; the rest is left out."""

import html
import json
import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard_factory import guarded
from holdfast.guard.rules import RULES
from holdfast.reporting import page as report_page_module
from holdfast.reporting import render_report
from holdfast.reporting.artifacts import artifact_panels
from holdfast.reporting.figure import Figure
from holdfast.reporting.forgetting_prediction import forgetting_prediction_figure
from holdfast.reporting.guard_decisions import guard_decisions
from holdfast.reporting.guard_timeline import FIELDS, READ_BY_RULE
from holdfast.reporting.number_format import nats, percent, small
from holdfast.reporting.page import all_figures
from holdfast.reporting.response_drift import response_drift
from holdfast.reporting.view import SummaryView
from holdfast.reporting.weight_drift import weight_drift
from holdfast.reporting.word_changes import differing_words
from holdfast.summary.schema import summary_schema
from report_page import HOSTILE, Page
from summary_factory import TASKS, make_comparison, make_run, run_inputs, summary_of

SVG = "{http://www.w3.org/2000/svg}"
SECTIONS = {"guard", "drift", "responses", "forgetting", "artifacts"}


@pytest.fixture(autouse=True)
def _small_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_page_module, "_plotly", lambda: "/* plotly */")


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    """A run whose guard acted; one matrix is in no layer, and some are below their no-op floor."""
    made = guarded(make_run("sdpo", order=TASKS[:2], n=60))
    for entry in made["drift"]:
        first = entry["matrices"][0]
        entry["matrices"].append(first | {"name": "model.embed_tokens.weight", "type": "embed_tokens", "layer": None})
        for m in entry["matrices"][:3]:
            m["floor_relative_norm"] = 1.5 * m["relative_norm"]
    return made


@pytest.fixture(scope="module")
def comparison() -> dict[str, Any]:
    return guarded(make_comparison(("sft", "sdft"), seeds=(0, 1), orders=(TASKS[:2],), n=60))


def test_nothing_is_shown_where_nothing_was_measured(run: dict[str, Any]) -> None:
    assert Page(render_report(run)).ids() >= SECTIONS
    bare = make_run("sdft", n=60, measures=False)
    assert Page(render_report(bare)).ids() & SECTIONS <= {"forgetting"}  # that follows from the evaluations
    keys = {
        "guard": ("guard", "decisions", "discarded"), "drift": ("drift",), "responses": ("responses",),
        "forgetting": ("forgetting_prediction",), "artifacts": ("artifacts", "repetition"),
    }  # fmt: skip
    for section, gone in keys.items():
        left = {key: value for key, value in run.items() if key not in gone}
        assert Page(render_report(left)).ids() & SECTIONS == SECTIONS - {section}


def _traces(heatmap: Figure) -> list[dict[str, Any]]:
    """The cells and the struck-out marks, without the trace that only draws the color bar."""
    (*traces, color_bar) = heatmap.spec["data"]
    assert (color_bar["x"], color_bar["marker"]["coloraxis"]) == ([None], "coloraxis")
    return traces


def test_drift_table_and_cells_follow_the_summary(run: dict[str, Any]) -> None:
    drift = weight_drift(SummaryView(run))
    last = run["drift"][-1]
    panel = next(p for p in drift["panels"] if p["stage"] == last["stage"])
    rows = {name: [value for value, _ in cells] for name, _, cells in panel["rows"]}
    assert rows["All weights"][0] == small(last["overall"]["relative_norm"])
    assert rows["mlp.up_proj"][2] == small(last["by_type"]["mlp.up_proj"]["spectral_shift"])
    assert rows["No-op floor"][0] == small(last["floor"]["relative_norm"])
    tooltips = [text for trace in _traces(drift["maps"][0]) for text in trace["customdata"] if text]
    for entry in run["drift"]:
        for m in entry["matrices"]:
            where = m["type"] if m["layer"] is None else f"{m['type']}, layer {m['layer']}"
            assert f"{where}: {small(m['relative_norm'])}; floor {small(m['floor_relative_norm'])}" in tooltips
    assert len(tooltips) == sum(len(entry["matrices"]) for entry in run["drift"])


def test_a_cell_is_at_its_layer_and_module_type(run: dict[str, Any]) -> None:
    figure = weight_drift(SummaryView(run))["maps"][0]
    for trace in _traces(figure):
        axis = figure.spec["layout"][trace["yaxis"].replace("y", "yaxis")]
        for place, text in enumerate(trace["customdata"]):
            if not text:
                continue
            x = trace["x"][place]
            y = trace["base"][place] + trace["y"][place] / 2 if trace["type"] == "bar" else trace["y"][place]
            name, _, layer = text.partition(":")[0].partition(", layer ")
            assert axis["ticktext"][axis["tickvals"].index(round(y, 6))] == name
            assert x == (int(layer) if layer else -1)


def test_drift_shows_means_and_largest_values_and_counts_unmoved_matrices(run: dict[str, Any]) -> None:
    (first, *rest) = run["drift"]
    more = {"spectral_shift_mean": 0.0123, "right_angle_largest": 4.56, "matrices": 24, "unmoved": 5}
    blocks = weight_drift(SummaryView(run | {"drift": [first | {"overall": first["overall"] | more}, *rest]}))
    (_, remark, cells), *_ = blocks["panels"][0]["rows"]
    assert remark == "5 of 24 matrices did not move"
    assert (cells[2][1], cells[4][1]) == ("mean 0.0123", "largest 4.56")
    page = Page(render_report(run | {"drift": [first | {"overall": first["overall"] | more}, *rest]}))
    assert "5 of 24 matrices did not move" in page.text
    assert "mean 0.0123" in page.text


@pytest.mark.parametrize(
    ("floor", "sentence"),
    [
        (0.0, "converting the base model to the model's dtype and back changes nothing"),
        (None, "The no-op floor was not measured"),
    ],
)
def test_a_floor_of_zero_is_not_explained_by_equal_dtypes(
    run: dict[str, Any], floor: float | None, sentence: str
) -> None:
    """It is zero for a base model in bfloat16 and a model in float32 too."""
    flat = [entry | {"floor": dict.fromkeys(entry["floor"], floor)} for entry in run["drift"]]
    figures = weight_drift(SummaryView(run | {"drift": flat}))["along"]
    assert len(figures) == 2
    assert all(sentence in figure.note and sentence in figure.alt for figure in figures)


def test_cells_below_their_floor_are_struck_out_and_the_rest_are_not(run: dict[str, Any]) -> None:
    figure = weight_drift(SummaryView(run))["maps"][0]

    def shown(kind: str) -> list[str]:
        traces = [trace for trace in _traces(figure) if trace["type"] == kind]
        return sorted(text.split(": ")[1] for trace in traces for text in trace["customdata"] if text)

    matrices = [m for entry in run["drift"] for m in entry["matrices"]]
    text = {True: [], False: []}
    for m in matrices:
        above = m["relative_norm"] > m["floor_relative_norm"]
        text[above].append(f"{small(m['relative_norm'])}; floor {small(m['floor_relative_norm'])}")
    assert text[False]
    assert shown("scatter") == sorted(text[False])
    assert shown("bar") == sorted(text[True])
    assert [t["name"] for t in figure.spec["data"] if t["showlegend"]] == ["not above the no-op floor"]


def test_deeper_shade_means_further_moved(run: dict[str, Any]) -> None:
    """With a linear and a logarithmic scale: in the second case the last matrix moves 1000 times as far."""
    (*others, last) = run["drift"]
    far = [m | {"relative_norm": 1000 * m["relative_norm"]} for m in last["matrices"][-1:]]
    for drift in (run["drift"], [*others, last | {"matrices": last["matrices"][:-1] + far}]):
        figure = weight_drift(SummaryView(run | {"drift": drift}))["maps"][0]
        bars = [trace for trace in figure.spec["data"] if trace["type"] == "bar"]
        pairs = sorted(
            (float(text.split(": ")[1].split(";")[0].replace("−", "-")), float(color.removeprefix("@deep/")))
            for trace in bars
            for text, color in zip(trace["customdata"], trace["marker"]["color"], strict=True)
        )
        assert len(pairs) > 20
        assert all(a[1] <= b[1] for a, b in pairwise(pairs))
        assert 0.06 <= pairs[0][1] < pairs[-1][1] == 1.0
        assert [color for _, color in figure.spec["layout"]["coloraxis"]["colorscale"]] == ["@deep/0.06", "@deep"]


def test_responses_have_intervals_over_prompts_and_over_runs(run: dict[str, Any], comparison: dict[str, Any]) -> None:
    entry = run["responses"][0]
    table = next(t for t in response_drift(SummaryView(run))["tables"] if t["stage"] == entry["stage"])
    cells = next(cells for name, _, cells in table["rows"] if name == entry["set"])
    assert cells[0] == (nats(entry["kl_base_to_model"]), f"± {nats(1.96 * entry['kl_base_to_model_se'])}")
    assert cells[3][0] == percent(entry["equal_answers"], 0)
    table = response_drift(SummaryView(comparison))["tables"][0]
    name = table["rows"][0][0]
    two = [
        e["kl_base_to_model"]
        for r in comparison["runs"]
        if r["label"] == "sft"
        for e in r["summary"]["responses"]
        if e["set"] == name and e["stage"] == table["stage"]
    ]
    half = 12.7062 * abs(two[0] - two[1]) / 2  # t with one degree of freedom, times the error of a mean of two
    assert table["rows"][0][2][0] == (nats(sum(two) / 2), f"± {nats(half)}")


def test_without_kl_there_is_no_figure_of_it(run: dict[str, Any]) -> None:
    assert response_drift(SummaryView(run))["figures"]
    without = [each | {"kl_base_to_model": None, "kl_base_to_model_se": None} for each in run["responses"]]
    blocks = response_drift(SummaryView(run | {"responses": without}))
    assert blocks["figures"] == []
    assert blocks["tables"]


def test_similarity_has_a_column_where_it_was_measured(run: dict[str, Any]) -> None:
    plain = response_drift(SummaryView(run))
    assert "Similarity" not in plain["headers"]
    assert "Similarity" not in Page(render_report(run)).text
    (first, *rest) = run["responses"]
    similar = {"embedding_similarity": 0.87, "embedding_similarity_unlike": 0.5}
    measured = response_drift(SummaryView(run | {"responses": [first | similar, *rest]}))
    assert measured["headers"][-1] == "Similarity"
    for blocks in (plain, measured):
        assert all(len(cells) == len(blocks["headers"]) for t in blocks["tables"] for _, _, cells in t["rows"])
    table = next(t for t in measured["tables"] if t["stage"] == first["stage"])
    cells = next(cells for name, _, cells in table["rows"] if name == first["set"])
    assert cells[-1] == ("0.87", "unrelated 0.50")


def test_the_unit_of_lengths_is_stated(run: dict[str, Any]) -> None:
    assert "Length is in words and punctuation marks" in Page(render_report(run)).text


@given(st.text(max_size=80), st.text(max_size=80))
def test_differences_keep_both_texts(before: str, after: str) -> None:
    left, right = differing_words(before, after)
    assert ("".join(w.text for w in left), "".join(w.text for w in right)) == (before, after)
    common = [["".join(w.text for w in side if not w.new)] for side in (left, right)]
    assert common[0] == common[1]


def test_artifacts_follow_the_summary(run: dict[str, Any], comparison: dict[str, Any]) -> None:
    rows = artifact_panels(SummaryView(run))["panels"][0]["rows"]
    first = max((a for a in run["artifacts"] if a["z"] is not None), key=lambda a: a["z"])
    assert (rows[0]["phrase"], rows[0]["last"]) == (first["phrase"], percent(first["shares"][-1]))
    marks = list(ElementTree.fromstring(str(rows[0]["curve"])).iter(f"{SVG}circle"))
    heights = [float(str(mark.get("cy"))) for mark in marks]
    assert heights == [pytest.approx(5 + 24 * (1 - share), abs=0.06) for share in first["shares"]]
    merged = artifact_panels(SummaryView(comparison))["panels"][0]["rows"][0]
    entries = [
        a
        for r in comparison["runs"]
        if r["label"] == "sft"
        for a in r["summary"]["artifacts"]
        if (a["phrase"], a["set"] or "all sets") == (merged["phrase"], merged["set"])
    ]
    assert merged["runs"] == "in 2 of 2 runs"
    assert merged["last"] == percent(sum(a["shares"][-1] for a in entries) / 2)
    factor = math.exp(sum(math.log(a["growth"]) for a in entries) / 2)
    assert merged["growth"] == f"×{small(factor)}"


def test_markers_of_two_tasks_are_two_rows(run: dict[str, Any]) -> None:
    marker = next(a for a in run["artifacts"] if a["kind"] == "marker")
    twice = run | {"artifacts": [marker, marker | {"marker_of": "another", "shares": [0.0, 0.1, 0.2]}]}
    rows = artifact_panels(SummaryView(twice))["panels"][0]["rows"]
    assert {row["kind"] for row in rows} == {f"marker of {marker['marker_of']}", "marker of another"}


def test_guard_shows_every_decision_and_what_was_rolled_back(run: dict[str, Any]) -> None:
    blocks = guard_decisions(SummaryView(run))
    (figure,) = blocks["figures"]
    marks = [t for t in figure.spec["data"] if "text" in t.get("mode", "")]
    at = sorted(x for t in marks for x in t["x"])
    assert at == [d["global_step"] for d in run["decisions"]]
    gray = [t for t in figure.spec["data"] if t.get("name") == "rolled back" and t["yaxis"] == "y"]
    (undone,) = run["discarded"]
    assert [(t["x"], t["y"]) for t in gray] == [
        ([p["step"] for p in undone["curve"]], [p["reward"] for p in undone["curve"]])
    ]
    text = Page(render_report(run)).text
    for decision in run["decisions"]:
        assert decision["message"] in text
        assert decision["outcome"] in text
    quiet = Page(render_report(run | {"decisions": [], "discarded": []})).text
    assert "No rule that had data fired" in quiet


def test_every_rule_has_its_panels() -> None:
    assert set(READ_BY_RULE) == set(RULES)
    fields = {field for each in READ_BY_RULE.values() for field in each}
    point = summary_schema()["$defs"]["CurvePoint"]["properties"]
    assert fields - {"kl_to_base"} <= set(point)
    assert fields <= set(FIELDS)


def _decided(rule: str, stage: int, step: int) -> dict[str, Any]:
    decision = {"rule": rule, "stage": stage, "step": step, "task": TASKS[stage - 1], "severity": "critical", "saw": {}}
    return decision | {"actions": ["roll_back"], "message": "seen", "outcome": "done"}


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ("truncation", "truncated_fraction"),
        ("silent_stall", "active_rows"),
        ("silent_stall", "teacher_share"),
        ("stale_sampler", "is_ratio_mean"),
        ("not_finite", "grad_norm"),
        ("kl_budget", "kl_to_base"),
        ("kl_budget", "kl_base"),
    ],
)
def test_what_a_rule_looked_at_has_a_panel(rule: str, field: str) -> None:
    inputs = run_inputs("sdpo", order=TASKS[:2], n=20, steps=8, probe_steps=2)
    records = inputs["probes" if field == "kl_to_base" else "metrics"]
    for number, record in enumerate(records):
        record[field] = 0.5 + 0.01 * number
    summary = summary_of(**inputs | {"decisions": [_decided(rule, 1, 6)]})
    (figure,) = guard_decisions(SummaryView(summary))["figures"]
    layout = figure.spec["layout"]
    (axis,) = [k for k in layout if k.startswith("yaxis") and layout[k]["title"]["text"] == FIELDS[field]]
    (drawn,) = [t for t in figure.spec["data"] if t.get("yaxis") == axis.replace("axis", "")]
    shown = dict(zip(drawn["x"], drawn["y"]))
    for record in records:
        assert shown[8 * (record["stage"] - 1) + record["step"]] == pytest.approx(record[field])


def test_without_a_reward_the_first_panel_is_what_the_rule_looked_at() -> None:
    inputs = run_inputs("sdpo", order=TASKS[:1], n=20, steps=8)
    for number, record in enumerate(inputs["metrics"]):
        record |= {"reward": None, "entropy": 1.0 - 0.1 * number}
    blocks = guard_decisions(SummaryView(summary_of(**inputs | {"decisions": [_decided("entropy_collapse", 1, 6)]})))
    assert blocks["figures"][0].title == "Decisions over the entropy, sdpo"
    assert blocks["figures"][0].alt.startswith("Entropy over optimizer steps")
    inputs["metrics"] = [record | {"entropy": None} for record in inputs["metrics"]]
    blocks = guard_decisions(SummaryView(summary_of(**inputs | {"decisions": [_decided("retention", 1, 6)]})))
    assert blocks["figures"][0].title == "Decisions over the loss, sdpo"


@pytest.mark.parametrize("stage", [1, 2])
def test_what_a_stage_ended_with_undoing_is_in_the_figure_and_over_no_other_stage(stage: int) -> None:
    inputs = run_inputs("sdpo", order=TASKS[:2], n=20, steps=10, probe_steps=0)
    undone = [m for m in inputs["metrics"] if m["stage"] == stage and m["step"] > 4]
    inputs["metrics"] = [m for m in inputs["metrics"] if m not in undone]
    lines = [{"log": "metrics.jsonl", "decision": 0, "record": record} for record in undone]
    summary = summary_of(**inputs | {"decisions": [_decided("reward_collapse", stage, 10)], "discarded": lines})
    (figure,) = guard_decisions(SummaryView(summary))["figures"]
    first = [t for t in figure.spec["data"] if t.get("yaxis", "y") == "y"]
    (gray,) = [t for t in first if t["name"] == "rolled back"]
    assert (gray["x"], gray["y"]) == (
        [10 * (stage - 1) + m["step"] for m in undone],
        [pytest.approx(m["reward"]) for m in undone],
    )
    kept = [t["x"] for t in first if t["name"] == "reward"]
    after = set(range(11, 21)) if stage == 1 else set()
    before = set(range(1, 5)) if stage == 1 else set(range(1, 15))
    assert [set(xs) for xs in kept] == [each for each in (before, after) if each]
    (mark,) = [t for t in first if "text" in t["mode"]]
    (stretch,) = [s for s in figure.spec["layout"]["shapes"] if s["type"] == "rect"]
    assert mark["x"] == [10 * stage]
    assert (stretch["x0"], stretch["x1"]) == (10 * (stage - 1) + 4.5, 10 * stage + 0.5)
    assert figure.spec["layout"]["xaxis"]["range"][1] >= 20
    assert ("shift it to the right" in figure.note) == (stage == 1)


def test_a_stage_of_which_nothing_was_kept_is_drawn() -> None:
    inputs = run_inputs("sdpo", order=TASKS[:1], n=20, steps=10, probe_steps=0)
    lines = [{"log": "metrics.jsonl", "decision": 0, "record": record} for record in inputs["metrics"]]
    inputs |= {"metrics": [], "discarded": lines, "decisions": [_decided("reward_collapse", 1, 10)]}
    summary = summary_of(**inputs)
    (figure,) = guard_decisions(SummaryView(summary))["figures"]
    assert [t["x"] for t in figure.spec["data"] if t["name"] == "rolled back"] == [list(range(1, 11))]
    assert figure.spec["layout"]["xaxis"]["range"][1] >= 10
    assert "Decisions over the reward" in Page(render_report(summary)).text


def test_prediction_has_the_points_and_the_fit(comparison: dict[str, Any]) -> None:
    figure = forgetting_prediction_figure(SummaryView(comparison))
    assert figure is not None
    known = comparison["forgetting_prediction"]
    marks = [t for t in figure.spec["data"] if "markers" in t["mode"]]
    drawn = sorted((x, y) for t in marks for x, y in zip(t["x"], t["y"]))
    assert drawn == sorted((p["kl"], 100 * p["forgetting"]) for p in known["points"])
    assert f"R² {known['fit']['r2']:.2f}" in figure.note
    assert "n = 4 runs" in figure.note
    (line,) = [t for t in figure.spec["data"] if t.get("line", {}).get("dash") == "dash"]
    rise = (line["y"][1] - line["y"][0]) / (line["x"][1] - line["x"][0])
    assert rise == pytest.approx(100 * known["fit"]["slope"])
    bare = {**comparison, "forgetting_prediction": {"points": known["points"], "fit": None}}
    without = forgetting_prediction_figure(SummaryView(bare))
    assert without is not None
    assert "Too few runs" in without.note
    assert not [t for t in without.spec["data"] if t.get("fill")]


def test_a_label_stands_above_all_marks_of_its_recipe(comparison: dict[str, Any]) -> None:
    figure = forgetting_prediction_figure(SummaryView(comparison))
    assert figure is not None
    labeled = [trace for trace in figure.spec["data"] if trace.get("meta", {}).get("labeled")]
    assert len(labeled) == 2
    for trace in labeled:
        (named,) = [y for y, text in zip(trace["y"], trace["text"], strict=True) if text]
        assert named == max(trace["y"])


def test_what_is_measured_cannot_become_markup(run: dict[str, Any]) -> None:
    hostile = json.loads(json.dumps(run))
    for artifact in hostile["artifacts"]:
        artifact |= {"phrase": HOSTILE, "examples": [HOSTILE], "marker_of": HOSTILE}
    for decision in hostile["decisions"]:
        decision |= {"message": HOSTILE, "outcome": HOSTILE, "rule": HOSTILE, "saw": {HOSTILE: HOSTILE}}
    for entry in hostile["drift"]:
        for m in entry["matrices"]:
            m |= {"type": HOSTILE, "name": HOSTILE}
    for response in hostile["responses"]:
        for item in response["moved"]:
            item |= {"prompt": HOSTILE, "base": HOSTILE, "model": HOSTILE + " more", "id": HOSTILE}
    shown, tame = Page(render_report(hostile)), Page(render_report(run))
    assert len(shown.scripts) == len(tame.scripts)
    assert {tag for tag, _ in shown.tags} <= {tag for tag, _ in tame.tags}
    assert not [name for _, attrs in shown.tags for name in attrs if name.startswith("on")]
    for figure in all_figures(hostile):
        for trace in figure.spec["data"]:
            for text in [trace.get("name", ""), *trace.get("text", []), *trace.get("customdata", [])]:
                assert "<script" not in text
                assert "%{" not in text


def test_growth_curves_are_a_figure_that_can_be_saved(run: dict[str, Any]) -> None:
    figure = next(f for f in all_figures(run) if f.id == "fig-artifacts-0")
    first = max((a for a in run["artifacts"] if a["z"] is not None), key=lambda a: a["z"])
    trace = figure.spec["data"][0]
    assert trace["name"].startswith(html.escape(first["phrase"], quote=False).replace("{", "&#123;")[:10])
    (probe,) = first["within"]
    steps = max(point["step"] for point in run["curves"] if point["stage"] == probe["stage"])
    points = [*zip(first["stages"], first["shares"]), (probe["stage"] - 1 + probe["step"] / steps, probe["share"])]
    assert list(zip(trace["x"], trace["y"])) == [(x, 100 * share) for x, share in sorted(points)]
    assert "fig-artifacts-0" in render_report(run)

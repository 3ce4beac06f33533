"""What the report shows beside scores: numbers follow the summary, and nothing is shown where nothing was measured."""

import html
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard_factory import guarded
from holdfast.guard.rules import RULES
from holdfast.report import build, render_report
from holdfast.report.answers import answer_blocks, difference
from holdfast.report.artifacts import artifact_blocks
from holdfast.report.build import all_figures
from holdfast.report.drift import drift_blocks
from holdfast.report.growth import GrowthCurve, growth_figure
from holdfast.report.numbers import nats, percent, small
from holdfast.report.predicted import predicted
from holdfast.report.timeline import FIELDS, LOOKS_AT, guard_blocks
from holdfast.report.vector import figure_as_svg, write_figures
from holdfast.report.view import View
from holdfast.summary.schema import summary_schema
from report_page import HOSTILE, Page
from summary_factory import TASKS, make_comparison, make_run, run_inputs, summary_of

SVG = "{http://www.w3.org/2000/svg}"
SECTIONS = {"guard", "drift", "responses", "forgetting", "artifacts"}


@pytest.fixture(autouse=True)
def _small_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_plotly", lambda: "/* plotly */")


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    """One matrix is in no layer, and some stand below their floor."""
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


def test_drift_table_and_cells_are_the_summary_s(run: dict[str, Any]) -> None:
    blocks = drift_blocks(View(run))
    last = run["drift"][-1]
    panel = next(p for p in blocks["panels"] if p["stage"] == last["stage"])
    rows = {name: [value for value, _ in cells] for name, _, cells in panel["rows"]}
    assert rows["All weights"][0] == small(last["overall"]["relative_norm"])
    assert rows["mlp.up_proj"][2] == small(last["by_type"]["mlp.up_proj"]["spectral_shift"])
    assert rows["No-op floor"][0] == small(last["floor"]["relative_norm"])
    titles = [t.text or "" for t in ElementTree.fromstring(blocks["maps"][0].drawing).iter(f"{SVG}title")]
    for entry in run["drift"]:
        for m in entry["matrices"]:
            where = m["type"] if m["layer"] is None else f"{m['type']}, layer {m['layer']}"
            assert f"{where}: {small(m['relative_norm'])}; floor {small(m['floor_relative_norm'])}" in titles
    assert len(titles) == sum(len(entry["matrices"]) for entry in run["drift"])


def test_drift_says_what_stands_beside_medians_and_what_is_in_none(run: dict[str, Any]) -> None:
    (first, *rest) = run["drift"]
    more = {"spectral_shift_mean": 0.0123, "right_angle_largest": 4.56, "matrices": 24, "unmoved": 5}
    blocks = drift_blocks(View(run | {"drift": [first | {"overall": first["overall"] | more}, *rest]}))
    (_, told, cells), *_ = blocks["panels"][0]["rows"]
    assert told == "5 of 24 matrices did not move"
    assert (cells[2][1], cells[4][1]) == ("mean 0.0123", "largest 4.56")
    page = Page(render_report(run | {"drift": [first | {"overall": first["overall"] | more}, *rest]}))
    assert "5 of 24 matrices did not move" in page.text
    assert "mean 0.0123" in page.text


@pytest.mark.parametrize(
    ("floor", "said"),
    [(0.0, "converting the base to the model's storage and back changes nothing"), (None, "No floor was measured")],
)
def test_a_floor_of_zero_is_not_said_to_come_of_equal_storage(
    run: dict[str, Any], floor: float | None, said: str
) -> None:
    """It is zero for a base in bfloat16 and a model in float32 too."""
    flat = [entry | {"floor": dict.fromkeys(entry["floor"], floor)} for entry in run["drift"]]
    figures = drift_blocks(View(run | {"drift": flat}))["along"]
    assert len(figures) == 2
    assert all(said in figure.note and said in figure.alt for figure in figures)


def test_cells_below_their_floor_are_struck_out_and_the_rest_are_not(run: dict[str, Any]) -> None:
    figure = drift_blocks(View(run))["maps"][0]
    shown = ElementTree.fromstring(figure.drawing)
    struck = {title.text for group in shown.iter(f"{SVG}g") for title in group.findall(f"{SVG}title")}
    below = {
        f"{small(m['relative_norm'])}; floor {small(m['floor_relative_norm'])}"
        for entry in run["drift"]
        for m in entry["matrices"]
        if m["relative_norm"] <= m["floor_relative_norm"]
    }
    assert below
    assert {str(text).split(": ")[1] for text in struck} == below


def test_deeper_shade_means_further_moved(run: dict[str, Any]) -> None:
    shown = ElementTree.fromstring(drift_blocks(View(run))["maps"][0].drawing)
    pairs = []
    for path in shown.iter(f"{SVG}path"):
        title = path.find(f"{SVG}title")
        if title is not None and path.get("fill-opacity"):
            value = float(str(title.text).split(": ")[1].split(";")[0].replace("−", "-"))
            pairs.append((value, float(str(path.get("fill-opacity")))))
    pairs.sort()
    assert len(pairs) > 20
    assert all(a[1] <= b[1] + 0.011 for a, b in pairwise(pairs))


def test_responses_have_intervals_over_prompts_and_over_runs(run: dict[str, Any], comparison: dict[str, Any]) -> None:
    entry = run["responses"][0]
    table = next(t for t in answer_blocks(View(run))["tables"] if t["stage"] == entry["stage"])
    cells = next(cells for name, _, cells in table["rows"] if name == entry["set"])
    assert cells[0] == (nats(entry["kl_base_to_model"]), f"± {nats(1.96 * entry['kl_base_to_model_se'])}")
    assert cells[3][0] == percent(entry["equal_answers"], 0)
    table = answer_blocks(View(comparison))["tables"][0]
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
    assert answer_blocks(View(run))["figures"]
    without = [each | {"kl_base_to_model": None, "kl_base_to_model_se": None} for each in run["responses"]]
    blocks = answer_blocks(View(run | {"responses": without}))
    assert blocks["figures"] == []
    assert blocks["tables"]


def test_similarity_has_a_column_where_it_was_measured(run: dict[str, Any]) -> None:
    plain = answer_blocks(View(run))
    assert "Similarity" not in plain["headers"]
    assert "Similarity" not in Page(render_report(run)).text
    (first, *rest) = run["responses"]
    similar = {"embedding_similarity": 0.87, "embedding_similarity_unlike": 0.5}
    measured = answer_blocks(View(run | {"responses": [first | similar, *rest]}))
    assert measured["headers"][-1] == "Similarity"
    for blocks in (plain, measured):
        assert all(len(cells) == len(blocks["headers"]) for t in blocks["tables"] for _, _, cells in t["rows"])
    table = next(t for t in measured["tables"] if t["stage"] == first["stage"])
    cells = next(cells for name, _, cells in table["rows"] if name == first["set"])
    assert cells[-1] == ("0.87", "unlike 0.50")


def test_lengths_are_said_to_be_in_what_they_are_counted_in(run: dict[str, Any]) -> None:
    assert "length in words and marks" in Page(render_report(run)).text


@given(st.text(max_size=80), st.text(max_size=80))
def test_differences_keep_both_texts(before: str, after: str) -> None:
    left, right = difference(before, after)
    assert ("".join(w.text for w in left), "".join(w.text for w in right)) == (before, after)
    common = [["".join(w.text for w in side if not w.new)] for side in (left, right)]
    assert common[0] == common[1]


def test_artifacts_follow_the_summary(run: dict[str, Any], comparison: dict[str, Any]) -> None:
    rows = artifact_blocks(View(run))["panels"][0]["rows"]
    first = max((a for a in run["artifacts"] if a["z"] is not None), key=lambda a: a["z"])
    assert (rows[0]["phrase"], rows[0]["last"]) == (first["phrase"], percent(first["shares"][-1]))
    marks = list(ElementTree.fromstring(str(rows[0]["curve"])).iter(f"{SVG}circle"))
    heights = [float(str(mark.get("cy"))) for mark in marks]
    assert heights == [pytest.approx(5 + 24 * (1 - share), abs=0.06) for share in first["shares"]]
    merged = artifact_blocks(View(comparison))["panels"][0]["rows"][0]
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
    rows = artifact_blocks(View(twice))["panels"][0]["rows"]
    assert {row["kind"] for row in rows} == {f"marker of {marker['marker_of']}", "marker of another"}


def test_guard_tells_every_decision_and_what_was_undone(run: dict[str, Any]) -> None:
    blocks = guard_blocks(View(run))
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
    assert "No rule fired" in quiet


def test_every_rule_has_its_panels() -> None:
    assert set(LOOKS_AT) == set(RULES)
    fields = {field for each in LOOKS_AT.values() for field in each}
    point = summary_schema()["$defs"]["CurvePoint"]["properties"]
    assert fields - {"kl_to_base"} <= set(point)
    assert fields <= set(FIELDS)


def _decided(rule: str, stage: int, step: int) -> dict[str, Any]:
    found = {"rule": rule, "stage": stage, "step": step, "task": TASKS[stage - 1], "severity": "critical", "saw": {}}
    return found | {"actions": ["roll_back"], "message": "seen", "outcome": "done"}


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
    (figure,) = guard_blocks(View(summary))["figures"]
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
    blocks = guard_blocks(View(summary_of(**inputs | {"decisions": [_decided("entropy_collapse", 1, 6)]})))
    assert blocks["figures"][0].title == "Decisions over the entropy, sdpo"
    assert blocks["figures"][0].alt.startswith("Entropy over optimizer steps")
    inputs["metrics"] = [record | {"entropy": None} for record in inputs["metrics"]]
    blocks = guard_blocks(View(summary_of(**inputs | {"decisions": [_decided("retention", 1, 6)]})))
    assert blocks["figures"][0].title == "Decisions over the loss, sdpo"


@pytest.mark.parametrize("stage", [1, 2])
def test_what_a_stage_ended_with_undoing_is_in_the_figure_and_over_no_other_stage(stage: int) -> None:
    inputs = run_inputs("sdpo", order=TASKS[:2], n=20, steps=10, probe_steps=0)
    undone = [m for m in inputs["metrics"] if m["stage"] == stage and m["step"] > 4]
    inputs["metrics"] = [m for m in inputs["metrics"] if m not in undone]
    lines = [{"log": "metrics.jsonl", "decision": 0, "record": record} for record in undone]
    summary = summary_of(**inputs | {"decisions": [_decided("reward_collapse", stage, 10)], "discarded": lines})
    (figure,) = guard_blocks(View(summary))["figures"]
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
    assert ("pushes it to the right" in figure.note) == (stage == 1)


def test_a_stage_of_which_nothing_was_kept_is_drawn() -> None:
    inputs = run_inputs("sdpo", order=TASKS[:1], n=20, steps=10, probe_steps=0)
    lines = [{"log": "metrics.jsonl", "decision": 0, "record": record} for record in inputs["metrics"]]
    inputs |= {"metrics": [], "discarded": lines, "decisions": [_decided("reward_collapse", 1, 10)]}
    summary = summary_of(**inputs)
    (figure,) = guard_blocks(View(summary))["figures"]
    assert [t["x"] for t in figure.spec["data"] if t["name"] == "rolled back"] == [list(range(1, 11))]
    assert figure.spec["layout"]["xaxis"]["range"][1] >= 10
    assert "Decisions over the reward" in Page(render_report(summary)).text
    assert figure_as_svg(figure)


def test_prediction_has_the_points_and_the_fit(comparison: dict[str, Any]) -> None:
    figure = predicted(View(comparison))
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
    without = predicted(View(bare))
    assert without is not None
    assert "Too few runs" in without.note
    assert not [t for t in without.spec["data"] if t.get("fill")]


def test_a_label_stands_above_all_marks_of_its_recipe(comparison: dict[str, Any]) -> None:
    figure = predicted(View(comparison))
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
        text = figure_as_svg(figure)
        assert not list(ElementTree.fromstring(text).iter(f"{SVG}script"))


def test_every_figure_is_saved_as_svg_without_a_browser(tmp_path: Path, comparison: dict[str, Any]) -> None:
    figures = all_figures(comparison)
    paths = write_figures(figures, tmp_path / "new")
    assert len(paths) == len(set(paths)) == len(figures) > 15
    names = {path.name for path in paths}
    assert {"tradeoff.svg", "predicted.svg", "guard-0.svg", "layers-0-0-0.svg", "drift-relative-norm-0.svg"} <= names
    for path, figure in zip(paths, figures):
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        assert root.tag == f"{SVG}svg"
        assert root.findtext(f"{SVG}title") == figure.title
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"var\(|nan|inf\b|href|\"@", text)


def test_a_saved_figure_has_its_points_where_they_belong(comparison: dict[str, Any]) -> None:
    figure = next(f for f in all_figures(comparison) if f.id == "fig-reward-0")
    root = ElementTree.fromstring(figure_as_svg(figure))
    lines = [t for t in figure.spec["data"] if t["mode"] == "lines" and "fill" not in t]
    drawn = [
        [tuple(float(v) for v in pair.split(",")) for pair in str(p.get("points")).split()]
        for p in root.iter(f"{SVG}polyline")
    ]
    assert len(drawn) == len(lines)
    for trace, path in zip(lines, drawn):
        (x0, y0), (x1, _) = path[0], path[-1]
        scale_x = (x1 - x0) / (trace["x"][-1] - trace["x"][0])
        by_height = sorted(range(len(path)), key=trace["y"].__getitem__)
        low, high = by_height[0], by_height[-1]
        scale_y = (path[high][1] - path[low][1]) / (trace["y"][high] - trace["y"][low])
        assert scale_x > 0 > scale_y
        for (x, y), px, py in zip(path, trace["x"], trace["y"]):
            assert x == pytest.approx(x0 + scale_x * (px - trace["x"][0]), abs=0.11)
            assert y == pytest.approx(y0 + scale_y * (py - trace["y"][0]), abs=0.21)
    texts = {t.text for t in root.iter(f"{SVG}text")}
    assert {"sft", "sdft", "optimizer step"} <= texts


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


def test_a_saved_legend_stays_within_its_drawing() -> None:
    names = [f"a recipe with a long name {i}" for i in range(9)]
    arm = View({"kind": "run", "label": "sft", "order": ["sums"]}).arms[0]
    curves = [GrowthCurve(name, "", [(0, 0.1), (1, 0.1 * i)], [], None) for i, name in enumerate(names)]
    figure = growth_figure(arm, curves)
    assert figure is not None
    root = ElementTree.fromstring(figure_as_svg(figure))
    places = {t.text: (float(str(t.get("x"))), float(str(t.get("y")))) for t in root.iter(f"{SVG}text")}
    shown = [places[name] for name in names[:6]]
    assert len(set(shown)) == 6
    assert all(x + 7.4 * len(names[0]) <= 720 for x, _ in shown)
    highest = min(
        float(pair.split(",")[1]) for p in root.iter(f"{SVG}polyline") for pair in str(p.get("points")).split()
    )
    assert max(y for _, y in shown) < highest

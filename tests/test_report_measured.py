"""What the report shows beside scores: numbers follow the summary, and nothing is shown where nothing was measured."""

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
from holdfast.report import build, render_report
from holdfast.report.answers import answer_blocks, difference
from holdfast.report.artifacts import artifact_blocks
from holdfast.report.build import all_figures
from holdfast.report.drift import drift_blocks
from holdfast.report.numbers import nats, percent, small
from holdfast.report.predicted import predicted
from holdfast.report.timeline import guard_blocks
from holdfast.report.vector import figure_as_svg, write_figures
from holdfast.report.view import View
from summary_factory import TASKS, make_comparison, make_run
from test_report import HOSTILE, Page

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
    rows = dict(panel["rows"])
    assert rows["All weights"][0] == small(last["overall"]["relative_norm"])
    assert rows["mlp.up_proj"][2] == small(last["by_type"]["mlp.up_proj"]["spectral_shift"])
    assert rows["No-op floor"][0] == small(last["floor"]["relative_norm"])
    titles = [t.text or "" for t in ElementTree.fromstring(blocks["maps"][0].drawing).iter(f"{SVG}title")]
    for entry in run["drift"]:
        for m in entry["matrices"]:
            where = m["type"] if m["layer"] is None else f"{m['type']}, layer {m['layer']}"
            assert f"{where}: {small(m['relative_norm'])}; floor {small(m['floor_relative_norm'])}" in titles
    assert len(titles) == sum(len(entry["matrices"]) for entry in run["drift"])


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
    grey = [t for t in figure.spec["data"] if t.get("name") == "rolled back" and t["yaxis"] == "y"]
    (undone,) = run["discarded"]
    assert [(t["x"], t["y"]) for t in grey] == [
        ([p["step"] for p in undone["curve"]], [p["reward"] for p in undone["curve"]])
    ]
    text = Page(render_report(run)).text
    for decision in run["decisions"]:
        assert decision["message"] in text
        assert decision["outcome"] in text
    quiet = Page(render_report(run | {"decisions": [], "discarded": []})).text
    assert "No rule fired" in quiet


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
    assert {"sft", "sdft", "optimiser step"} <= texts

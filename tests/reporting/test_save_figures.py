"""`holdfast.reporting.save_figures`: every figure goes to plotly's exporter, offline, under its own name."""

import importlib.util
import json
import sys
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from guard_factory import guarded
from holdfast.errors import RunError
from holdfast.reporting.page import all_figures
from holdfast.reporting.save_figures import WIDTH, light_colors, on_paper, save_figures
from summary_factory import TASKS, make_comparison

SVG = "{http://www.w3.org/2000/svg}"


class ChromeNotFoundError(RuntimeError):
    """As in kaleido.errors."""


@pytest.fixture(scope="module")
def comparison() -> dict[str, Any]:
    return guarded(make_comparison(("sft", "sdft"), seeds=(0, 1), orders=(TASKS[:2],), n=60))


def _kaleido(monkeypatch: pytest.MonkeyPatch, write: Callable[..., None]) -> None:
    """Replace kaleido by a module with the interface of its version 1."""
    module, errors = types.ModuleType("kaleido"), types.ModuleType("kaleido.errors")
    module.write_fig_from_object_sync = write  # type: ignore[attr-defined]
    errors.ChromeNotFoundError = ChromeNotFoundError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kaleido", module)
    monkeypatch.setitem(sys.modules, "kaleido.errors", errors)


def test_every_figure_goes_to_the_exporter_and_nothing_is_loaded(
    comparison: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[list[dict[str, Any]], Mapping[str, Any]]] = []
    _kaleido(monkeypatch, lambda work, kopts: calls.append((work, kopts)))
    figures = all_figures(comparison)
    paths = save_figures(figures, tmp_path / "new")
    ((work, options),) = calls
    assert options == {"mathjax": False}  # kaleido's default is to load MathJax from a content delivery network
    assert [each["path"] for each in work] == paths
    assert all(each["opts"] == {"format": "svg"} for each in work)
    assert len(paths) == len(set(paths)) == len(figures) > 15
    names = {path.name for path in paths}
    assert {"tradeoff.svg", "predicted.svg", "guard-0.svg", "layers-0-0-0.svg", "drift-relative-norm-0.svg"} <= names
    assert (tmp_path / "new").is_dir()
    for each, figure in zip(work, figures, strict=True):
        go.Figure(each["fig"])  # refuses unknown properties and values, so also colors that were not filled in
        text = json.dumps(each["fig"], allow_nan=False)
        assert '"@' not in text
        assert "http" not in text
        assert each["fig"]["layout"]["height"] == figure.spec["layout"]["height"]
        assert each["fig"]["layout"]["width"] == WIDTH


def test_a_saved_figure_has_the_points_of_the_page_and_its_own_legend(comparison: dict[str, Any]) -> None:
    figure = next(f for f in all_figures(comparison) if f.id == "fig-reward-0")
    saved = on_paper(figure.spec, light_colors())
    assert [(t["x"], t["y"]) for t in saved["data"]] == [(t["x"], t["y"]) for t in figure.spec["data"]]
    assert saved["layout"]["showlegend"]
    named = [t["name"] for t in saved["data"] if t.get("name") and t.get("showlegend") is not False]
    assert named == ["sft", "sdft"]
    assert saved["layout"]["paper_bgcolor"] == "#ffffff"
    assert not figure.spec["layout"]["showlegend"]  # the page's own specification is unchanged


def test_a_label_that_begins_like_a_color_stays_as_it_is(comparison: dict[str, Any]) -> None:
    layout: dict[str, Any] = {"showlegend": False, "margin": {}}
    traces = [{"name": "@home", "line": {"color": "@c0/0.5"}, "marker": {"color": "@c0"}}]
    (trace,) = on_paper({"data": traces, "layout": layout}, {"c0": "#0072b2"})["data"]
    assert trace == {"name": "@home", "line": {"color": "rgba(0,114,178,0.5)"}, "marker": {"color": "#0072b2"}}


def test_without_kaleido_one_line_says_how_to_install_it(
    comparison: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(
        RunError, match=r'kaleido 1\.0 or newer \(pip install "holdfast\[figures\]"; Chrome or Chromium'
    ):
        save_figures(all_figures(comparison), tmp_path / "new")
    monkeypatch.setitem(sys.modules, "kaleido", types.ModuleType("kaleido"))  # as of a version before 1.0
    with pytest.raises(RunError, match=r"kaleido 1\.0 or newer"):
        save_figures(all_figures(comparison), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_without_chrome_one_line_says_so(
    comparison: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_chrome(*_: Any, **__: Any) -> None:
        raise ChromeNotFoundError

    _kaleido(monkeypatch, no_chrome)
    with pytest.raises(RunError, match=r'without Chrome or Chromium \(pip install "holdfast\[figures\]"'):
        save_figures(all_figures(comparison), tmp_path)


@pytest.mark.browser
@pytest.mark.skipif(importlib.util.find_spec("kaleido") is None, reason="kaleido is not installed")
def test_every_figure_is_saved_as_svg(comparison: dict[str, Any], tmp_path: Path) -> None:
    figures = all_figures(comparison)
    for path, figure in zip(save_figures(figures, tmp_path), figures, strict=True):
        text = path.read_text(encoding="utf-8")
        root = ElementTree.fromstring(text)
        assert root.tag == f"{SVG}svg"
        assert len(list(root.iter(f"{SVG}path"))) > 5, figure.id
        assert "var(" not in text
        assert "<image" not in text
        assert not list(root.iter(f"{SVG}script"))
        if figure.id == "fig-reward-0":
            assert {"sft", "sdft", "optimizer step"} <= {element.text for element in root.iter(f"{SVG}text")}

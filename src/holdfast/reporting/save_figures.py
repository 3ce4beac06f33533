"""Saving figures as SVG files from the command line, with plotly's own exporter.

The exporter is the package kaleido, an optional extra. Kaleido draws in a headless Chrome or Chromium, so one of these
must be installed too. The page itself needs neither: its "Save SVG" buttons work in the reader's browser.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.errors import RunError
from holdfast.reporting.figure import Figure, Spec
from holdfast.reporting.page import TEMPLATES
from holdfast.store.files import refuse_special

WIDTH = 720
"""Pixels of a saved figure."""

FONT = "Helvetica, Arial, sans-serif"

INSTALL = 'pip install "holdfast[figures]"; Chrome or Chromium must be installed too'


def save_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Write each figure as NAME.svg into a folder, which is created if it is missing; returns the paths.

    Raises:
        RunError: kaleido is not installed, or there is no Chrome or Chromium.
    """
    try:
        from kaleido import write_fig_from_object_sync  # a version before 1.0 does not have it
        from kaleido.errors import ChromeNotFoundError
    except ImportError:
        raise RunError("figures cannot be saved without kaleido 1.0 or newer", fix=INSTALL) from None
    colors = light_colors()
    paths = [Path(folder) / f"{figure.id.removeprefix('fig-')}.svg" for figure in figures]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path in paths:
        refuse_special(path)
    work = [
        {"fig": on_paper(figure.spec, colors), "path": path, "opts": {"format": "svg"}}
        for figure, path in zip(figures, paths)
    ]
    try:
        # Called here and not through plotly.io, which always lets kaleido load MathJax from the network.
        write_fig_from_object_sync(work, kopts={"mathjax": False})
    except ChromeNotFoundError:
        raise RunError("figures cannot be saved without Chrome or Chromium", fix=INSTALL) from None
    return paths


def on_paper(spec: Spec, colors: Mapping[str, str]) -> Spec:
    """A figure's specification for plotly: colors filled in, white background, a legend if several traces have names.

    templates/save.js does the same in the page.
    """
    painted = _paint(spec, colors)
    data, layout = painted["data"], painted["layout"]
    layout |= {"width": WIDTH, "paper_bgcolor": "#ffffff"}
    named = [trace for trace in data if trace.get("name") and trace.get("showlegend") is not False]
    if not layout["showlegend"] and len(named) > 1:
        legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
        layout |= {"showlegend": True, "legend": legend, "margin": layout["margin"] | {"t": 56}}
    return {"data": data, "layout": layout}


def light_colors() -> dict[str, str]:
    """The light theme's colors by name, from the page's own style sheet."""
    css = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    light = css[: css.index('[data-theme="dark"]')]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})\b", light))


def _paint(node: Any, colors: Mapping[str, str]) -> Any:
    """A copy of a specification in which "@name/opacity" is a color; see `holdfast.reporting.figure`."""
    if isinstance(node, Mapping):
        return {key: _paint(value, colors) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_paint(value, colors) for value in node]
    if not isinstance(node, str) or not node.startswith("@"):
        return node
    name, _, opacity = node[1:].partition("/")
    if name == "font":
        return FONT
    value = colors.get(name)
    if value is None or not opacity:
        return value or node  # a label may begin with "@" too
    red, green, blue = (int(value[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"

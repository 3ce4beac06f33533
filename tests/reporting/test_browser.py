"""`holdfast.reporting.page` in a browser: no requests, keyboard, both themes, paper and phones."""

import os
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from guard_factory import guarded
from holdfast.reporting import write_report
from summary_factory import SUITES, TASKS, make_comparison, make_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

pytestmark = pytest.mark.browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE: "ViewportSize" = {"width": 1280, "height": 900}
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


def _unavailable(reason: str) -> None:
    """Skip; fail instead if HOLDFAST_REQUIRE_BROWSER says that a browser must be available."""
    if os.environ.get("HOLDFAST_REQUIRE_BROWSER") == "1":
        pytest.fail(f"HOLDFAST_REQUIRE_BROWSER is 1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _unavailable("playwright is not installed")
    path_of_browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if path_of_browser is None:
        _unavailable(f"no browser is on the path, looked for {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path_of_browser, args=["--no-sandbox"], timeout=120_000)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of each kind. The comparison has two task orders, guard decisions and a hostile completion."""
    folder = tmp_path_factory.mktemp("reports")
    small: dict[str, Any] = {"suites": SUITES[:2], "n": 60, "samples": 1}
    tasks = TASKS[:2]
    comparison = guarded(make_comparison(seeds=(0, 1), orders=(tasks, tasks[::-1]), **small))
    summary = comparison["runs"][0]["summary"]
    summary["samples"][0]["completions"][1]["text"] = HOSTILE + " a long answer" * 400
    made = {
        "comparison": comparison,
        "run": guarded(make_run(**small)),
        "single": make_comparison(("sft", "sdft"), seeds=(0,), orders=(("facts",),), **small),
    }
    return {name: write_report(summary, folder / f"{name}.html") for name, summary in made.items()}


@dataclass
class Opened:
    """A page with all its console messages, errors and requests."""

    page: "Page"
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def _open(browser: "Browser", path: Path, **context: Any) -> Opened:
    page = browser.new_context(viewport=WIDE, **context).new_page()
    page.set_default_timeout(120_000)
    opened = Opened(page)
    page.on("console", lambda message: opened.messages.append(message.text))
    page.on("pageerror", lambda error: opened.messages.append(str(error)))
    page.on("request", lambda request: opened.requests.append(request.url))
    page.goto(path.as_uri())
    return opened


def _draw_all(page: "Page") -> list[str]:
    """Scroll to every visible figure and wait until it is drawn; returns their ids."""
    ids: list[str] = page.evaluate("[...document.querySelectorAll('.plot')].filter(e => e.offsetWidth).map(e => e.id)")
    for name in ids:
        page.locator(f"#{name}").scroll_into_view_if_needed()
        page.locator(f"#{name} .main-svg").first.wait_for(state="visible")
    return ids


def _values(page: "Page", name: str) -> list[str]:
    values: list[str] = page.locator(f"#curves select[data-filter={name}] option").evaluate_all(
        "all => all.map(o => o.value)"
    )
    return values


@pytest.fixture(scope="module", params=["comparison", "run", "single"])
def opened(request: pytest.FixtureRequest, browser: "Browser", reports: dict[str, Path]) -> Iterator[Opened]:
    opened = _open(browser, reports[request.param])
    yield opened
    opened.page.context.close()


def test_every_figure_is_drawn_in_silence(opened: Opened) -> None:
    page = opened.page
    page.set_viewport_size(WIDE)
    drawn = set(_draw_all(page))
    chosen = {
        "guard": ["run"],
        "drift": ["order", "recipe", "measure"],
        "responses": ["order", "stage"],
        "artifacts": ["recipe"],
    }
    for section, names in chosen.items():
        choices = [page.locator(f"#{section} select[data-filter={name}]") for name in names]
        known = [c.locator("option").evaluate_all("all => all.map(o => o.value)") or [None] for c in choices]
        for values in product(*known):
            for choice, value in zip(choices, values):
                if value is not None:
                    choice.select_option(value)
            drawn |= set(_draw_all(page))
    for order in _values(page, "order") or [None]:
        if order:
            page.locator("#curves select[data-filter=order]").select_option(order)
        for shown in _values(page, "set"):
            page.locator("#curves select[data-filter=set]").select_option(shown)
            drawn |= set(_draw_all(page))
    assert drawn == set(page.evaluate("Object.keys(JSON.parse(document.getElementById('figures').textContent))"))
    sizes = page.locator(".plot:visible .main-svg").evaluate_all("all => all.map(e => [e.clientWidth, e.clientHeight])")
    assert sizes
    assert all(width > 100 and height > 100 for width, height in sizes)
    traces = ":is(.scatterlayer .trace, .barlayer .trace)"
    assert page.locator(f".plot:visible {traces}").count() >= page.locator(".plot:visible").count()
    assert opened.messages == []
    assert opened.requests == [page.url]


def test_narrow_screen_never_scrolls_sideways(opened: Opened) -> None:
    page = opened.page
    page.set_viewport_size({"width": 360, "height": 740})
    assert _draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.wait_for_function(
        "[...document.querySelectorAll('.plot .main-svg')].every(e => !e.clientWidth || e.clientWidth <= 360)"
    )
    assert page.evaluate("document.querySelector('#matrix .scroll:not([hidden])').tabIndex") == 0
    assert opened.messages == []


def test_theme_follows_the_system_and_the_button(browser: "Browser", reports: dict[str, Path]) -> None:
    page = _open(browser, reports["comparison"], color_scheme="light").page
    page.locator("#fig-tradeoff").scroll_into_view_if_needed()
    page.locator("#fig-tradeoff .xtick").first.wait_for()
    colors = (
        "[getComputedStyle(document.body).backgroundColor, "
        "getComputedStyle(document.querySelector('#fig-tradeoff .xtick text')).fill]"
    )
    light = page.evaluate(colors)
    same = f"expected => JSON.stringify({colors}) === JSON.stringify(expected)"
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"expected => {colors}.every((color, i) => color !== expected[i])", arg=light)
    dark = page.evaluate(colors)
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    page.locator("#theme").focus()
    page.keyboard.press("Enter")
    assert page.locator("#theme").get_attribute("aria-pressed") == "false"
    page.wait_for_function(same, arg=light)
    page.locator("#theme").press(" ")
    page.wait_for_function(same, arg=dark)
    page.context.close()


def test_everything_is_reached_by_keyboard(browser: "Browser", reports: dict[str, Path]) -> None:
    page = _open(browser, reports["comparison"]).page
    stops = []
    for _ in range(200):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            "() => { const e = document.activeElement; return e === document.body ? null : [e.tagName.toLowerCase(), "
            "e.className || e.id || e.getAttribute('href') || e.dataset.filter || '', "
            "getComputedStyle(e).outlineStyle] }"
        )
        if stop is None:
            break
        stops.append(tuple(stop))
        if stop[1] == "metric":
            break
    assert stops[0][:2] == ("a", "skip")
    names = [stop[:2] for stop in stops]
    for wanted in [("a", "#matrix"), ("button", "theme"), ("button", "chip"), ("select", "set"), ("select", "recipe")]:
        assert wanted in names
    assert names.index(("button", "theme")) < names.index(("button", "chip")) < names.index(("select", "recipe"))
    assert "summary" in [tag for tag, *_ in stops]
    assert all(outline != "none" for tag, _, outline in stops if tag in ("a", "button", "select"))
    page.keyboard.press("Home")
    page.locator(".skip").press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.context.close()


def test_selectors_and_buttons_choose_what_is_shown(browser: "Browser", reports: dict[str, Path]) -> None:
    opened = _open(browser, reports["comparison"])
    page = opened.page
    panels = page.locator("#samples [data-panel]:visible")
    assert panels.count() == 1
    first = panels.first.inner_text()
    assert "<script>" in first  # a completion's markup is text
    page.locator("#samples select[data-filter=recipe]").select_option(label="grpo")
    assert panels.count() == 1
    assert panels.first.inner_text() != first
    rows = page.locator("#differences tr[data-panel]:visible")
    assert rows.count() == 6
    before = rows.all_inner_texts()
    page.locator("#differences select").select_option(label="Final score (%)")
    assert rows.count() == 6
    assert rows.all_inner_texts() != before
    assert page.locator("#matrix table:visible").count() == 1
    page.locator("#matrix select").select_option("1")
    assert page.locator("#matrix table:visible thead").inner_text().index("facts") < 100
    assert "Entropy fell" in page.locator("#guard").inner_text()
    maps = page.locator("#drift .plot[id^=fig-layers]:visible")
    assert maps.count() == 1
    page.locator("#drift select[data-filter=measure]").select_option("1")
    assert maps.count() == 1
    assert "spectral" in str(maps.get_attribute("aria-label"))
    assert page.title().startswith("synthetic")

    page.locator("#fig-tradeoff").scroll_into_view_if_needed()
    marks = page.locator("#fig-tradeoff .points path")
    marks.first.wait_for()
    before = marks.count()
    page.locator("#tradeoff button[data-toggle='0']").press("Enter")
    assert page.locator("button[data-toggle='0'][aria-pressed=false]").count() == 5
    assert marks.count() < before
    assert not page.locator("figure[data-only='0']").first.is_visible()
    page.locator("#curves button[data-toggle='0']").press("Enter")
    page.locator("#fig-tradeoff").scroll_into_view_if_needed()
    page.wait_for_function(f"document.querySelectorAll('#fig-tradeoff .points path').length == {before}")
    assert opened.messages == []
    page.context.close()


def test_all_figures_are_on_paper(browser: "Browser", reports: dict[str, Path]) -> None:
    opened = _open(browser, reports["comparison"], color_scheme="dark")
    assert len(opened.page.pdf(format="A4")) > 50_000
    plots = ".plot:visible"
    assert opened.page.locator(plots).count() == opened.page.locator(f"{plots}:has(.main-svg)").count() > 4
    assert opened.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert opened.messages == []
    opened.page.context.close()


def test_the_numbers_are_there_without_scripts(browser: "Browser", reports: dict[str, Path]) -> None:
    page = _open(browser, reports["comparison"], java_script_enabled=False).page
    assert page.locator("#samples [data-panel]").count() == page.locator("#samples [data-panel]:visible").count() > 4
    assert page.locator("#matrix table:visible").count() == 2
    assert page.locator(".plot noscript").first.is_visible()
    page.context.close()


SAVED = ["fig-tradeoff", "fig-reward-0", "fig-guard-0", "fig-predicted", "fig-layers-0-0-0", "fig-artifacts-0"]


@pytest.mark.parametrize("figure", SAVED)
def test_figures_are_saved_as_svg_from_the_page(browser: "Browser", reports: dict[str, Path], figure: str) -> None:
    opened = _open(browser, reports["comparison"], color_scheme="dark")
    page = opened.page
    with page.expect_download() as saved:
        page.locator(f"button[data-save={figure}]").press("Enter")
    assert saved.value.suggested_filename == f"{figure.removeprefix('fig-')}.svg"
    text = saved.value.path().read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 5
    assert "var(" not in text
    assert "<image" not in text
    if figure == "fig-reward-0":  # the page's legend is outside the figure; the file has its own
        assert all(f">{label}</text>" in text for label in ("sft", "sdft", "sdpo", "grpo"))
    assert opened.messages == []
    assert all(url == page.url or url.startswith(("blob:", "data:")) for url in opened.requests)
    page.context.close()

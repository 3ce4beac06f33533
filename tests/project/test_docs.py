"""`docs/`, `README.md`, `CONTRIBUTING.md` and `CHANGELOG.md`: every block runs, and every link works.

Each page runs in its own empty folder, block by block in the order of the page. A bash block runs line by line;
`holdfast` runs in this process. A Python block runs, or is written to the file that its first line names. A YAML block
must be a valid configuration, or a part of one. A block that cannot run here says why in a comment before it; its
commands must exist.
"""

import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from holdfast import recipes as methods
from holdfast.cli.app import main
from holdfast.config.load import load_config
from holdfast.config.settings import CompareConfig, RunConfig, StreamSettings
from holdfast.store.bundled import BASES
from holdfast.stream.check import duration
from sandboxes import require_sandbox

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")), *DOCS]
BLOCK = re.compile(
    r"^(?:<!-- not run by the tests: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
FILE_NAME = re.compile(r"# ([\w-]+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block, and its page and line."""

    language: str
    text: str
    reason: str | None
    where: str

    @property
    def file_name(self) -> str | None:
        """The file that the block is written to; None if the block is run."""
        named = FILE_NAME.match(self.text)
        return named[1] if named else None

    def commands(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip() and not line.startswith("#")]


def name_of(page: Path) -> str:
    """A page's path from the root of the checkout."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["text"], m["reason"], f"{name_of(page)}:{text.count(chr(10), 0, m.start()) + 1}")
        for m in BLOCK.finditer(text)
    ]


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a page. Recipes and modules that the page defines are removed afterwards."""
    recipes = dict(methods.RECIPES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    yield tmp_path
    methods.RECIPES.clear()
    methods.RECIPES.update(recipes)
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def run_command(line: str, where: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "holdfast":
        assert main(words[1:]) == 0, f"{where}: {line}"
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", line], check=True)


def check_yaml(block: Block, folder: Path) -> None:
    data = yaml.safe_load(block.text)
    kind: type[StreamSettings] = CompareConfig if "recipes" in data else RunConfig
    path = folder / (block.file_name or "unnamed.yaml")
    path.write_text(block.text if "tasks" in data else f"tasks: [lab:calculation]\n{block.text}", encoding="utf-8")
    load_config(path, kind)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_runs(page: Path, empty_folder: Path) -> None:
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        if block.reason is not None or block.language == "text":
            continue
        if block.language == "bash":
            for line in block.commands():
                run_command(line, block.where)
        elif block.language == "yaml":
            check_yaml(block, empty_folder)
        elif block.file_name is not None:
            (empty_folder / block.file_name).write_text(block.text, encoding="utf-8")
        else:
            exec(compile(block.text, block.where, "exec"), names)


def is_complete(block: Block, folder: Path) -> bool:
    """Whether a block is a whole configuration on a model of the lab, and the page has made its files."""
    data = yaml.safe_load(block.text) if block.language == "yaml" else {}
    if "tasks" not in data or not {"recipe", "recipes"} & set(data):
        return False
    sources = [each for each in [*data["tasks"], *data.get("suites", ())] if isinstance(each, dict)]
    files = [folder / each[key] for each in sources for key in ("train", "test") if key in each]
    others = any({"gym", "lm_eval", "dataset"} & set(each) for each in sources) or PROGRAMS in data["tasks"]
    path = data.get("model", {}).get("path", "lab")
    return path in BASES and not others and all(map(Path.exists, files))


PROGRAMS = "lab:programs"
"""A task that needs a sandbox, whose configuration has a test of its own."""

COMPLETE = {
    "docs/lab.md": 1,
    "docs/artifacts.md": 1,
    "docs/blend.md": 1,
    "docs/check.md": 1,
    "docs/configuration.md": 1,
    "docs/distributed.md": 1,
    "docs/evaluation.md": 1,
    "docs/gate.md": 1,
    "docs/guard.md": 1,
    "docs/quickstart.md": 2,
    "docs/recipes/index.md": 1,
    "docs/tutorial-your-data.md": 3,
}
"""Pages with complete configurations on the lab's model or the tutorial's data, and how many."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_complete_configuration_passes_the_check_as_it_stands(
    page: Path, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duration, "TIMED_ITEMS", 1)  # a time that is not looked at
    every = blocks(page)
    for block in every:
        if block.language == "python" and block.file_name is not None:
            (empty_folder / block.file_name).write_text(block.text, encoding="utf-8")
    for line in (line for block in every if block.language == "bash" for line in block.commands()):
        if (words := shlex.split(line))[0] == "python" and Path(words[1]).exists():
            runpy.run_path(words[1], run_name="__main__")
    complete = [block for block in every if is_complete(block, empty_folder)]
    assert len(complete) == COMPLETE.get(name_of(page), 0)
    for number, block in enumerate(complete):
        path = empty_folder / f"{number}.yaml"
        path.write_text(block.text, encoding="utf-8")
        assert main(["check", str(path), "--items", "1"]) == 0, block.where


@pytest.mark.slow
def test_the_configuration_of_programs_runs_and_passes_the_check(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_sandbox()
    monkeypatch.setattr(duration, "TIMED_ITEMS", 1)
    (block,) = (each for each in blocks(ROOT / "docs" / "lab.md") if each.file_name == "programs.yaml")
    Path("programs.yaml").write_text(block.text, encoding="utf-8")
    few = ["--set", "train.steps=1", "--set", "train.prompts_per_step=2", "--set", "eval.max_items=2"]
    assert main(["run", "programs.yaml", "-q", *few]) == 0
    assert main(["check", "programs.yaml", "--items", "1"]) == 0


def test_a_configuration_of_two_lines_passes_the_check(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duration, "TIMED_ITEMS", 1)
    Path("two.yaml").write_text("tasks: [lab:facts]\nrecipe: sft\n", encoding="utf-8")
    assert main(["check", "two.yaml", "--items", "1"]) == 0


def test_blocks_are_of_kinds_that_are_checked() -> None:
    every = [block for page in PAGES for block in blocks(page)]
    assert len(every) > 30
    for block in every:
        assert block.language in ("bash", "python", "yaml", "text"), block.where
    for page in PAGES:
        assert page.read_text(encoding="utf-8").count("```") == 2 * len(blocks(page)), name_of(page)


def test_commands_that_are_not_run_exist(capsys: pytest.CaptureFixture[str]) -> None:
    targets = (ROOT / "Makefile").read_text(encoding="utf-8").partition(".PHONY:")[2].splitlines()[0].split()
    for page in PAGES:
        for block in blocks(page):
            if block.reason is None or block.language != "bash":
                continue
            for line in block.commands():
                command, first, *_ = shlex.split(line, comments=True)
                if command == "make":
                    assert first in targets, block.where
                elif command == "holdfast":
                    assert main([first, "--help"]) == 0, block.where
                else:
                    assert command in ("pip", "torchrun"), f"{block.where}: {line} is neither run nor known"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_up_to_date() -> None:
    render = generator().render
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert render(text) == text, f"{name_of(page)} is out of date: run `make docs`"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    heads = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def links(page: Path) -> list[str]:
    """Targets of a page's links, without those to other hosts."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not target.startswith("https://")]


def linked_file(page: Path, target: str) -> Path:
    name = target.partition("#")[0]
    return (page.parent / name).resolve() if name else page


def test_every_link_has_a_target() -> None:
    for page in PAGES:
        for target in links(page):
            path, anchor = linked_file(page, target), target.partition("#")[2]
            assert path.exists(), f"{name_of(page)}: {target}"
            assert not anchor or anchor in anchors(path), f"{name_of(page)}: {target}"


def test_every_page_is_reachable_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            waiting += [path for target in links(page) if (path := linked_file(page, target)).suffix == ".md"]
    # The site begins at index.md; the README takes its place elsewhere.
    assert [name_of(page) for page in PAGES if page not in {*reached, ROOT / "docs" / "index.md"}] == []


def test_the_pages_of_the_documentation_are_linked_by_the_readme_itself() -> None:
    readme = {linked_file(ROOT / "README.md", target) for target in links(ROOT / "README.md")}
    pages = set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "index.md"}
    assert [name_of(page) for page in sorted(pages - readme)] == []


def in_navigation(entry: Any) -> Iterator[str]:
    """The pages of a part of the site's navigation: a path, or a list or table of parts."""
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from in_navigation(part)


def test_the_site_shows_every_page() -> None:
    """The details of findings are the exception: docs/findings.md links them."""
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    shown = [ROOT / "docs" / path for path in in_navigation(site["project"]["nav"])]
    details = ROOT / "docs" / "findings"
    assert sorted(shown) == [page for page in DOCS if details not in page.parents]

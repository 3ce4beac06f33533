"""Every block of the documentation is run: page by page, in the order of the page, each page in an empty folder.

A block of bash is run line by line, `holdfast` within this process; one of Python is run, or written into the file that
its first line names; one of YAML must be a valid configuration, or part of one. A block that cannot be run here says
why in a comment before it, and then its commands must at least exist.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
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

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- not run by the tests: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
FILE_NAME = re.compile(r"# ([\w-]+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block, and where it stands."""

    language: str
    text: str
    reason: str | None
    where: str

    @property
    def file_name(self) -> str | None:
        """The file that the block is to be written into."""
        named = FILE_NAME.match(self.text)
        return named[1] if named else None

    def commands(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip() and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["text"], m["reason"], f"{page.name}:{text.count(chr(10), 0, m.start()) + 1}")
        for m in BLOCK.finditer(text)
    ]


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a page; recipes and modules that the page defines are gone afterwards."""
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
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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


def test_blocks_are_of_kinds_that_are_checked() -> None:
    found = [block for page in PAGES for block in blocks(page)]
    assert len(found) > 30
    for block in found:
        assert block.language in ("bash", "python", "yaml", "text"), block.where
    for page in PAGES:
        assert page.read_text(encoding="utf-8").count("```") == 2 * len(blocks(page)), page.name


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
        assert render(text) == text, f"{page.name} is out of date: run `make docs`"


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by, as GitHub does."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    heads = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if target.startswith("https://"):
                continue
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            assert path.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(path), f"{page.name}: {target}"


def test_every_page_can_be_found_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme, page.name

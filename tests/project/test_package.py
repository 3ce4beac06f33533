"""`pyproject.toml`, `constraints.txt` and `Makefile`: package data, pins, and a set-up that runs once."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import holdfast

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "holdfast"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BASE_LIMIT = 10 * 1024 * 1024


def test_wheel_holds_the_whole_package(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(PACKAGE, tmp_path / "src" / "holdfast", ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"holdfast/{p.relative_to(PACKAGE).as_posix()}" for p in PACKAGE.rglob("*") if p.is_file()}
    assert {name for name in wanted if "__pycache__" not in name} <= packed
    assert any(name.endswith("licenses/LICENSE") for name in packed)


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "lab/demo.yaml",
        "lab/base/config.json",
        "lab/base/model.safetensors",
        "lab/base/tokenizer.json",
        "lab/base/chat_template.jinja",
        "lab/base/pretraining.jsonl",
        "reporting/templates/report.html.j2",
    ],
)
def test_package_data_is_found(name: str) -> None:
    assert files("holdfast").joinpath(name).is_file()


def test_bundled_base_is_small_and_safe() -> None:
    base = [path for path in (PACKAGE / "lab" / "base").iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in base) <= BASE_LIMIT
    assert {path.suffix for path in base} <= {".json", ".jsonl", ".jinja", ".safetensors"}


def test_version_is_stated_once() -> None:
    assert PROJECT["project"]["version"] == holdfast.__version__


def test_every_requirement_is_pinned_to_a_version_that_it_allows() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {r.name.lower(): r for line in lines if line and not line.startswith("#") for r in [Requirement(line)]}
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    for requirement in (Requirement(text) for group in groups for text in group):
        if requirement.name != "holdfast":
            (pin,) = pins[requirement.name.lower()].specifier
            assert pin.operator == "==", requirement
            assert requirement.specifier.contains(pin.version), requirement


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the files that the set-up reads. No real environment is made in it."""
    if shutil.which("make") is None:
        pytest.skip("no make here")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(checkout: Path, python: Path | str, target: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", target, f"PYTHON={python}"], cwd=checkout, env=own, capture_output=True, text=True)


STAND_IN = """\
#!/bin/sh
# Logs its arguments. Makes an environment whose Python is this script.
echo "$*" >> calls
case "$*" in "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;; esac
"""


def test_set_up_happens_once_and_again_when_the_pins_change(checkout: Path) -> None:
    python = checkout / "stand-in"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    calls = checkout / "calls"

    def installs() -> int:
        return calls.read_text().count("-m pip install")

    assert make(checkout, python, "setup").returncode == 0
    assert installs() == 1
    assert "-c constraints.txt" in calls.read_text()
    assert make(checkout, python, "setup").returncode == 0
    (checkout / "pyproject.toml").touch()
    assert make(checkout, python, "setup").returncode == 0
    assert installs() == 1
    with (checkout / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert make(checkout, python, "setup").returncode == 0
    assert installs() == 2


def test_an_old_python_is_refused_in_one_line(checkout: Path) -> None:
    old = checkout / "old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make(checkout, old, "setup")
    assert done.returncode != 0
    assert "holdfast needs Python 3.11 or newer" in done.stderr
    assert not (checkout / ".venv").exists()

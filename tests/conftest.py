"""Set-up of all tests: few threads, no network, caches in a folder that goes away; fixtures that many share.

Property tests draw the same examples every time and are not held to a time limit, so that a busy machine fails none.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("small_runs", "processes", "commands")  # a failed assertion in them shows its values

from cases import Tried, table, taken  # noqa: E402
from commands import Commands  # noqa: E402
from tiny_model import SAMPLE_TEXTS, build_tiny_model  # noqa: E402

# Set before any test imports torch or a Hugging Face library, since they read these once. Two threads at most, because
# more only spin against each other on small tensors; one each where several test processes share the cores. These
# inherit the environment of the process that starts them, so there the number is set whatever it was.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ[name] = "1"
    else:
        os.environ.setdefault(name, str(min(2, os.cpu_count() or 1)))
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
_cache = tempfile.mkdtemp(prefix="holdfast-tests-")
os.environ["HF_DATASETS_CACHE"] = _cache
atexit.register(shutil.rmtree, _cache, ignore_errors=True)

settings.register_profile(
    "holdfast", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("holdfast")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Hand on what a harness has noted: properties of a test come from its process to the one that reports."""
    taken()
    try:
        return (yield)
    finally:
        item.user_properties += [("cases", tuple(each)) for each in taken()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show by kind how many cases harnesses have tried, and how many were wrong."""
    reports = [report for each in terminalreporter.stats.values() for report in each]
    properties = [own for report in reports if getattr(report, "when", "") == "call" for own in report.user_properties]
    if noted := [Tried(*value) for name, value in properties if name == "cases"]:
        terminalreporter.section("cases")
        for line in table(noted):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small randomly initialized Qwen3 model; built once, never to be changed by a test."""
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model", texts=SAMPLE_TEXTS)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of published task data, which is not part of the project."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HOLDFAST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no published task data at {folder}; set HOLDFAST_DATA to its folder")
    return folder


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Runs commands in this process; configurations are written into the test's own folder."""
    return Commands(tmp_path, capsys)

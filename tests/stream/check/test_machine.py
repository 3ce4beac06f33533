"""`holdfast.stream.check.machine`: what there is, whatever the system tells."""

import shutil
from pathlib import Path

import pytest
import torch

from holdfast.stream.check import machine
from holdfast.stream.check.machine import Machine


def test_the_disk_is_that_of_a_directory_that_does_not_exist_yet(tmp_path: Path) -> None:
    found = Machine.of(torch.device("cpu"), tmp_path / "runs" / "new")
    assert found.free_disk == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert found.memory_of == "machine"
    assert found.memory is None or found.memory > 2**28


@pytest.mark.parametrize(("limit", "counts"), [("1000000000", True), ("max", False), ("", False)])
def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, counts: bool) -> None:
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(machine, "CGROUP_LIMIT", tmp_path / "memory.max")
    assert (Machine.of(torch.device("cpu"), tmp_path).memory == 10**9) is counts


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_its_memory_counts(tmp_path: Path) -> None:
    found = Machine.of(torch.device("cuda"), tmp_path)
    assert (found.memory_of, found.memory) == ("GPU", torch.cuda.get_device_properties(0).total_memory)

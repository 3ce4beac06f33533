"""`holdfast.stream.checkpoints`: after a power cut at any moment, a run resumes and ends like an uninterrupted one."""

import random
import shutil
from functools import partial
from pathlib import Path

import pytest

from cases import amount, spread, tally
from guarded_runs import guarded_config
from power_cuts import KINDS, record
from processes import start
from small_runs import assert_same, write_config

pytestmark = pytest.mark.processes

NAMES = ("grpo", "sdft with LoRA", "npo", "sdpo with a guard")
CUTS = 3
"""Moments of each run in the short form; in the long form there is one before each change of a file."""


def _config(folder: Path, name: str) -> Path:
    return guarded_config(folder) if name == "sdpo with a guard" else write_config(folder, name)


@pytest.mark.torture
@pytest.mark.parametrize("name", NAMES)
def test_a_run_resumes_after_a_power_cut(tmp_path: Path, name: str) -> None:
    config, disk, log = _config(tmp_path, name), tmp_path / "disk", tmp_path / "changes.txt"
    start("run", config, "-o", tmp_path / "whole").finish()
    disk.mkdir()
    watched = partial(record, root=str(disk), images=str(tmp_path / "images"), log=str(log))
    start("run", config, "-o", disk / "run", before=partial(watched, chosen=())).finish()
    changes = log.read_text().splitlines()
    for path in sorted(disk.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    log.unlink()
    moments = list(range(1, len(changes) + 1))
    offset = random.Random(name).randrange(3)
    chosen = frozenset(spread(moments[offset:], amount(CUTS, len(moments))))
    start("run", config, "-o", disk / "run", before=partial(watched, chosen=chosen)).finish()
    assert_same(tmp_path / "whole", disk / "run")
    wrong = []
    for moment in sorted(chosen):
        for kind in KINDS:
            run = tmp_path / "images" / f"{moment}-{kind}" / "run"
            arguments = ("resume", run) if (run / "config.yaml").exists() else ("run", config, "-o", run)
            command = start(*arguments)
            try:
                assert command.join() == [0], command.output()
                assert_same(tmp_path / "whole", run)
            except AssertionError as error:
                wrong.append(f"{kind} before {changes[moment - 1]}: {error}")
            else:
                shutil.rmtree(run.parent)  # in the long form there are hundreds of them
    tally("power cuts", name, len(chosen) * len(KINDS), wrong)

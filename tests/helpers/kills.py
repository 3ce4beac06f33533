"""A run that is killed at random points, and resumed until it ends."""

import random
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cases import amount, counted
from interruptions import Kind, count_in
from processes import start
from small_runs import RUNS, assert_same

KILLS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(RUNS, (3, 50)),
    "grpo": (5, 60),
    **dict.fromkeys(("sdpo", "sdft with LoRA", "npo", "auto_npo"), (4, 50)),
    **dict.fromkeys(("atesd", "sd_zero", "olora", "sft with blending", "sft with blending and LoRA"), (0, 50)),
    "two processes": (3, 50),
    "a run that its guard rolls back": (3, 50),
    "a run whose guard decides at the ends of stages": (3, 25),
    "a comparison": (3, 50),
}
"""How often runs are killed, by the name of the run or of what is special about it: in the short form and in the long
one. The short one leaves some out."""

KINDS: tuple[Kind, ...] = ("operation", "file", "checkpoint")
REACH: dict[Kind, int] = {"operation": 25000, "file": 90, "checkpoint": 60}
"""A process is killed after at most this many operations or events."""


def kill_again_and_again(folder: Path, config: Path, name: str, *, size: int = 1, command: str = "run") -> Path:
    """Kill and resume a run many times and let it finish. It must end like `folder/whole`. Returns its directory.

    Args:
        name: one of `KILLS`.
        command: "run" or "compare".
    """
    kills = amount(*KILLS[name])
    with counted("kills", kills):
        run = _killed_again_and_again(folder, config, kills, random.Random(name), size, command)
        assert_same(folder / "whole", run)
    return run


def _killed_again_and_again(
    folder: Path, config: Path, kills: int, rng: random.Random, size: int, command: str
) -> Path:
    run = folder / "killed"
    begin = (command, config, "-o")
    kinds = KINDS if command == "run" else KINDS[:2]  # the runs of a comparison have their own checkpoints
    first = rng.randrange(len(kinds))
    arguments: tuple[str | Path, ...] = (*begin, run)
    done = 0
    while done < kills:
        kind = kinds[(first + done) % len(kinds)]  # three kills are of all kinds
        log = folder / "kill.txt"
        log.unlink(missing_ok=True)
        last = rng.randrange(1, REACH[kind])
        of = rng.randrange(size) if kind == "operation" else 0  # the main process, which writes most of the files
        killed = start(
            *arguments,
            size=size,
            before=partial(count_in, of=of, kind=kind, run=str(run), last=last, log=str(log)),
        )
        codes = killed.join()
        if codes[of] == 0:  # the run has finished before the kill: start again in a new directory
            assert_same(folder / "whole", run)
            run = run.with_name(f"{run.name}+")
        else:
            assert codes[of] == -signal.SIGKILL, f"{codes}: {killed.output()}"
            assert all(codes), "the others must not go on without it"
            assert "Traceback" not in killed.output()
            done += 1
            print(f"kill {done}: {log.read_text()}")
        arguments = ("resume", run) if (run / "config.yaml").exists() else (*begin, run)
    start(*arguments, size=size).finish()
    return run

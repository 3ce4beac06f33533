"""A run that is killed at random points, and resumed until it ends."""

import random
import signal
from functools import partial
from pathlib import Path

from interruptions import Kind, count_in
from processes import start
from small_runs import assert_same

KINDS: tuple[Kind, ...] = ("operation", "file", "checkpoint")
REACH: dict[Kind, int] = {"operation": 25000, "file": 90, "checkpoint": 60}
"""A process is killed after at most this many operations or events."""


def kill_again_and_again(
    folder: Path, config: Path, *, kills: int, seed: str, size: int = 1, command: str = "run"
) -> Path:
    """Kill and resume a run `kills` times, let it finish, and return its directory.

    Args:
        command: "run" or "compare".
    """
    rng = random.Random(seed)
    run = folder / "killed"
    begin = (command, config, "-o")
    kinds = KINDS if command == "run" else KINDS[:2]  # the runs of a comparison have their own checkpoints
    arguments: tuple[str | Path, ...] = (*begin, run)
    done = 0
    while done < kills:
        kind = rng.choice(kinds)
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

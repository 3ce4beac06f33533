"""Damage to a file of a run directory, and what a run that meets it may do."""

import random
import re
import shutil
from pathlib import Path

from processes import start
from small_runs import assert_same

WAYS = ("flip", "cut", "empty", "delete", "{}", "[]")


def damage(path: Path, way: str, rng: random.Random) -> None:
    """Damage a file.

    Args:
        way: one of `WAYS`; "flip" changes one bit.
    """
    content = path.read_bytes()
    if way == "delete":
        path.unlink()
    elif way == "flip":
        place = rng.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :])
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b""}.get(way, way.encode()))


def ways_for(path: Path) -> list[str]:
    """The ways in which a file can be damaged; other JSON takes the place of JSON alone."""
    return [way for way in WAYS if way not in ("{}", "[]") or path.suffix in (".json", ".jsonl", ".yaml")]


def fault_of_resume(whole: Path, run: Path, file: Path, backup: bytes) -> str:
    """Resume a run with a damaged file; returns what is wrong with that, or "".

    It may end as if nothing had been damaged; or it is refused in one line that names the file, has changed nothing,
    and resumes once the file is back. Only a changed configuration, which may be a user's will, may change the result,
    and then the file is named too.

    Args:
        whole: the run that nothing has happened to.
        backup: what the file held.
    """
    command = start("resume", run)
    code, output = command.join()[0], command.output()
    lines = [line for line in output.splitlines() if line.startswith("holdfast: ")]
    if "Traceback" in output:
        return f"traceback: {output.splitlines()[-1]}"
    if code == 0:
        if file.name == "config.yaml" and any(str(file) in line for line in lines):
            return ""
        try:
            assert_same(whole, run)
        except AssertionError as error:
            return f"another result: {error}"
        return ""
    errors = [line for line in lines if "error: " in line]
    if code != 2 or len(errors) != 1:
        return f"exit code {code}: {output}"
    named = file.parent if file.parent.parent.name == "checkpoints" else file
    if str(named) not in errors[0] and not (str(run) in errors[0] and file.name in errors[0]):
        return f"the file is not named: {errors[0]}"
    if file.name == "config.yaml":
        return ""  # its content is checked as any configuration's is
    if not re.search(r"\(.+\)$", errors[0]):
        return f"no mend is named: {errors[0]}"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(backup)
    command = start("resume", run)
    if command.join() != [0]:
        return f"not mended by a backup: {command.output()}"
    try:
        assert_same(whole, run)
    except AssertionError as error:
        return f"another result after a backup: {error}"
    return ""


def fault_of_damage(whole: Path, healthy: Path, run: Path, name: str, way: str) -> str:
    """Damage one file in a copy of a run, and resume it; returns what is wrong with that, or "".

    Args:
        healthy: the run that is copied to `run`.
        name: of the file within the run.
    """
    shutil.copytree(healthy, run)
    file = run / name
    backup = file.read_bytes()
    damage(file, way, random.Random(f"{name} {way}"))
    fault = fault_of_resume(whole, run, file, backup)
    shutil.rmtree(run)
    return fault and f"{name}, {way}: {fault}"

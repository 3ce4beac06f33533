"""From claims to findings: their runs, then what they say. Torch is imported by experiments without runs alone."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from holdfast.findings.budgets import budgets
from holdfast.findings.claim import Claim, Finding
from holdfast.findings.provenance import Provenance, provenance
from holdfast.findings.runs import carry_out, carry_out_apart, evidence, jobs_of

QUICK_SEEDS = (0, 1, 2)

FULL_SEEDS = (0, 1, 2, 3, 4, 5)


def find(
    claims: Sequence[Claim],
    folder: Path,
    *,
    seeds: Sequence[int],
    full: bool = False,
    workers: int = 2,
    watch: Callable[[str], None] = lambda line: None,
) -> list[Finding]:
    """Put claims to the test.

    Args:
        folder: of the runs; finished ones are taken as they are, one that was stopped goes on.
        seeds: of every arm; two at least, or nothing has an interval.
        full: measure on more items.
        workers: runs at a time, with one thread each.
        watch: called with a line whenever something is done.

    Raises:
        RunError: a run failed.
    """
    jobs = jobs_of(claims, seeds, full=full)
    started, done = time.perf_counter(), 0

    def on_done(job: object) -> None:
        nonlocal done
        done += 1
        watch(f"{done} of {len(jobs)} runs, {time.perf_counter() - started:.0f} s")

    carry_out(jobs, folder, workers=workers, on_done=on_done)
    apart = carry_out_apart(claims, seeds, workers=workers)
    findings = []
    for claim in claims:
        begun = time.perf_counter()
        table = None
        if claim.measure is None:
            quantities = apart[claim.name]
        else:
            found = evidence(claim, seeds, folder, full=full)
            quantities = claim.measure(found)
            table = (claim.table or budgets)(found)
        finding = Finding(claim, quantities, time.perf_counter() - begun, full, table)
        findings.append(finding)
        watch(f"{claim.name}: {finding.verdict}")
    return findings


def made_by(claims: Sequence[Claim], folder: Path, *, seeds: Sequence[int], full: bool) -> Provenance:
    """Which code made the finished runs of claims, and how long they took."""
    return provenance([folder / job.name for job in jobs_of(claims, seeds, full=full)])

"""From claims to findings: carry out the runs, then measure. Only experiments without runs import torch."""

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
    """Test claims.

    Args:
        folder: for the runs. Finished runs are reused, interrupted runs resume.
        seeds: for every arm. With fewer than two, nothing has an interval.
        full: train longer and measure on more items.
        workers: number of runs at the same time, with one thread each.
        watch: called with one line after every run and every claim.

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
        began = time.perf_counter()
        table = None
        if claim.measure is None:
            quantities = apart[claim.name]
        else:
            finished = evidence(claim, seeds, folder, full=full)
            quantities = claim.measure(finished)
            table = (claim.table or budgets)(finished)
        finding = Finding(claim, quantities, time.perf_counter() - began, full, table)
        findings.append(finding)
        watch(f"{claim.name}: {finding.verdict}")
    return findings


def made_by(claims: Sequence[Claim], folder: Path, *, seeds: Sequence[int], full: bool) -> Provenance:
    """The commits that completed the claims' runs, and their total time."""
    return provenance([folder / job.name for job in jobs_of(claims, seeds, full=full)])

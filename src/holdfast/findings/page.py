"""Findings as a table for the terminal, as data, and as a page. Torch-free."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast import __version__
from holdfast.findings.claim import Finding, Quantity


def number(quantity: Quantity) -> str:
    """A quantity's mean with its unit."""
    if quantity.mean is None:
        return "not defined"
    return f"{quantity.mean:+.3g} {quantity.unit}".strip()


def interval(quantity: Quantity) -> str:
    if quantity.ci95 is None:
        return "–"
    low, high = quantity.ci95
    return f"{low:+.3g} to {high:+.3g}"


def table_rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """Claim, quantity, number, interval and what that says; the verdict stands at a claim's first row."""
    rows: list[tuple[str, ...]] = []
    for finding in findings:
        for place, quantity in enumerate(finding.quantities):
            first = (finding.claim.name, finding.verdict) if place == 0 else ("", "")
            rows.append((first[0], quantity.name, number(quantity), interval(quantity), quantity.outcome, first[1]))
    return rows


HEADER = ("claim", "what is above 0 if it holds", "found", "95% interval", "outcome", "verdict")


def commit() -> str | None:
    """The commit of the checkout that this package runs from; marked where files differ from it, None outside one."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        known = git("rev-parse", "--short=12", "HEAD")
        return known + (" with changes" if git("status", "--porcelain", "--", str(here.parent)) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def as_json(findings: Sequence[Finding], made: Mapping[str, Any]) -> dict[str, Any]:
    """All of it as plain data; `made`: command, seeds, commit and the like."""
    return {**made, "holdfast_version": __version__, "findings": [finding.as_json() for finding in findings]}


def as_markdown(findings: Sequence[Finding], made: Mapping[str, Any]) -> str:
    """The page: how it was made, one table, and each claim with what it was measured on."""
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in ("reproduced", "in part")}
    missing = len(findings) - sum(counts.values())
    lines = [
        "# Findings",
        "",
        "Claims of the papers, put to the test on the lab. What would count was written down before anything was run,",
        "and nothing was tuned until it agreed. The lab is a wind tunnel: a claim that does not hold here may hold for",
        "large models, and the other way round.",
        "",
        "<!-- not run by the tests: it takes minutes to hours of two cores -->",
        "```bash",
        str(made["command"]),
        "```",
        "",
        f"Seeds {', '.join(map(str, made['seeds']))}; commit {made['commit'] or 'unknown'}; version {__version__}; "
        f"{made['date']}; {made['minutes']:.0f} minutes.",
        "",
        f"Of {len(findings)} claims, reproduced: {counts['reproduced']}; in part: {counts['in part']}; not: {missing}.",
        "A quantity *holds* where its 95% interval over seeds lies above 0, is *reversed* where it lies below, and is",
        "*not shown* otherwise: with three seeds the interval is 4.3 standard errors to either side. Intervals are not",
        "corrected for the number of claims.",
        "",
        *_markdown_table(("claim", "source", "found", "95% interval", "verdict"), _short_rows(findings)),
        "",
    ]
    for finding in findings:
        claim = finding.claim
        lines += [f"## {claim.name}", "", f"{claim.statement} ({claim.source})", ""]
        rows = [(q.name, number(q), interval(q), q.outcome, _values(q)) for q in finding.quantities]
        lines += [*_markdown_table(("above 0 if it holds", "found", "95% interval", "outcome", "by seed"), rows), ""]
        if finding.table is not None:
            lines += [*_markdown_table(finding.table.head, finding.table.rows), ""]
        if claim.arms:
            runs = ", ".join(f"`{arm.label}`" for arm in claim.taken(full=finding.full))
            lines += [f"Runs: {runs}.", ""]
        for quantity in finding.quantities:
            if quantity.outcome != "holds":
                lines += [f"Why not, probably: {quantity.if_not} ({quantity.name})", ""]
    return "\n".join(lines).rstrip() + "\n"


def _short_rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for finding in findings:
        found = "<br>".join(f"{q.name}: {number(q)}" for q in finding.quantities)
        intervals = "<br>".join(interval(q) for q in finding.quantities)
        name = finding.claim.name
        rows.append((f"[{name}](#{name})", finding.claim.source, found, intervals, finding.verdict))
    return rows


def _values(quantity: Quantity) -> str:
    return ", ".join("–" if value is None else f"{value:.3g}" for value in quantity.values)


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]

"""Findings as a table for the terminal, as data, and as a page. Torch-free."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast import __version__
from holdfast.findings.claim import ClaimVerdict, Finding, Quantity


def number(quantity: Quantity) -> str:
    """A quantity's mean with its unit."""
    return "not defined" if quantity.mean is None else f"{_signed(quantity.mean)} {quantity.unit}".strip()


def _signed(value: float) -> str:
    """Three digits; what rounding alone leaves of 0 is 0."""
    return f"{0.0 if abs(value) < 1e-9 else value:+.3g}"


def interval(quantity: Quantity) -> str:
    if quantity.ci95 is None:
        return "–"
    low, high = quantity.ci95
    return f"{_signed(low)} to {_signed(high)}"


def table_rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """Claim, quantity, number, interval and what that says; the verdict stands at a claim's first row."""
    rows: list[tuple[str, ...]] = []
    for finding in findings:
        for place, quantity in enumerate(finding.quantities):
            first = (finding.claim.name, finding.verdict) if place == 0 else ("", "")
            rows.append((first[0], quantity.name, number(quantity), interval(quantity), quantity.outcome, first[1]))
    return rows


HEADER = ("claim", "what is above 0 if it holds", "found", "95% interval", "outcome", "verdict")


def as_json(findings: Sequence[Finding], made: Mapping[str, Any]) -> dict[str, Any]:
    """All of it as plain data; `made`: command, seeds, commit and the like."""
    return {**made, "holdfast_version": __version__, "findings": [finding.as_json() for finding in findings]}


INTRODUCTION = (
    "Claims put to the test on the lab. The lab is a wind tunnel: a claim that does not hold here may hold for large",
    "models, and the other way round. Measures were written down before their runs, but not once for all: after a",
    "first whole run (commit 9418622af3e0, whose page is in the history of docs/findings.md) those that did not read",
    "what the claims say were replaced, whatever they had found.",
)

HOW_TO_READ = (
    "A quantity *holds* where its 95% interval over seeds lies above 0 (above −5 where it says *no worse by 5*), is",
    "*reversed* where it lies below, and is *undecided* otherwise, or where it is not defined for every seed. A claim",
    "is *reproduced* where all its quantities hold. Else it is *not reproduced* where one is reversed, and *in part*",
    "where one holds, each after Holm's correction for the number of its quantities; whatever is left is *undecided*.",
    "Nothing is corrected for the number of claims. All runs answer the same test items, whose choice is in no",
    "interval, and a t interval over three seeds is 4.3 standard errors to either side, over six 2.6.",
)


def as_markdown(findings: Sequence[Finding], made: Mapping[str, Any]) -> str:
    """The page: how it was made, one table, and each claim with what it was measured on."""
    counts = Counter(finding.verdict for finding in findings)
    verdicts: tuple[ClaimVerdict, ...] = ("reproduced", "in part", "undecided", "not reproduced")
    said = "; ".join(f"{verdict}: {counts[verdict]}" for verdict in verdicts)
    lines = [
        "# Findings",
        "",
        *INTRODUCTION,
        "",
        "<!-- not run by the tests: it takes minutes to hours of two cores -->",
        "```bash",
        str(made["command"]),
        "```",
        "",
        f"Seeds {', '.join(map(str, made['seeds']))}; version {__version__}; {made['date']}; read by commit "
        f"{made['commit'] or 'unknown'}.",
        *_how_runs_were_made(made),
        "",
        f"Of {len(findings)} {'claim' if len(findings) == 1 else 'claims'}, {said}.",
        *HOW_TO_READ,
        "",
        *_markdown_table(("claim", "above 0 if it holds", "found", "95% interval", "n", "verdict"), _rows(findings)),
        "",
    ]
    for finding in findings:
        claim = finding.claim
        lines += [f"## {claim.name}", "", f"{claim.statement} ({claim.source})", ""]
        rows = [(q.name, number(q), interval(q), q.outcome, _values(q)) for q in finding.quantities]
        lines += [*_markdown_table(("above 0 if it holds", "found", "95% interval", "outcome", "by seed"), rows), ""]
        if finding.table is not None:
            lines += [*_markdown_table(finding.table.head, finding.table.rows), ""]
        reasons: dict[str, list[str]] = {}
        for quantity in finding.quantities:
            if quantity.reason is not None:
                reasons.setdefault(quantity.reason, []).append(quantity.name)
        for reason, names in reasons.items():
            lines += [f"- *{'; '.join(names)}*: {reason}"]
        lines += [""] if reasons else []
    return "\n".join(lines).rstrip() + "\n"


def _how_runs_were_made(made: Mapping[str, Any]) -> list[str]:
    if not made["runs"]:
        return []
    commits = ", ".join(made["commits"])
    return [
        f"{made['runs']} runs, finished by commit {commits}, took {made['run_seconds'] / 60:.0f} minutes of one core."
    ]


def _rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """One of each quantity; claim and verdict stand at a claim's first."""
    rows: list[tuple[str, ...]] = []
    for finding in findings:
        link = f"[{finding.claim.name}](#{finding.claim.name})"
        for place, q in enumerate(finding.quantities):
            first, last = (link, finding.verdict) if place == 0 else ("", "")
            rows.append((first, q.name, number(q), interval(q), str(q.estimate.n), last))
    return rows


def _values(quantity: Quantity) -> str:
    return ", ".join("–" if value is None else _signed(value) for value in quantity.values)


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]

"""Findings as a table for the terminal, as data, and as Markdown pages. Torch-free."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from holdfast import __version__
from holdfast.findings.claim import ClaimVerdict, Finding, Quantity


def number(quantity: Quantity) -> str:
    """A quantity's mean with its unit."""
    return "not defined" if quantity.mean is None else f"{_signed(quantity.mean)} {quantity.unit}".strip()


def _signed(value: float) -> str:
    """Three digits with a sign. A rounding error next to 0 becomes 0."""
    return f"{0.0 if abs(value) < 1e-9 else value:+.3g}"


def interval(quantity: Quantity) -> str:
    if quantity.ci95 is None:
        return "–"
    low, high = quantity.ci95
    return f"{_signed(low)} to {_signed(high)}"


def table_rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """Claim, quantity, number, interval, outcome and verdict. Only a claim's first row has its name and verdict."""
    rows: list[tuple[str, ...]] = []
    for finding in findings:
        for place, quantity in enumerate(finding.quantities):
            first = (finding.claim.name, finding.verdict) if place == 0 else ("", "")
            rows.append((first[0], quantity.name, number(quantity), interval(quantity), quantity.outcome, first[1]))
    return rows


HEADER = ("claim", "quantity (above 0 supports the claim)", "mean", "95% CI", "outcome", "verdict")


def as_json(findings: Sequence[Finding], made: Mapping[str, Any]) -> dict[str, Any]:
    """Everything as plain data. `made` has the command, seeds, commit and so on."""
    return {**made, "holdfast_version": __version__, "findings": [finding.as_json() for finding in findings]}


INTRODUCTION = """\
Claims of papers, tested on the lab. The lab is small: a claim that fails here may hold for large models, and a claim
that holds here may fail for them. All measures were written down before their runs. After a first complete run
(commit 9418622af3e0; its page is in the history of docs/findings.md), measures that did not match what a claim says
were replaced, whatever their result was.""".splitlines()

HOW_TO_READ = """\
## How to read this

- A quantity is above 0 if the claim is true, or above −5 if it says *not below −5*.
- A quantity *holds* if its 95% CI over seeds is above that bound. It is *reversed* if the CI is below the bound.
  Otherwise, or if a seed has no value, it is *inconclusive*.
- A claim is *reproduced* if all its quantities hold. If not, it is *not reproduced* if a quantity is reversed, and
  *partly reproduced* if a quantity holds, both after Holm's correction for the number of its quantities. Otherwise it
  is *inconclusive*.
- Nothing is corrected for the number of claims.
- All runs answer the same test items, so the CIs do not include the choice of items.
- A 95% t interval extends 4.3 standard errors to each side with three seeds, and 2.6 with six.
- *Forgetting* is the mean loss on earlier tasks and retention suites. *At the same score* means: at the first score on
  the new task that both runs reach, interpolated between probes.""".splitlines()

OUTCOMES = ("quantity (above 0 supports the claim)", "mean", "95% CI", "outcome", "by seed")


def as_pages(findings: Sequence[Finding], made: Mapping[str, Any], path: PurePath) -> dict[PurePath, str]:
    """The Markdown pages: an overview at `path`, and one page per claim in the folder of that name.

    A single claim has no overview: its page is at `path`, under the claim's title if it has one.
    """
    if len(findings) == 1:
        title = findings[0].claim.title or findings[0].claim.name
        lines = [*_claim(findings[0], title), *INTRODUCTION, "", *_origin(made), ""]
        return {path: _text([*lines, *_details(findings[0]), *HOW_TO_READ])}
    folder = path.with_suffix("")
    lines = ["# Findings", "", *INTRODUCTION, "", *_origin(made), "", f"Of {len(findings)} claims, {_tally(findings)}."]
    lines += ["", *HOW_TO_READ, "", "## Results", ""]
    lines += ["Each claim links to its details: the values by seed, and its runs.", ""]
    lines += _markdown_table(("claim", *OUTCOMES[:3], "n", "verdict"), _rows(findings, folder.name))
    pages = {path: _text(lines)}
    for finding in findings:
        see = f"See [how to read this](../{path.name}#how-to-read-this)."
        head = _claim(finding, finding.claim.name)
        pages[folder / f"{finding.claim.name}.md"] = _text([*head, see, "", *_details(finding)])
    return pages


def _claim(finding: Finding, title: str) -> list[str]:
    """The head of a claim's page: its title, what it says, and the verdict."""
    claim = finding.claim
    return [
        f"# {title}",
        "",
        *_wrapped(f"{claim.statement} Source: {claim.source}."),
        "",
        f"Verdict: **{finding.verdict}**.",
        "",
    ]


def _tally(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.verdict for finding in findings)
    verdicts: tuple[ClaimVerdict, ...] = ("reproduced", "partly reproduced", "inconclusive", "not reproduced")
    return "; ".join(f"{verdict}: {counts[verdict]}" for verdict in verdicts)


def _origin(made: Mapping[str, Any]) -> list[str]:
    """The command, and the code and time of the runs."""
    lines = [
        "<!-- not run by the tests: it takes minutes to hours of two cores -->",
        "```bash",
        str(made["command"]),
        "```",
        "",
        f"Seeds {', '.join(map(str, made['seeds']))}; version {__version__}; {made['date']}; read by commit "
        f"{made['commit'] or 'unknown'}.",
    ]
    if made["runs"]:
        commits, minutes = ", ".join(made["commits"]), made["run_seconds"] / 60
        lines += [f"{made['runs']} runs, completed by commit {commits}, took {minutes:.0f} minutes of one core."]
    return lines


def _details(finding: Finding) -> list[str]:
    """A claim's quantities by seed, why a quantity does not hold, and the runs."""
    rows = [(q.name, number(q), interval(q), q.outcome, _values(q)) for q in finding.quantities]
    lines = ["## Quantities", "", *_markdown_table(OUTCOMES, rows), ""]
    reasons: dict[str, list[str]] = {}
    for quantity in finding.quantities:
        if quantity.reason is not None:
            reasons.setdefault(quantity.reason, []).append(quantity.name)
    lines += [f"- *{'; '.join(names)}*: {reason}" for reason, names in reasons.items()]
    lines += [""] if reasons else []
    if finding.table is not None:
        lines += ["## Runs", "", *_markdown_table(finding.table.head, finding.table.rows), ""]
    return lines


def _wrapped(text: str) -> list[str]:
    """A paragraph in lines of at most 120 characters. Words and links stay whole."""
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


def _rows(findings: Sequence[Finding], folder: str) -> list[tuple[str, ...]]:
    """One row per quantity. A claim's first row has the link to its page in `folder`, and the verdict."""
    rows: list[tuple[str, ...]] = []
    for finding in findings:
        link = f"[{finding.claim.name}]({folder}/{finding.claim.name}.md)"
        for place, q in enumerate(finding.quantities):
            first, last = (link, finding.verdict) if place == 0 else ("", "")
            rows.append((first, q.name, number(q), interval(q), str(q.estimate.n), last))
    return rows


def _values(quantity: Quantity) -> str:
    return ", ".join("–" if value is None else _signed(value) for value in quantity.values)


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]

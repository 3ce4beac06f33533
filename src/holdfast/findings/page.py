"""Findings as a table for the terminal, as data, and as Markdown pages. Torch-free."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from holdfast import __version__
from holdfast.findings.arm import RATES, TUNING_WORLDS, ClaimArm
from holdfast.findings.claim import VERDICTS, Finding
from holdfast.findings.curves import COLUMNS as CURVE_COLUMNS
from holdfast.findings.curves import StepScores, curve_rows
from holdfast.findings.markdown import markdown_table, text_of, wrapped
from holdfast.findings.power import detectable, spread
from holdfast.findings.quantity import MeasuredQuantity
from holdfast.findings.rates import at_edge

HEADER = ("claim", "verdict", "quantity (above 0 supports the claim)", "mean", "95% CI", "outcome")


def number(measured: MeasuredQuantity) -> str:
    """A quantity's mean with its unit."""
    mean = measured.estimate.difference
    return "not defined" if mean is None else f"{signed(mean)} {measured.quantity.unit}".strip()


def signed(value: float) -> str:
    """Three digits with a sign. A rounding error next to 0 becomes 0."""
    return f"{0.0 if abs(value) < 1e-9 else value:+.3g}"


def interval(measured: MeasuredQuantity) -> str:
    ends = measured.estimate.ci95
    return "–" if ends is None else f"{signed(ends[0])} to {signed(ends[1])}"


def outcome(measured: MeasuredQuantity) -> str:
    """What the interval shows, with the smallest effect of interest where it matters."""
    smallest = f"{measured.quantity.smallest:g} {measured.quantity.unit}".strip()
    if measured.outcome == "no difference":
        return f"no difference above {smallest}"
    if measured.quantity.no_worse and measured.outcome == "holds":
        return f"holds: not lower than −{smallest}"
    return measured.outcome


def table_rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """One row per quantity. Only a claim's first row has its name and verdict."""
    rows: list[tuple[str, ...]] = []
    for finding in findings:
        for place, each in enumerate(finding.measured):
            first = (finding.claim.name, finding.verdict) if place == 0 else ("", "")
            rows.append((*first, _name(each), number(each), interval(each), outcome(each)))
    return rows


def _name(measured: MeasuredQuantity) -> str:
    return measured.quantity.name if measured.quantity.decides else f"({measured.quantity.name})"


def as_json(findings: Sequence[Finding], made: Mapping[str, Any]) -> dict[str, Any]:
    """Everything as plain data. `made` has the command, worlds, rates, commit and so on."""
    return {**made, "holdfast_version": __version__, "findings": [finding.as_json() for finding in findings]}


INTRODUCTION = """\
Claims of papers, tested on the lab. The lab is small: a claim that fails here may hold for large models, and a claim
that holds here may fail for them. Each claim is a file that was committed before its runs: what it says, where, in
which stream and with which arms it is tested, what must be true of the base, the smallest effect of interest, and what
would count against it.""".splitlines()

HOW_TO_READ = f"""\
## How to read this

- Every world has its own facts, tools, meanings and headers, and its own seed. The intervals are 95% t intervals over
  worlds, so they include the choice of items.
- A quantity is above 0 if the claim is true. It *holds* if its interval is above 0, and is *reversed* if it is below.
  If the interval lies within the smallest effect of interest on both sides, there is *no difference*. Otherwise, or if
  a world has no value, it is *inconclusive*.
- A quantity that says *not lower* holds if its interval is above minus the smallest effect of interest.
- A claim *holds* if all quantities that decide hold. It is *reversed* if one is reversed after Holm's correction for
  their number. If none is open and one shows no difference, the claim shows *no difference*. If a precondition fails,
  it is *untestable here*. Otherwise it is *inconclusive*. Quantities in brackets are shown beside, and decide nothing.
- Nothing is corrected for the number of claims.
- *Detectable* is the effect that such an experiment would show in 80% of cases, with the spread that was seen.
- Each arm's learning rate is the best of {", ".join(f"{rate:g}" for rate in RATES)} on the tuning worlds
  {" and ".join(map(str, TUNING_WORLDS))}, which no claim uses: the one with the highest mean of the tasks' final score
  and the suites' final score. On streams whose claims are about learning alone, the tasks' final score chooses. Claims
  about what happens at one rate say so.
- That a recipe *keeps more* or *forgets less* than another, each at its own best rate, is decided by the mean of the
  new tasks' final score and the old skills' final score. What is lost alone would not do: a recipe that loses little is
  given a high rate, so it learns much more, and may lose as much as a rival that learns little.
- *Lost* is the mean loss of four suites of old skills. *KL on old prompts* is KL(base‖model) on the right answers of
  these suites, in nats per token: it has no sampling noise.
- The claims were written before their runs. When worlds 0 to 5 had been measured for the claims of the papers behind
  holdfast, a review found that several claims compared recipes at unequal points. So the quantities that decide were
  changed: to one rate for all, or to *keeps more* as above. The numbers of these worlds had been seen by then.
- One claim cannot be tested here: that StableOPD (arXiv 2604.08527) keeps answers from becoming endless. No answer of
  any recipe is cut off in this lab.""".splitlines()

COLUMNS = ("quantity (above 0 supports the claim)", "mean", "95% CI", "outcome", "smallest of interest", "detectable")


def as_pages(
    findings: Sequence[Finding],
    made: Mapping[str, Any],
    path: PurePath,
    *,
    curves: Mapping[str, Sequence[StepScores]] | None = None,
    figures: Sequence[str] = (),
) -> dict[PurePath, str]:
    """The Markdown pages: an overview at `path`, and one page per claim in the folder of that name.

    Args:
        curves: learning and forgetting by step, for a section of their own.
        figures: links to their figures.
    """
    folder = path.with_suffix("")
    lines = ["# Findings", "", *INTRODUCTION, "", *_origin(made), "", f"Of {len(findings)} claims, {tally(findings)}."]
    lines += ["", *HOW_TO_READ, "", "## Results", ""]
    lines += ["Each claim links to its details: preconditions, values by world, and arms.", ""]
    lines += markdown_table(("claim", "verdict", *COLUMNS[:4]), _rows(findings, folder.name))
    if power := power_rows(findings):
        lines += ["", "## Power", ""]
        lines += wrapped(
            "What the claims of the papers behind holdfast could show: the effect that a test at the 5% level finds in "
            "80% of cases, with the spread that was seen. The quick form has four worlds, the full form ten."
        )
        lines += ["", *markdown_table(POWER_COLUMNS, power)]
    if curves:
        lines += ["", "## Learning and forgetting by step", ""]
        lines += wrapped(
            "Eight recipes on new facts, in the same worlds. Scores are in points, over 48 items of each set; the last "
            "step has 96."
        )
        lines += [line for link in figures for line in ("", f"![Scores by step]({link})")]
        lines += ["", *markdown_table(CURVE_COLUMNS, curve_rows(curves, made["rates"]))]
    pages = {path: text_of(lines)}
    for finding in findings:
        see = f"See [how to read this](../{path.name}#how-to-read-this)."
        pages[folder / f"{finding.claim.name}.md"] = text_of([*_head(finding), see, "", *_details(finding, made)])
    return pages


def tally(findings: Sequence[Finding]) -> str:
    """How many claims have each verdict, in words."""
    counts = Counter(finding.verdict for finding in findings)
    return "; ".join(f"{counts[verdict]}: {meaning}" for verdict, meaning in VERDICTS.items())


def _head(finding: Finding) -> list[str]:
    """The head of a claim's page: what it says, the verdict, and what would count against it."""
    claim = finding.claim
    lines = [f"# {claim.name}", "", *wrapped(f"{claim.statement} Source: {claim.source}."), ""]
    lines += [f"Verdict: **{finding.verdict}**.", "", *wrapped(f"What would count against it: {claim.against}"), ""]
    return [*lines, *wrapped(claim.note), ""] if claim.note else lines


def _origin(made: Mapping[str, Any]) -> list[str]:
    """The command, and the code and time of the runs."""
    return [
        "<!-- not run by the tests: it takes hours of two cores -->",
        "```bash",
        str(made["command"]),
        "```",
        "",
        *wrapped(
            f"Worlds {', '.join(map(str, made['worlds']))}; version {__version__}; {made['date']}; "
            f"{made['runs']} measurements by commit {', '.join(made['commits'])} took {made['hours']:.1f} hours of one "
            "core."
        ),
    ]


def _details(finding: Finding, made: Mapping[str, Any]) -> list[str]:
    """A claim's preconditions, quantities, values by world, and arms."""
    lines: list[str] = []
    if finding.preconditions:
        lines += ["## Preconditions", ""]
        lines += [f"- {'met' if each.is_met else '**fails**'}: {each.text()}" for each in finding.preconditions]
        lines += [""]
    lines += ["## Quantities", "", *markdown_table(COLUMNS, [_row(each) for each in finding.measured]), ""]
    lines += ["By world:", ""]
    lines += [f"- {_name(each)}: {_values(each)}" for each in finding.measured]
    if finding.claim.arms:
        rows = [_arm(arm, made["rates"]) for arm in finding.claim.arms]
        lines += ["", "## Arms", "", *markdown_table(("arm", "stream", "recipe", "learning rate"), rows)]
    return [*lines, ""]


def _arm(arm: ClaimArm, rates: Mapping[str, float]) -> tuple[str, ...]:
    recipe = arm.recipe if isinstance(arm.recipe, str) else ", ".join(f"{k}: {v}" for k, v in arm.recipe.items())
    settings = "".join(f"; {key}: {value}" for key, value in arm.settings.items())
    rate = rates[arm.label]
    about = "fixed" if arm.rate is not None else at_edge(rate, arm.rates)
    return arm.label, arm.stream.name, recipe + settings, f"{rate:g} ({about})" if about else f"{rate:g}"


def _row(measured: MeasuredQuantity) -> tuple[str, ...]:
    able = detectable(measured.values)
    unit, smallest = measured.quantity.unit, measured.quantity.smallest
    return (
        _name(measured),
        number(measured),
        interval(measured),
        outcome(measured),
        f"{smallest:g} {unit}".strip(),
        "–" if able is None else f"{able:.2g} {unit}".strip(),
    )


def _rows(findings: Sequence[Finding], folder: str) -> list[tuple[str, ...]]:
    """One row per quantity. A claim's first row has the link to its page in `folder`, and the verdict."""
    rows: list[tuple[str, ...]] = []
    for finding in findings:
        link = f"[{finding.claim.name}]({folder}/{finding.claim.name}.md)"
        for place, each in enumerate(finding.measured):
            first = (link, finding.verdict) if place == 0 else ("", "")
            rows.append((*first, *_row(each)[:4]))
    return rows


def _values(measured: MeasuredQuantity) -> str:
    return ", ".join("–" if value is None else signed(value) for value in measured.values)


POWER_COLUMNS = ("claim", "quantity", "sd over worlds", "detectable in 4 worlds", "in 10", "smallest of interest")


def power_rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """For each deciding quantity of the quick form's claims: the spread over worlds, and the effects that four and ten
    worlds show in 80% of cases."""
    rows: list[tuple[str, ...]] = []
    for finding in findings:
        for each in finding.measured:
            if not (each.quantity.decides and finding.claim.is_quick):
                continue
            known = [spread(each.values), *(detectable(each.values, worlds) for worlds in (4, 10))]
            shown = ["–" if value is None else f"{value:.2g}" for value in known]
            smallest = f"{each.quantity.smallest:g} {each.quantity.unit}".strip()
            rows.append((finding.claim.name, each.quantity.name, *shown, smallest))
    return rows

"""`holdfast drift`: how far B's weights have moved from A's, and in which directions."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.console import is_main_process
from holdfast.model.quiet import silence_progress_bars

if TYPE_CHECKING:
    from holdfast.evaluate.drift import DriftResult, MatrixDrift, Pooled

DriftModel = Annotated[
    str, typer.Argument(help="A model folder, a PEFT adapter's folder, a hub id, or `lab`.", show_default=False)
]

SHOWN = 8
"""Matrices that moved most that are shown; the JSON file has all."""


def drift(
    a: DriftModel,
    b: DriftModel,
    earlier: Annotated[
        list[str] | None,
        typer.Option(
            "--earlier",
            metavar="MODEL",
            help="A model between A and B, in order, whose update B's is compared with; may be given again. "
            "By default, where B is a stage of a run, the stages before it.",
        ),
    ] = None,
    rank: Annotated[int, typer.Option("--rank", min=1, help="Singular vectors that count as leading.")] = 64,
    mask_share: Annotated[
        float, typer.Option("--mask-share", min=0.01, max=0.99, help="Share of entries that a mask takes.")
    ] = 0.3,
    exact: Annotated[
        bool, typer.Option("--exact", help="Decompose matrices with more than 2048 rows and columns exactly too.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all of it as JSON, each matrix by itself.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Measure how far B's weights moved from A's: norms, singular values, subspaces, and which entries."""
    from holdfast.evaluate.drift import drift
    from holdfast.store.files import write_json

    silence_progress_bars()
    with watched(quiet or not is_main_process()) as progress:
        found = drift(a, b, earlier=earlier, rank=rank, mask_share=mask_share, exact=exact, progress=progress)
    print(as_text(found))
    if json_file is not None:
        write_json(json_file, found.as_json())


@contextmanager
def watched(quiet: bool) -> "Iterator[Callable[[str, int, int], None] | None]":
    """A live line where a terminal shows standard error; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(20), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task("", total=None)
        yield lambda tensor, done, of: bar.update(line, description=tensor, completed=done, total=of)


def as_text(found: "DriftResult") -> str:
    """What was found, as tables: module types, the no-op floor, earlier updates, the matrices that moved most."""
    from holdfast.cli.tables import table

    overall = found.overall()
    rows = [_row(kind, summary.matrices, summary) for kind, summary in found.by_type().items()]
    rows += [_row("all", overall.matrices, overall), _row("no-op floor", overall.matrices, overall.floor)]
    parts = [
        f"{found.b} against {found.a}: {overall.parameters:,} weights, {overall.matrices} matrices",
        table(HEAD, rows),
    ]
    if most := found.most_moved(SHOWN):
        parts.append("Moved most\n" + table(MOST_HEAD, [_most(each) for each in most]))
    if overall.alignment:
        sides = [(update, _number(side["left"]), _number(side["right"])) for update, side in overall.alignment.items()]
        title = "Share of the last update's leading subspace that lies in that of the update to"
        parts.append(table((title, "left", "right"), sides))
    return "\n\n".join([*parts, "\n".join(_remarks(found))])


HEAD = (
    "module",
    "matrices",
    "moved",
    "unchanged",
    "NSS",
    "left",
    "right",
    "stable rank",
    "kept",
    "touched",
    "in",
    "low",
)

MOST_HEAD = ("matrix", "shape", "moved", "unchanged", "NSS", "left", "right", "floor of moved")

LEGEND = """\
moved: ‖ΔW‖/‖W‖; unchanged: share of entries. Both are over all entries of a row; the rest are medians over the
matrices of which anything moved. NSS: shift of the singular values. left, right: largest principal angle between the
leading subspaces, in degrees, of {rank} singular vectors, fewer in small matrices. Principal mask, {share:.0%} of
entries: kept in B, touched by the update. Changed entries: in that mask, in the low-magnitude mask; {share:.0%} by
chance.
No-op floor, the same of A converted to the dtype of B and back{lossless}."""


def _row(name: str, matrices: int, of: "Pooled") -> tuple[str, ...]:
    return (name, str(matrices), _small(of.relative_norm), _share(of.unchanged), *_medians(of.median))


def _medians(of: "Mapping[str, float | None]") -> tuple[str, ...]:
    angles = (_number(of["left_angle"]), _number(of["right_angle"]))
    masks = ("principal_overlap", "principal_changed", "changes_in_principal", "changes_in_low")
    return (_small(of["spectral_shift"]), *angles, _number(of["stable_rank"]), *(_share(of[mask]) for mask in masks))


def _most(each: "MatrixDrift") -> tuple[str, ...]:
    of = each.measured
    shape = "×".join(map(str, each.shape))
    moved = (_small(of.relative_norm), _share(of.unchanged), _small(of.spectral_shift))
    return (each.name, shape, *moved, _number(of.left_angle), _number(of.right_angle), _small(each.floor.relative_norm))


def _remarks(found: "DriftResult") -> Iterator[str]:
    """How to read it, what it was measured with, and what is not in it."""
    overall = found.overall()
    is_lossless = not any(each.floor.update_norm for each in found.matrices)
    yield LEGEND.format(
        rank=found.rank, share=found.mask_share, lossless=", which changes nothing" if is_lossless else ""
    )
    mean, largest = _small(overall.mean["spectral_shift"]), _number(overall.largest_angle)
    yield f"Over these matrices: mean NSS {mean}, largest angle {largest}."
    if overall.unmoved:
        yield f"Not an entry moved in {overall.unmoved} of {overall.matrices} matrices."
    randomized = (each.measured.angle_error for each in found.matrices if each.method == "randomized")
    errors = [error for error in randomized if error is not None]
    if errors:
        worst, typical = _number(max(errors)), _number(statistics.median(errors))
        yield (
            f"By randomized SVD: {len(errors)} large matrices. Their angles are off by at most {worst} degrees, "
            f"{typical} in the median; their NSS is an estimate. --exact decomposes them exactly."
        )
    yield from (f"Note: {note}." for note in found.notes)
    if found.left_out:
        some = "; ".join(f"{name} ({reason})" for name, reason in list(found.left_out.items())[:3])
        yield f"Left out, {len(found.left_out)} in all: {some}{'; …' * (len(found.left_out) > 3)}."


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.2e}" if value else "0"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"

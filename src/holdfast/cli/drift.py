"""`holdfast drift`: how far B's weights are from A's, and in which directions they moved."""

import statistics
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.options import JsonFile, Quiet
from holdfast.cli.progress_bars import tensor_progress
from holdfast.cli.run_command import is_main_process
from holdfast.cli.say import say
from holdfast.model.quiet import silence_progress_bars

if TYPE_CHECKING:
    from holdfast.evaluation.drift import DriftResult, MatrixDrift, Pooled

DriftModel = Annotated[
    str, typer.Argument(help="A model folder, a PEFT adapter's folder, a hub id, or `lab`.", show_default=False)
]

SHOWN = 8
"""Rows in the table of matrices that moved most; the JSON file has all matrices."""


def drift(
    a: DriftModel,
    b: DriftModel,
    earlier: Annotated[
        list[str] | None,
        typer.Option(
            "--earlier",
            metavar="MODEL",
            help="A model between A and B, in order. B's update is compared with its update. Repeatable. "
            "Default: if B is a stage of a run, the stages before it.",
        ),
    ] = None,
    rank: Annotated[int, typer.Option("--rank", min=1, help="Number of leading singular vectors.")] = 64,
    mask_share: Annotated[
        float, typer.Option("--mask-share", min=0.01, max=0.99, help="Share of entries in a mask.")
    ] = 0.3,
    exact: Annotated[
        bool, typer.Option("--exact", help="Use the exact SVD also for matrices with more than 2048 rows and columns.")
    ] = False,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Measure how far B's weights moved from A's: norms, singular values, subspaces, and which entries changed."""
    from holdfast.evaluation.drift import drift
    from holdfast.store.files import write_json

    silence_progress_bars()
    with tensor_progress(quiet or not is_main_process()) as progress:
        result = drift(a, b, earlier=earlier, rank=rank, mask_share=mask_share, exact=exact, progress=progress)
    say(as_text(result))
    if json_file is not None:
        write_json(json_file, result.as_json())


def as_text(result: "DriftResult") -> str:
    """The result as tables: module types, the no-op floor, matrices that moved most, alignment with earlier updates."""
    from holdfast.cli.tables import table

    overall = result.overall()
    rows = [_row(kind, summary.matrices, summary) for kind, summary in result.by_type().items()]
    rows += [_row("all", overall.matrices, overall), _row("no-op floor", overall.matrices, overall.floor)]
    parts = [
        f"{result.b} against {result.a}: {overall.parameters:,} weights, {overall.matrices} matrices",
        table(HEAD, rows),
    ]
    if most := result.most_moved(SHOWN):
        parts.append("Matrices that moved most\n" + table(MOST_HEAD, [_most(each) for each in most]))
    if overall.alignment:
        sides = [(update, _number(side["left"]), _number(side["right"])) for update, side in overall.alignment.items()]
        title = "Share of the last update's leading subspace that is in the leading subspace of the update to"
        parts.append(table((title, "left", "right"), sides))
    if (conflict := overall.conflict) is not None:
        parts.append(
            f"Geometry conflict of the updates: {conflict.pairwise:.3f} with each other, {conflict.state:.3f} with "
            f"their sum; state-relative gap {conflict.gap:+.3f}"
        )
    return "\n\n".join([*parts, "\n".join(_remarks(result))])


HEAD = (
    "module",
    "matrices",
    "moved",
    "unchanged",
    "NSS",
    "left",
    "right",
    "stable rank",
    "mask kept",
    "mask changed",
    "in mask",
    "in low",
)

MOST_HEAD = ("matrix", "shape", "moved", "unchanged", "NSS", "left", "right", "floor of moved")

LEGEND = """\
moved: ‖ΔW‖/‖W‖. unchanged: share of entries. Both are over all entries of a row.
All other columns are medians over the matrices that moved.
NSS: normalized shift of the singular values.
left, right: largest principal angle between the leading subspaces, in degrees, with {rank} singular vectors (fewer in
small matrices).
The principal mask has {share:.0%} of the entries.
mask kept: share of the mask that is also in B's mask. mask changed: share of the mask that the update changed.
in mask, in low: share of the changed entries that are in the principal mask, and in the low-magnitude mask; {share:.0%}
by chance.
no-op floor: the same measures of A converted to the dtype of B and back{lossless}."""


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


def _remarks(result: "DriftResult") -> Iterator[str]:
    """How to read the tables, how the numbers were measured, and what was left out."""
    overall = result.overall()
    is_lossless = not any(each.floor.update_norm for each in result.matrices)
    yield LEGEND.format(
        rank=result.rank, share=result.mask_share, lossless=", which changes nothing" if is_lossless else ""
    )
    mean, largest = _small(overall.mean["spectral_shift"]), _number(overall.largest_angle)
    yield f"Over all matrices that moved: mean NSS {mean}, largest angle {largest}."
    if overall.unmoved:
        yield f"{overall.unmoved} of {overall.matrices} matrices did not move at all."
    randomized = (each.measured.angle_error for each in result.matrices if each.method == "randomized")
    errors = [error for error in randomized if error is not None]
    if errors:
        worst, typical = _number(max(errors)), _number(statistics.median(errors))
        yield (
            f"Large matrices decomposed by randomized SVD: {len(errors)}. Their angles have an error of at most "
            f"{worst} degrees (median {typical}); their NSS is an estimate. Use --exact for the exact SVD."
        )
    yield from (f"Note: {note}." for note in result.notes)
    if result.left_out:
        some = "; ".join(f"{name} ({reason})" for name, reason in list(result.left_out.items())[:3])
        yield f"Tensors left out ({len(result.left_out)} in all): {some}{'; …' * (len(result.left_out) > 3)}."


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.2e}" if value else "0"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"

"""Measure the drift between two models, tensor by tensor."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.errors import ModelError
from holdfast.evaluation.drift.result import DriftResult, MatrixDrift

if TYPE_CHECKING:
    from holdfast.store.model_folder import Model

Progress = Callable[[str, int, int], None]
"""Called before each tensor with its name, the number of entries measured so far, and the number of all entries."""

Share = Callable[[Callable[[Sequence[str]], list[MatrixDrift]], Sequence[str]], list[MatrixDrift]]
"""Called with a function that measures tensors by name, and with all names. Lets several processes measure a part each.
"""


def drift(
    a: str | Path,
    b: str | Path,
    *,
    earlier: Sequence[str | Path] | None = None,
    rank: int = 64,
    mask_share: float = 0.3,
    exact: bool = False,
    budget: int | None = None,
    share: Share | None = None,
    progress: Progress | None = None,
) -> DriftResult:
    """How far the weights of model `b` have moved from those of model `a`.

    Each model is a model folder, a folder of a PEFT adapter (measured as its base plus the adapter), a hub id, or
    `lab`. Tensors are read one by one, so the largest pair decides the memory. An adapter other than plain LoRA is
    merged by peft first: that needs memory and disk for its whole model in float32. A matrix with at most 2048 rows or
    columns is decomposed exactly. A larger one is decomposed by a randomized SVD, and its error bound is reported.

    Args:
        earlier: models on the way from `a` to `b`, in order. The update from the last of them to `b` is compared with
            each earlier update, from one model to the next, starting at `a`. None: if `b` is a stage of a run, the
            run's stages between `a` and `b`, or all stages before `b` if `a` is not a stage of that run.
        rank: number of leading singular vectors, k in the papers; at most a quarter of a matrix's short side.
        mask_share: share of a matrix's entries in the principal mask, and in the low-magnitude mask; 0.3 as in
            arXiv 2606.07082.
        exact: decompose large matrices exactly too.
        budget: entries whose singular values and subspaces are compared; see `tensors_to_decompose`. Of other tensors
            only norms and unchanged entries are compared. None: compare all.
        share: see `Share`; None: this process measures all tensors.

    Raises:
        ModelError: a model cannot be read, the two have no tensor in common, or a weight is not finite.
        ValueError: `rank` is below 1, or `mask_share` is not between 0 and 1.
    """
    from holdfast.evaluation.drift.opened import opened
    from holdfast.evaluation.drift.pairs import Pairs
    from holdfast.evaluation.drift.stages import tensors_to_decompose

    if rank < 1 or not 0 < mask_share < 1:
        raise ValueError(f"rank {rank} must be at least 1 and mask_share {mask_share} between 0 and 1")
    paths = stages_between(a, b) if earlier is None else earlier
    with opened(a, b, paths) as (first, second, way):
        names, left_out = _common(first, second)
        sizes = [first.source(name).entries for name in names]
        shapes = {name: first.source(name).shape for name in names}
        decomposed = frozenset(names) if budget is None else tensors_to_decompose(shapes, budget)
        pairs = Pairs(first, second, way, rank, mask_share, exact, decomposed)

        def measure(own: Sequence[str]) -> list[MatrixDrift]:
            measured: list[MatrixDrift] = []
            for name in own:
                if progress is not None:
                    index = names.index(name)
                    progress(name, sum(sizes[:index]), sum(sizes))
                measured += pairs.measure(name)
            return measured

        matrices = measure(names) if share is None else share(measure, names)
    return DriftResult(
        a=str(a),
        b=str(b),
        earlier=tuple(str(path) for path in paths),
        rank=rank,
        mask_share=mask_share,
        exact=exact,
        matrices=tuple(matrices),
        left_out=left_out,
        notes=tuple(dict.fromkeys((*first.notes, *second.notes))),
    )


def stages_between(a: str | Path, b: str | Path) -> list[Path]:
    """A run's stages before `b`, and after `a` if `a` is a stage of the same run. Empty if `b` is not a stage."""
    last, begin = (Path(os.path.expanduser(path)).absolute() for path in (b, a))
    folder, number = last.parent, _stage(last)
    if folder.name != "models" or number is None:
        return []
    from_stage = (_stage(begin) or 0) if begin.parent == folder else 0
    stages = [folder / f"stage-{stage}" for stage in range(from_stage + 1, number)]
    return [stage for stage in stages if stage.is_dir()]


def _stage(path: Path) -> int | None:
    match = re.fullmatch(r"stage-(\d+)", path.name)
    return int(match[1]) if match else None


def _common(a: "Model", b: "Model") -> tuple[list[str], dict[str, str]]:
    """Names of the tensors that both models have in the same shape, by layer; all others, with the reason."""
    left_out = dict(a.left_out) | dict(b.left_out)
    common = []
    for name in sorted(a.names | b.names, key=_natural):
        if name in a.tied and name in b.tied:
            continue  # measured once, under the name of the tensor that it is tied to
        if name not in a.names or name not in b.names:
            left_out.setdefault(name, f"only in {(a if name in a.names else b).where}")
        elif (here := a.source(name).shape) != (there := b.source(name).shape):
            left_out[name] = f"{list(here)} in {a.where}, {list(there)} in {b.where}"
        elif 0 not in here:
            common.append(name)
    if not common:
        fix = "compare two models of the same architecture"
        raise ModelError("the models have no tensor in common", where=f"{a.where} and {b.where}", fix=fix)
    return common, left_out


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key that puts layer 10 after layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]

"""The drift between two models, tensor by tensor."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.errors import ModelError
from holdfast.evaluate.drift.result import DriftResult, MatrixDrift

if TYPE_CHECKING:
    from holdfast.store.model_folder import Model

Progress = Callable[[str, int, int], None]
"""Called before each tensor with its name, and the entries that are done and there are in all."""

Share = Callable[[Callable[[Sequence[str]], list[MatrixDrift]], Sequence[str]], list[MatrixDrift]]
"""Given what measures tensors by name and the names of all, lets several processes measure a part each."""


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

    Each is a model folder, a folder of a PEFT adapter (which is compared with its base added), a hub id, or `lab`.
    Tensors are read one by one; the largest pair decides how much memory it takes. A matrix whose rows or columns are
    no more than 2048 is decomposed exactly, a larger one by a randomized SVD whose error is given with its numbers.

    Args:
        earlier: models on the way from `a` to `b`, in order. The update from the last of them to `b` is compared with
            the updates before it, each from one model to the next, beginning at `a`. None: where `b` is a stage of a
            run, the run's stages between `a` and `b`, or all before `b` where `a` is no stage of that run.
        rank: singular vectors that count as leading, k in the papers; at most a quarter of a matrix's short side.
        mask_share: of a matrix's entries that the principal and the low-magnitude mask each take; 0.3 as in
            arXiv 2606.07082.
        exact: decompose large matrices exactly too.
        budget: entries whose singular values and subspaces are compared, see `decomposed`; of the other tensors norms
            and unchanged entries alone. None: all.
        share: see `Share`; None: this process measures all.

    Raises:
        ModelError: a model cannot be read, the two have no tensor in common, or a weight is not finite.
        ValueError: `rank` is below 1 or `mask_share` not between 0 and 1.
    """
    from holdfast.evaluate.drift.pairs import Pairs
    from holdfast.evaluate.drift.stages import decomposed
    from holdfast.store.model_folder import open_model

    if rank < 1 or not 0 < mask_share < 1:
        raise ValueError(f"rank {rank} must be at least 1 and mask_share {mask_share} between 0 and 1")
    first, second = open_model(a, other=b), open_model(b, other=a)
    paths = stages_between(a, b) if earlier is None else earlier
    way = [open_model(path, other=a) for path in paths]
    names, left_out = _common(first, second)
    sizes = [first.source(name).entries for name in names]
    shapes = {name: first.source(name).shape for name in names}
    in_full = frozenset(names) if budget is None else decomposed(shapes, budget)
    pairs = Pairs(first, second, way, rank, mask_share, exact, in_full)

    def measure(own: Sequence[str]) -> list[MatrixDrift]:
        found: list[MatrixDrift] = []
        for name in own:
            if progress is not None:
                index = names.index(name)
                progress(name, sum(sizes[:index]), sum(sizes))
            found += pairs.measure(name)
        return found

    found = measure(names) if share is None else share(measure, names)
    return DriftResult(
        a=str(a),
        b=str(b),
        earlier=tuple(str(path) for path in paths),
        rank=rank,
        mask_share=mask_share,
        exact=exact,
        matrices=tuple(found),
        left_out=left_out,
        notes=tuple(dict.fromkeys((*first.notes, *second.notes))),
    )


def stages_between(a: str | Path, b: str | Path) -> list[Path]:
    """The stages of a run before `b`, and after `a` where that is a stage of the same run; empty if `b` is none."""
    last, begin = Path(b).expanduser().absolute(), Path(a).expanduser().absolute()
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
    """The names that both have in one shape, in the order of layers; and the others, with the reason."""
    left_out = dict(a.left_out) | dict(b.left_out)
    common = []
    for name in sorted(a.names | b.names, key=_natural):
        if name in a.tied and name in b.tied:
            continue  # measured as what it is tied to
        if name not in a.names or name not in b.names:
            left_out.setdefault(name, f"only in {(a if name in a.names else b).where}")
        elif (here := a.source(name).shape) != (there := b.source(name).shape):
            left_out[name] = f"{list(here)} in {a.where}, {list(there)} in {b.where}"
        elif 0 not in here:
            common.append(name)
    if not common:
        fix = "compare two models of one architecture"
        raise ModelError("the models have no tensor in common", where=f"{a.where} and {b.where}", fix=fix)
    return common, left_out


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts layer 10 behind layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]

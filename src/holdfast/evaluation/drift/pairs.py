"""Measure one tensor of two models: its matrices, their metrics, the no-op floor, the alignment of updates."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import Tensor

from holdfast.errors import ModelError
from holdfast.evaluation.drift.conflict import conflict_of
from holdfast.evaluation.drift.masks import Change, change
from holdfast.evaluation.drift.metrics import (
    Decomposed,
    leading,
    matrix_metrics,
    noise,
    unmoved_metrics,
    update_alignment,
    vector_metrics,
)
from holdfast.evaluation.drift.result import Alignment, Conflict, MatrixDrift, Metrics
from holdfast.evaluation.drift.subspaces import is_exact_cheap
from holdfast.evaluation.drift.tall import Matrix, Update
from holdfast.store.model_folder import Model
from holdfast.store.weight_names import plain_name


def matrices_of(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The matrices [rows, columns] of a tensor, with their names. A vector is a matrix of one column.

    Of experts fused into one tensor, each is a matrix. A convolution is one matrix with a row for each output.
    """
    if tensor.ndim >= 3 and "expert" in name:
        for number, part in enumerate(tensor):
            yield f"{name}[{number}]", part.flatten(1)
    else:
        yield name, tensor.flatten(1) if tensor.ndim > 1 else tensor.reshape(-1, 1)


def module_and_layer(name: str) -> tuple[str, int | None]:
    """The module type of a tensor, which is its name without numbers, and the number of its layer, if any.

    The type of a layer outside the language model begins with the part it is in, e.g. `vision_tower`.
    """
    name = re.sub(r"\[\d+\]$", "", name).removesuffix(".weight")
    name = plain_name(name.removeprefix("base_model."))
    match = re.search(r"(?:^|\.)(?:layers|h|blocks?)\.(\d+)\.", name)
    part = next(iter(name[: match.start()].split(".")), "") if match else ""
    inside = f"{part}.{name[match.end() :]}".removeprefix(".") if match else name
    return re.sub(r"\.\d+(?=\.|$)", "", inside), int(match[1]) if match else None


@dataclass(frozen=True)
class Pairs:
    """Measures the tensors that two models have in common.

    Args:
        way: models between them, for the alignment of the last update with earlier ones.
        rank: number of leading singular vectors; fewer for small matrices.
        share: share of the entries in each mask.
        exact: decompose large matrices exactly too.
        decomposed: names of the tensors that are decomposed. Others have only norms and unchanged entries.
    """

    a: Model
    b: Model
    way: Sequence[Model]
    rank: int
    share: float
    exact: bool
    decomposed: frozenset[str]

    def measure(self, name: str) -> Iterator[MatrixDrift]:
        """Measure a tensor that both models have in the same shape. One result for each of its matrices.

        Raises:
            ModelError: a weight is infinite or not a number.
        """
        is_vector = len(self.a.source(name).shape) < 2
        matrices = [(label, tuple(tensor.shape)) for label, tensor in matrices_of(name, self.a.source(name).read())]
        for number, (label, shape) in enumerate(matrices):
            before, after = self._matrix(self.a, name, number), self._matrix(self.b, name, number)
            module_type, layer = module_and_layer(name)
            exact = self.exact or is_exact_cheap(before)
            is_decomposed = name in self.decomposed
            measured, floor = self._measured(label, before, after, self._control(name, number), exact, is_decomposed)
            method = "norms" if not is_decomposed else "exact" if exact else "randomized"
            if before.short == 1 or not measured.update_norm:
                method = "vector" if before.short == 1 else "identical"
            alignment: tuple[Alignment, ...] = ()
            conflict = None
            if before.short > 1 and is_decomposed:
                alignment, conflict = self._earlier(name, number, measured, exact)
            yield MatrixDrift(
                name=label,
                module_type=module_type,
                layer=layer,
                shape=shape[:1] if is_vector else shape,
                dtypes=(_dtype(self.a, name), _dtype(self.b, name)),
                method=method,
                measured=measured,
                floor=floor,
                alignment=alignment,
                conflict=conflict,
            )

    def _matrix(self, model: Model, name: str, number: int, through: torch.dtype | None = None) -> Matrix:
        def read() -> Tensor:
            return next(islice(matrices_of(name, model.source(name).read()), number, None))[1]

        return Matrix(read, model.product(name), through)

    def _control(self, name: str, number: int) -> Matrix | None:
        """W₀ converted to the dtype of W_t and back; None if that changes nothing."""
        stored, target = self.a.dtype(name), self.b.dtype(name)
        if torch.promote_types(stored, target) == target:
            return None
        return self._matrix(self.a, name, number, through=target)

    def _measured(
        self, label: str, before: Matrix, after: Matrix, control: Matrix | None, exact: bool, is_decomposed: bool
    ) -> tuple[Metrics, Metrics]:
        """The drift of a matrix, and its floor. W₀ is decomposed once for both, and not at all if nothing changed."""
        counts = change(before, after)
        same = Change(counts.before, counts.before, 0.0, before.long * before.short)
        if not math.isfinite(counts.before + counts.after):
            raise ModelError(
                f"{label} has values that are infinite or not a number",
                where=f"{self.a.where} or {self.b.where}",
                fix="compare an earlier checkpoint",
            )
        ends = [(after, counts), (control or before, change(before, control) if control else same)]
        start = None
        if is_decomposed and before.short > 1 and counts.before and any(of.update for _, of in ends):
            start = Decomposed(before, leading(before, self.rank), noise(before, counts.before), exact=exact)

        def metrics(end: Matrix, of: Change) -> Metrics:
            if before.short == 1:
                return vector_metrics(of, before.long)
            if not of.update:
                return unmoved_metrics(of)
            if not is_decomposed:
                return vector_metrics(of, before.long * before.short)
            return matrix_metrics(before, end, of, start, rank=self.rank, share=self.share, exact=exact)

        measured, floor = (metrics(end, of) for end, of in ends)
        return measured, floor

    def _earlier(
        self, name: str, number: int, measured: Metrics, exact: bool
    ) -> tuple[tuple[Alignment, ...], Conflict | None]:
        """The last update, which ends at `b`, beside the earlier ones: its alignment with each, and their conflicts.

        Updates that are only rounding error have no geometry, and are in no conflict.
        """
        models = [self.a, *self.way, self.b]
        shape = self.a.source(name).shape
        if not self.way or any(name not in each.names or each.source(name).shape != shape for each in self.way):
            return (), None
        own = self._decomposed(models[-2], models[-1], name, number, measured.norm, exact)
        alignments, factors = [], []
        # One after the other, because each holds its matrices.
        for before, after in pairwise(models[:-1]):
            update = self._decomposed(before, after, name, number, measured.norm, exact)
            left, right, k = update_alignment(own, update)
            alignments.append(Alignment(after.where, left, right, k))
            factors.append(update.input_factor())
        state = self._decomposed(self.a, self.b, name, number, measured.norm, exact).input_factor()
        moved = [factor for factor in (*factors, own.input_factor()) if factor.shape[1]]
        return tuple(alignments), conflict_of(moved, state) if state.shape[1] else None

    def _decomposed(self, a: Model, b: Model, name: str, number: int, norm: float, exact: bool) -> Decomposed:
        """Decompose one update on the way. Singular values below the rounding error of such weights are noise."""
        before, after = self._matrix(a, name, number), self._matrix(b, name, number)
        update = Update(before, after)
        return Decomposed(update, leading(update, self.rank), noise(update, norm), exact=exact)


def _dtype(model: Model, name: str) -> str:
    return str(model.dtype(name)).removeprefix("torch.")

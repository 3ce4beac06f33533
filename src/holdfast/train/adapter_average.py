"""The average of an adapter's product, stored as factors of bounded rank, with a bound on the error.

An adapter adds s·B·A to a weight. The average of these products is not mean(B)·mean(A). That product is too small while
both factors move: each factor has gone a part of the way from zero, so the product has gone the square of that part.

So the average of the products is stored itself. A step toward the student scales the columns and appends the student's,
which is exact:

    B_T A_T ← (1 − rate)·B_T A_T + rate·B A   =   [(1 − rate)·B_T, rate·B] · [A_T; A]

When there is no room for more columns, a singular value decomposition reduces their number. It is the best
approximation of that rank. The Frobenius norm of what it discards is added to the error bound. Later steps shrink the
bound together with the average.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

WIDTH = 4
"""Columns of the factors, in multiples of the student's rank."""

KEPT = 2
"""Columns left after a reduction, in multiples of the student's rank. With WIDTH 4, every second step reduces."""

ReadFactors = Callable[[], Mapping[str, Tensor]]


class AdapterAverage:
    """The teacher's factors in float32, moved toward the student's product.

    Args:
        student: returns the student's factors by name, `….lora_A.weight` [r, in] and `….lora_B.weight` [out, r]. It is
            called each time, because a move to another device may replace the tensors.
        teacher: returns the factors of the teacher's adapter under the same names. Their r is WIDTH times the student's
            for a teacher that moves, else the student's.
    """

    def __init__(self, student: ReadFactors, teacher: ReadFactors) -> None:
        self._student, self._served = student, teacher
        self._names = [name for name in student() if ".lora_A." in name]
        self._rank, self._columns = student()[self._names[0]].shape[0], teacher()[self._names[0]].shape[0]
        self._factors = {name: value.detach().float().clone() for name, value in teacher().items()}
        self._bounds = dict.fromkeys(self._names, 0.0)
        self.reset("student")

    @torch.no_grad()
    def reset(self, to: Literal["student", "base"]) -> None:
        """Start again from the student's present product, or from 0 for the base."""
        served = self._served()
        # On the adapter's device, which a sharded run chooses after the teacher is created.
        self._factors = {name: torch.zeros_like(f, device=served[name].device) for name, f in self._factors.items()}
        self._used = 0
        self._bounds = dict.fromkeys(self._names, 0.0)
        if to == "student":
            self._append(1.0)
        self._serve()

    @torch.no_grad()
    def move(self, rate: float) -> None:
        """Move the average one step toward the student's product."""
        if self._used + self._rank > self._columns:
            self._compress()
        for name in self._names:
            self._factors[_up(name)].mul_(1 - rate)
            self._bounds[name] *= 1 - rate
        self._append(rate)
        self._serve()

    def error_bound(self) -> float:
        """A bound on ‖stored − exact‖ / ‖stored‖ in Frobenius norms, the largest over all adapted weights."""
        worst = 0.0
        for name in self._names:
            if self._bounds[name]:
                down, up = self._pair(name)
                norm = ((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt()
                worst = max(worst, self._bounds[name] / max(float(norm), 1e-30))
        return worst

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold: the factors, the number of columns in use, and the bounds."""
        bounds = torch.tensor([self._bounds[name] for name in self._names], dtype=torch.float64)
        return {**self._factors, "columns": torch.tensor(self._used), "bounds": bounds}

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        for name, served in self._served().items():  # on the adapter's device, as in `reset`
            self._factors[name] = torch.empty_like(self._factors[name], device=served.device).copy_(tensors[name])
        self._used = int(tensors["columns"])
        self._bounds = dict(zip(self._names, tensors["bounds"].tolist(), strict=True))
        self._serve()

    def _append(self, weight: float) -> None:
        new = slice(self._used, self._used + self._rank)
        student = self._student()
        for name in self._names:
            down, up = self._pair(name)
            down[new] = student[name].detach()
            up[:, new] = weight * student[_up(name)].detach()
        self._used += self._rank

    def _pair(self, name: str) -> tuple[Tensor, Tensor]:
        return self._factors[name], self._factors[_up(name)]

    def _compress(self) -> None:
        """Reduce every average to KEPT·r columns.

        In float64, because errors of a reduction stay in the average. QR decompositions make the matrix that is
        decomposed as small as the number of columns. The singular values go to both factors by their roots, so that
        neither becomes much larger than the other.
        """
        keep = KEPT * self._rank
        for name in self._names:
            down, up = self._pair(name)
            up_q, up_r = torch.linalg.qr(up.double())
            down_q, down_r = torch.linalg.qr(down.double().T)
            left, sizes, right = torch.linalg.svd(up_r @ down_r.T, full_matrices=False)
            self._bounds[name] += float(sizes[keep:].norm())
            count = min(keep, len(sizes))
            roots = sizes[:count].sqrt()
            up.zero_()[:, :count] = (up_q @ (left[:, :count] * roots)).float()
            down.zero_()[:count] = ((roots[:, None] * right[:count]) @ down_q.T).float()
        self._used = keep

    def _serve(self) -> None:
        for name, served in self._served().items():
            served.copy_(self._factors[name])


def _up(name: str) -> str:
    return name.replace(".lora_A.", ".lora_B.")

"""The average of an adapter's product, kept in factors of bounded rank, with a bound on what that loses.

An adapter adds s·B·A to a weight. The average of the products is not the product of the averages, mean(B)·mean(A): that
one lags far behind where both factors move (from zero, after n steps at a rate a, it has gone the square of the way).
Here the sum itself is kept: a step toward the student scales the columns held and appends the student's, which is
exact,

    B_T A_T ← (1 − rate)·B_T A_T + rate·B A   =   [(1 − rate)·B_T, rate·B] · [A_T; A]

and when the columns run out, the sum is brought back to fewer by its singular value decomposition, the best there is at
that rank. The Frobenius norm of what is discarded is added to a bound that later steps shrink with the rest.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

WIDTH = 4
"""Columns held, in multiples of the student's rank."""

KEPT = 2
"""Columns left after the sum is brought back to fewer, in multiples of the student's rank."""

Factors = Callable[[], Mapping[str, Tensor]]


class AdapterAverage:
    """The teacher's factors in float32, moved toward the student's product.

    Args:
        student: gives the student's factors by name, `….lora_A.weight` [r, in] and `….lora_B.weight` [out, r]; asked
            each time, for a move to another device may put others in their place.
        teacher: gives the served factors of the teacher under the same names; r is WIDTH times the student's for one
            that moves, and the student's for one that does not.
    """

    def __init__(self, student: Factors, teacher: Factors) -> None:
        self._student, self._served = student, teacher
        self._names = [name for name in student() if ".lora_A." in name]
        self._rank, self._columns = student()[self._names[0]].shape[0], teacher()[self._names[0]].shape[0]
        self._factors = {name: value.detach().float().clone() for name, value in teacher().items()}
        self._bounds = dict.fromkeys(self._names, 0.0)
        self.reset("student")

    @torch.no_grad()
    def reset(self, to: Literal["student", "base"]) -> None:
        """Add what the student's adapter adds now, or nothing."""
        served = self._served()
        # On the device of what is served, which a sharded run chooses only after the teacher is made.
        self._factors = {name: torch.zeros_like(f, device=served[name].device) for name, f in self._factors.items()}
        self._used = 0
        self._bounds = dict.fromkeys(self._names, 0.0)
        if to == "student":
            self._append(1.0)
        self._serve()

    @torch.no_grad()
    def move(self, rate: float) -> None:
        """One step of the average toward the student's product."""
        if self._used + self._rank > self._columns:
            self._compress()
        for name in self._names:
            self._factors[_up(name)].mul_(1 - rate)
            self._bounds[name] *= 1 - rate
        self._append(rate)
        self._serve()

    def error_bound(self) -> float:
        """The largest bound over the adapted weights on ‖kept − exact‖ relative to ‖kept‖, Frobenius norms."""
        worst = 0.0
        for name in self._names:
            if self._bounds[name]:
                down, up = self._pair(name)
                norm = ((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt()
                worst = max(worst, self._bounds[name] / max(float(norm), 1e-30))
        return worst

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold: the factors, how many columns are in use, and the bounds."""
        bounds = torch.tensor([self._bounds[name] for name in self._names], dtype=torch.float64)
        return {**self._factors, "columns": torch.tensor(self._used), "bounds": bounds}

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        for name, served in self._served().items():  # on its device, as in `reset`
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
        """Bring every sum back to KEPT·r columns."""
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

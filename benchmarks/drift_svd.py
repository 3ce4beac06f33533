"""The decompositions of `holdfast.evaluate.drift` against torch's own: error, seconds, memory at the same passes.

Run: python -m benchmarks.drift_svd   (two minutes on one core)

Each matrix is made with known singular vectors, then rounded to float32. Every method runs in its own process, so that
its peak memory beyond the matrix can be read. Results go to benchmarks/results/drift_svd.json.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

RESULTS = Path(__file__).parent / "results" / "drift_svd.json"
LEADING = 64
SHAPES = ((1024, 4096), (4096, 4096))
DECAYS = (0.2, 0.7)
"""Singular value i is i to the power of minus this: a slow decay as of most weights, and a fast one."""


def singular_vectors(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Random orthonormal left and right singular vectors, in float64."""
    random = torch.Generator().manual_seed(0)
    rank = min(shape)
    bases = [torch.linalg.qr(torch.randn(side, rank, generator=random)).Q.double() for side in shape]
    # One Newton step, because QR in float32 leaves them orthonormal only to 1e-6.
    left, right = (basis @ (1.5 * torch.eye(rank) - 0.5 * (basis.T @ basis)) for basis in bases)
    return left, right


def write_matrix(path: Path, left: Tensor, right: Tensor, decay: float) -> None:
    """A matrix with known singular values, and its leading singular vectors of the short side."""
    values = torch.arange(1, left.shape[1] + 1).double() ** -decay
    short = left if len(left) < len(right) else right
    weight = ((left * values) @ right.T).float()
    save_file({"weight": weight, "values": values, "vectors": short[:, :LEADING].contiguous()}, path)


def holdfast_spectrum(weight: Tensor, exact: bool) -> tuple[Tensor, Tensor, float]:
    from holdfast.evaluate.drift import subspaces
    from holdfast.evaluate.drift.tall import Matrix

    spectrum = subspaces.spectrum(Matrix(lambda: weight), LEADING, exact=exact)
    return spectrum.values[:LEADING], spectrum.leading(LEADING), spectrum.angle_error(LEADING)


def low_rank(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
    """torch's randomized SVD with as many random vectors and products as block Krylov in all of its passes."""
    from holdfast.evaluate.drift.subspaces import OVERSAMPLING, PASSES

    torch.manual_seed(0)
    tall = (weight.T if weight.shape[0] < weight.shape[1] else weight).to(dtype)
    _, values, right = torch.svd_lowrank(tall, q=LEADING + OVERSAMPLING, niter=PASSES - 1)
    return values[:LEADING], right[:, :LEADING], math.nan


def full(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
    tall = (weight.T if weight.shape[0] < weight.shape[1] else weight).to(dtype)
    _, values, right = torch.linalg.svd(tall, full_matrices=False)
    return values[:LEADING], right.T[:, :LEADING], math.nan


def values_only(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, None, float]:
    return torch.linalg.svdvals(weight.to(dtype))[:LEADING], None, math.nan


METHODS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor | None, float]]] = {
    "Gram matrix": lambda w: holdfast_spectrum(w, True),
    "block Krylov": lambda w: holdfast_spectrum(w, False),
    "svd_lowrank, float32": lambda w: low_rank(w, torch.float32),
    "svd_lowrank, float64": lambda w: low_rank(w, torch.float64),
    "svdvals, float32": lambda w: values_only(w, torch.float32),
    "svd, float64": lambda w: full(w, torch.float64),
}


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(path: Path, method: str) -> dict[str, Any]:
    """One method on one matrix, in this process."""
    torch.set_num_threads(1)
    with safe_open(path, "pt") as opened:
        weight, values, vectors = (opened.get_tensor(name) for name in ("weight", "values", "vectors"))
    METHODS[method](torch.randn(130, 90))  # the first call loads libraries, whose memory must not count
    weight = weight.clone()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    began = time.perf_counter()
    computed, right, bound = METHODS[method](weight)
    result = {
        "seconds": round(time.perf_counter() - began, 2),
        "peak_megabytes": round(_resident("VmHWM") - before),
        "value_error": float(((computed.double() - values[:LEADING]) / values[0]).abs().max()),
        "angle_error": None,
        "stated_angle_error": None if math.isnan(bound) else bound,
    }
    if right is not None:
        from holdfast.evaluate.drift.subspaces import largest_angle

        result["angle_error"] = largest_angle(vectors, torch.linalg.qr(right.double()).Q)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, metavar=("FILE", "METHOD"), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(Path(given.one[0]), given.one[1])))
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix.safetensors"
        for shape in SHAPES:
            left, right = singular_vectors(shape)
            for decay in DECAYS:
                write_matrix(path, left, right, decay)
                for method in METHODS:
                    if min(shape) > 2048 and method == "svd, float64":
                        continue  # minutes
                    command = [sys.executable, "-m", "benchmarks.drift_svd", "--one", str(path), method]
                    run = subprocess.run(command, capture_output=True, text=True, check=True)
                    row = {"shape": list(shape), "decay": decay, "method": method} | json.loads(run.stdout)
                    results.append(row)
                    print(json.dumps(row), flush=True)
    record = {"torch": torch.__version__, "leading": LEADING, "results": results}
    given.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""`holdfast drift` on two random checkpoints in the shape of Qwen3-0.6B: seconds, memory and error.

Run: .venv/bin/python -m benchmarks.drift [--hidden 1024 --layers 28 --vocabulary 151936]

The command runs in its own process. Some matrices are compared with numpy's full SVD in float64, and must agree to
1e-4. Results go to benchmarks/results/drift.json. `benchmarks/drift_svd.py` compares the decompositions with torch's.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

RESULTS = Path(__file__).parent / "results" / "drift.json"
CHECKED = ("model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.down_proj.weight")
"""Matrices that are compared with numpy."""
SECONDS, GIGABYTES, ERROR = 180, 2.0, 1e-4
"""Limits. The exit code is 1 if one is exceeded."""


def shapes(hidden: int, layers: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of a Qwen3 model with the proportions of Qwen3-0.6B."""
    block: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (2 * hidden, hidden),
        "self_attn.k_proj": (hidden, hidden),
        "self_attn.v_proj": (hidden, hidden),
        "self_attn.o_proj": (hidden, 2 * hidden),
        "mlp.gate_proj": (3 * hidden, hidden),
        "mlp.up_proj": (3 * hidden, hidden),
        "mlp.down_proj": (hidden, 3 * hidden),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    layer_shapes = {f"model.layers.{n}.{name}.weight": shape for n in range(layers) for name, shape in block.items()}
    return {"model.embed_tokens.weight": (vocabulary, hidden), **layer_shapes, "model.norm.weight": (hidden,)}


def write_pair(folder: Path, of: Mapping[str, tuple[int, ...]]) -> tuple[Path, Path]:
    """Write two bfloat16 checkpoints: random weights, and these plus an update of 1% of the norm (rank 8 and noise)."""
    before: dict[str, Tensor] = {}
    after: dict[str, Tensor] = {}
    random = torch.Generator().manual_seed(0)
    for name, shape in of.items():
        weight = 0.02 * torch.randn(*shape, generator=random)
        update = torch.randn(*shape, generator=random)
        if len(shape) == 2:
            left, right = (torch.randn(side, 8, generator=random) for side in shape)
            update += left @ right.T
        before[name] = weight.bfloat16()
        after[name] = (weight + update * (0.01 * weight.norm() / update.norm())).bfloat16()
    paths = []
    for side, weights in (("a", before), ("b", after)):
        path = folder / side
        path.mkdir()
        (path / "config.json").write_text(json.dumps({"tie_word_embeddings": True}))
        save_file(weights, path / "model.safetensors")
        paths.append(path)
    return paths[0], paths[1]


def by_numpy(a: Path, b: Path, name: str, k: int) -> dict[str, float]:
    """The same metrics from numpy's full SVD in float64."""
    sides = []
    for path in (a, b):
        with safe_open(path / "model.safetensors", "pt") as opened:
            sides.append(opened.get_tensor(name).double().numpy())
    w, v = sides
    (u0, s0, vh0), (u1, s1, vh1) = (np.linalg.svd(each, full_matrices=False) for each in sides)
    step = np.linalg.svd(v - w, compute_uv=False)

    def angle(x: Any, y: Any) -> float:
        return float(np.degrees(np.arccos(min(1.0, np.linalg.svd(x.T @ y, compute_uv=False).min()))))

    return {
        "relative_norm": float(np.linalg.norm(v - w) / np.linalg.norm(w)),
        "spectral_shift": float(np.linalg.norm(s1 - s0) / np.linalg.norm(s0)),
        "left_angle": angle(u0[:, :k], u1[:, :k]),
        "right_angle": angle(vh0[:k].T, vh1[:k].T),
        "stable_rank": float((step**2).sum() / step[0] ** 2),
    }


def _peak(process: "subprocess.Popen[bytes]") -> float:
    """Wait for a process to end. Returns its peak resident memory, in gigabytes.

    Read from /proc while it runs. The value that the system reports afterwards includes the memory of this process at
    the moment of the fork.
    """
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))])
        time.sleep(0.1)
    if process.wait():
        raise SystemExit(f"the command ended with {process.returncode}")
    return peak / 2**20


def measure(hidden: int, layers: int, vocabulary: int) -> dict[str, Any]:
    """Run the command on a new pair of checkpoints, and check some matrices."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        a, b = write_pair(folder, shapes(hidden, layers, vocabulary))
        out = folder / "drift.json"
        started = time.perf_counter()
        command = [sys.executable, "-m", "holdfast", "drift", a, b, "--json", out, "--quiet"]
        peak = _peak(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        seconds = time.perf_counter() - started
        matrices = {matrix["name"]: matrix for matrix in json.loads(out.read_text())["matrices"]}
        errors = {}
        for name in CHECKED:
            expected = by_numpy(a, b, name, matrices[name]["measured"]["k"])
            errors[name] = {
                key: abs(matrices[name]["measured"][key] - value) / abs(value) for key, value in expected.items()
            }
    return {
        "shape": {"hidden": hidden, "layers": layers, "vocabulary": vocabulary},
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "torch": torch.__version__},
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
        "peak_gigabytes": round(peak, 2),
        "methods": {
            m: sum(each["method"] == m for each in matrices.values()) for m in ("exact", "randomized", "vector")
        },
        "relative_errors": errors,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--output", type=Path, default=RESULTS)
    settings = parser.parse_args()
    record = measure(settings.hidden, settings.layers, settings.vocabulary)
    settings.output.write_text(json.dumps(record, indent=1) + "\n")
    worst = max(error for errors in record["relative_errors"].values() for error in errors.values())
    print(f"{record['seconds']} s, {record['peak_gigabytes']} GB at most, largest relative error {worst:.1e}")
    return int(record["seconds"] > SECONDS or record["peak_gigabytes"] > GIGABYTES or worst > ERROR)


if __name__ == "__main__":
    sys.exit(main())

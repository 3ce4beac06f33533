"""All comparisons with their settings, and the record of each."""

import importlib.metadata
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine import objective, step
from benchmarks.engine.measure import BenchmarkError, Measured, Pair, Worker, alternate, ratio, relative_difference
from benchmarks.engine.models import SHAPES, Shape, Workload, draw_tokens, write_folder
from benchmarks.engine.peaks import objective_bytes, objective_operations, step_operations

Record = dict[str, Any]

PARTS = ("steps", "generation", "objective", "scaling")

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}
"""Largest relative difference of losses. It comes from rounding, which in top-k also decides ties at the k-th place."""
GRADIENT_TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-1}
"""The same for the norms of gradients."""
SAMPLED_TOLERANCE = 0.05
"""The same for the mean log-probability of samples, which differ by chance: a few standard errors of 2,048 tokens."""


@dataclass
class Settings:
    """The settings from the command line.

    Attributes:
        only: the parts to run, of `PARTS`.
        models: names of shapes for steps and generation.
    """

    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 2
    repeats: int = 3
    quick: bool = False
    only: Sequence[str] = PARTS
    models: Sequence[str] = ("11.5m", "qwen3-0.6b")


class Suite:
    """Runs comparisons one by one, and calls `on_record` with every record as soon as it is complete."""

    def __init__(self, settings: Settings, on_record: Callable[[Record], None]) -> None:
        self.settings, self.on_record = settings, on_record
        self.peaks: dict[str, float] = {}
        self._folder = Path()

    def run(self) -> list[Record]:
        """All records, including those of the scaling table."""
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            self._folder = Path(folder)
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(self._folder / "inductor")
            self.peaks = self._measure_peaks()
            records = []
            for part in self.settings.only:
                with Pair(self.settings.threads) as self._pair:
                    for record in getattr(self, f"_{part}")():
                        records.append(record)
                        self.on_record(record)
            return records

    def _measure_peaks(self) -> dict[str, float]:
        on_cpu, quick = self.settings.device == "cpu", self.settings.quick
        job = {
            "side": "peaks",
            "device": self.settings.device,
            "side_length": 512 if quick else 2048 if on_cpu else 8192,
            "copied_bytes": 2**25 if quick else 2**29,
        }
        with Worker(threads=self.settings.threads) as worker:
            return alternate([worker], [job], repeats=1)[0].values

    def _model(self, shape: Shape) -> Path:
        folder = self._folder / shape.name
        if not folder.exists():
            write_folder(shape, folder)
        return folder

    # The comparisons of each part.

    def _steps(self) -> Iterator[Record]:
        for name in self._shapes():
            shape = SHAPES[name]
            for method, workload, teacher in _step_settings(name, self.settings):
                repeats = 2 if shape.weights > 10**8 and self.settings.device == "cpu" else None
                yield self._step(f"steps/{name}/{method}", method, shape, workload, teacher, repeats)

    def _step(
        self, name: str, method: str, shape: Shape, workload: Workload, teacher: str, repeats: int | None = None
    ) -> Record:
        job = step.job_of(
            method,
            shape,
            workload,
            self._model(shape),
            dtype=self.settings.dtype,
            device=self.settings.device,
            teacher=teacher,
        )
        settings = {"objective": step.METHODS[method].what, "model": shape.name, "teacher": teacher}
        settings |= _described(shape, workload)
        operations = step_operations(method, shape, workload, draw_tokens(workload, shape.vocabulary))
        record = self._compare(name, "step.ours", "step.trl", job, settings, operations, repeats=repeats)
        # Both peaks include the gradients of all weights. Without these, the ratio is that of the methods themselves.
        if record.get("memory_ratio"):
            gradients = 4 * shape.weights
            ours, peer = (record[side]["peak_bytes"] - gradients for side in ("ours", "peer"))
            record["memory_ratio_without_gradients"] = _rounded(peer / ours) if ours > 0 else None
        return record

    def _generation(self) -> Iterator[Record]:
        for name in self._shapes():
            shape, workload = SHAPES[name], _step_settings(name, self.settings)[0][1]
            job = step.job_of(
                "sdft_topk",
                shape,
                workload,
                self._model(shape),
                dtype=self.settings.dtype,
                device=self.settings.device,
                teacher="live",
            )
            settings = {"model": shape.name} | _described(shape, workload)
            del settings["teacher_tokens"], settings["active_rows"], settings["teacher_prompts_per_group"]
            yield self._compare(
                f"generation/{name}", "generation.ours", "generation.trl", job, settings, tolerance=SAMPLED_TOLERANCE
            )

    def _objective(self) -> Iterator[Record]:
        for vocabulary, width, tokens, kinds in _objective_settings(self.settings):
            for kind in kinds:
                for peer in objective.PEERS[kind]:
                    size = {"tokens": tokens, "vocabulary": vocabulary, "width": width}
                    job = objective.job_of(kind, **size, dtype=self.settings.dtype, device=self.settings.device)
                    logits = 4 * tokens * vocabulary
                    count = {"needed": objective_operations(kind, **size)}
                    itemsize = getattr(torch, self.settings.dtype).itemsize
                    count["bytes"] = objective_bytes(kind, **size, itemsize=itemsize)
                    record = self._compare(
                        f"objective/{kind}/{peer}/v{vocabulary}/n{tokens}",
                        "objective.ours",
                        f"objective.{peer}",
                        job,
                        size,
                        count,
                        # Plain autograd keeps up to 14 times the logits.
                        needs_bytes=15 * logits if peer == "trl" and kind != "policy_gradient" else 0,
                        repeats=2 if tokens * vocabulary > 2**26 else None,
                    )
                    for side in ("ours", "peer"):
                        peak = record.get(side, {}).get("peak_bytes")
                        if peak is not None:
                            record[side]["peak_over_logits"] = _rounded(peak / logits)
                    yield record

    def _scaling(self) -> Iterator[Record]:
        for axis, method, values in _scaling_settings(self.settings):
            for value in values:
                shape, workload = _scaled(axis, value, self.settings)
                record = self._step(f"scaling/{axis}/{value}", method, shape, workload, "base", 2)
                yield record | {"axis": axis, "value": value}

    def _shapes(self) -> Sequence[str]:
        return ("toy",) if self.settings.quick else self.settings.models

    # One comparison.

    def _compare(
        self,
        name: str,
        ours: str,
        peer: str,
        job: dict[str, Any],
        settings: dict[str, Any],
        operations: dict[str, float] | None = None,
        *,
        tolerance: float | None = None,
        needs_bytes: int = 0,
        repeats: int | None = None,
    ) -> Record:
        dtype = self.settings.dtype
        library = "liger-kernel" if "liger" in peer else "trl"
        record: Record = {"name": name, "dtype": dtype, "settings": settings, "peer_name": peer.partition(".")[2]}
        try:
            record["peer_version"] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            return record | {"skipped": f"{library} is not installed"}
        if self.settings.device == "cpu" and needs_bytes > 0.8 * _free_memory():
            return record | {"skipped": f"the peer needs about {needs_bytes / 2**30:.0f} GiB, more than is free"}
        count = min(repeats or self.settings.repeats, self.settings.repeats)
        try:
            a, b = self._pair.measure(
                [job | {"side": ours}, job | {"side": peer}], repeats=min(count, 2) if self.settings.quick else count
            )
        except BenchmarkError as error:
            return record | {"failed": str(error)}
        tolerances = (TOLERANCE[dtype] if tolerance is None else tolerance, GRADIENT_TOLERANCE[dtype])
        return record | _result(a, b, *tolerances) | self._shares(a, b, operations or {})

    def _shares(self, a: Measured, b: Measured, operations: dict[str, float]) -> Record:
        """Counted operations, and each side's time compared with them.

        `share_of_peak` is the needed operations per second over the measured peak. `time_ratio_bound` is the peer's
        time over that of an ideal implementation, which does nothing but the needed work at the measured peaks.
        """
        if not operations:
            return {}
        peak = self.peaks[f"{self.settings.dtype}_flops"]
        needed = operations["needed"]
        shown: Record = {"operations": {key: float(f"{value:.6g}") for key, value in operations.items()}}
        if "padded" in operations:
            shown["operations_ratio"] = _rounded(operations["padded"] / needed)
        least = max(needed / peak, operations.get("bytes", 0.0) / self.peaks["bytes_per_second"])
        shown["least_seconds"] = float(f"{least:.4g}")
        shown["time_ratio_bound"] = _rounded(statistics.median(b.seconds) / least)
        shares = {
            key: _rounded(needed / peak / statistics.median(side.seconds)) for key, side in (("ours", a), ("peer", b))
        }
        return shown | {"share_of_peak": shares}


def _result(ours: Measured, peer: Measured, tolerance: float, gradient_tolerance: float) -> Record:
    """Ratios above 1 mean that the peer needs more. `agree` means that all differences are within their tolerances."""
    time_ratio, spread = ratio(peer, ours)
    record: Record = {
        "ours": ours.record(),
        "peer": peer.record(),
        "time_ratio": _rounded(time_ratio),
        "spread": [_rounded(value) for value in spread],
        "memory_ratio": None,
        "loss_difference": relative_difference(ours.values["loss"], peer.values["loss"]),
        "tolerance": tolerance,
    }
    if ours.peak_bytes and peer.peak_bytes:
        record["memory_ratio"] = _rounded(peer.peak_bytes / ours.peak_bytes)
    record["agree"] = record["loss_difference"] <= tolerance
    if "grad_norm" in ours.values and "grad_norm" in peer.values:
        difference = relative_difference(ours.values["grad_norm"], peer.values["grad_norm"])
        record |= {"gradient_difference": difference, "gradient_tolerance": gradient_tolerance}
        record["agree"] &= difference <= gradient_tolerance
    if "logprob_error" in ours.values:
        record["agree"] &= ours.values["logprob_error"] <= tolerance
    return record


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _described(shape: Shape, workload: Workload) -> dict[str, Any]:
    known = asdict(workload) | {"rows": workload.rows, "active_rows": workload.active_rows}
    del known["active"]
    return known | {"vocabulary": shape.vocabulary, "weights": shape.weights}


def _free_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _step_settings(shape: str, settings: Settings) -> list[tuple[str, Workload, str]]:
    """Method, rows and teacher of every step of one model."""
    if settings.quick:
        workload, teacher = (
            Workload(prompts=2, generations=4, new_tokens=16, prompt_tokens=16, teacher_tokens=32),
            "base",
        )
    elif shape == "11.5m" or settings.device != "cpu":
        workload, teacher = Workload(), "base"
    else:
        # A model 50 times as large on a few cores: fewer rows and tokens, and no copy for a teacher to save memory.
        workload, teacher = Workload(prompts=1, generations=4, new_tokens=32), "live"
    silent = replace(workload, active=round(0.4 * workload.rows), teacher_prompts_per_group=2)
    methods = [method for method in step.METHODS if workload.rows > 4 or method != "sdft_kl_full"]
    return [(method, silent if method == "sdpo_topk" else workload, teacher) for method in methods]


def _objective_settings(settings: Settings) -> list[tuple[int, int, int, tuple[str, ...]]]:
    """Vocabulary, width, tokens, objectives."""
    every = tuple(objective.OBJECTIVES)
    if settings.quick:
        return [(512, 64, 256, every)]
    if settings.device != "cpu":
        return [(151_936, width, tokens, every) for width in (1024, 2048) for tokens in (2048, 8192)]
    return [
        (32_768, 256, 512, every),
        (32_768, 256, 2048, every),
        (32_768, 256, 8192, ("jsd",)),
        (151_936, 1024, 256, every),
    ]


def _scaling_settings(settings: Settings) -> list[tuple[str, str, tuple[int, ...]]]:
    """Axis, method, values."""
    short = settings.quick
    return [
        ("new_tokens", "sdft_topk", (8, 16) if short else (32, 64, 128, 256)),
        ("vocabulary", "sdft_topk", (256, 512) if short else (4096, 8192, 16_384, 32_768)),
        ("generations", "sdft_topk", (2, 4) if short else (2, 4, 8, 16)),
        ("prompt_tokens", "sdft_topk", (16, 32) if short else (64, 128, 256, 512)),
        ("active_rows", "sdpo_topk", (4, 8) if short else (2, 4, 8, 16)),
    ]


def _scaled(axis: str, value: int, settings: Settings) -> tuple[Shape, Workload]:
    """Shape and rows of one point: one axis changes, all others are fixed. Teacher prompts are 64 tokens longer."""
    if settings.quick:
        shape, workload = SHAPES["toy"], Workload(generations=4, new_tokens=16, prompt_tokens=16, teacher_tokens=80)
    elif settings.device != "cpu":
        shape, workload = SHAPES["qwen3-0.6b"], Workload()
    else:
        shape, workload = SHAPES["11.5m"].with_vocabulary(8192), Workload(new_tokens=64)
    if axis == "vocabulary":
        return shape.with_vocabulary(value), workload
    if axis == "prompt_tokens":
        return shape, replace(workload, prompt_tokens=value, teacher_tokens=value + 64)
    if axis == "active_rows":
        return shape, replace(workload, active=value)
    return shape, replace(workload, **{axis: value})

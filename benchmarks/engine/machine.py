"""A description of the machine that a benchmark ran on."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass
class Machine:
    """The machine, without names."""

    processor: str
    cores: int
    threads: int
    memory_gib: float
    """Rounded to a tenth, because machines of one kind differ by some pages."""
    python: str
    packages: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls, device: str, threads: int) -> "Machine":
        versions = {}
        for name in ("torch", "transformers", "trl", "liger-kernel", "accelerate"):
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        processor = torch.cuda.get_device_name() if device != "cpu" else _processor()
        return cls(
            processor=processor,
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            threads=threads,
            memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
            python=platform.python_version(),
            packages=versions,
        )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    vector = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in info.get("flags", "").split()]
    return f"{info.get('model name', platform.machine())} ({', '.join(vector)})"

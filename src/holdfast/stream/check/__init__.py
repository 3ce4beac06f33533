"""Checks before training. Start with `everything`, which calls the others."""

from holdfast.stream.check.everything import check_run
from holdfast.stream.check.memory import memory_estimate

__all__ = ["check_run", "memory_estimate"]

"""Rules over live numbers that say when a model begins to collapse, and what is to be done. Importable without torch.

`Guard(GuardSettings()).see(record)` works in any training loop.
"""

from holdfast.guard.guard import Decision, Guard
from holdfast.guard.rules import RULES
from holdfast.guard.settings import GuardSettings

__all__ = ["RULES", "Decision", "Guard", "GuardSettings"]

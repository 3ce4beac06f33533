"""Rules over live metrics: they detect that a model begins to collapse, and say what to do. Importable without torch.

`Guard(GuardSettings()).see(record)` works in any training loop.
"""

from holdfast.guard.guard import Decision, Guard
from holdfast.guard.messages import message
from holdfast.guard.rules import RULES
from holdfast.guard.settings import GuardSettings

__all__ = ["RULES", "Decision", "Guard", "GuardSettings", "message"]

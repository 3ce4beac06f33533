"""holdfast inside another trainer: a callback for transformers and TRL, and a watcher for any training loop.

Attributes are imported on first use, because both need torch.
"""

from importlib import import_module
from typing import Any

_MODULES = {"HoldfastCallback": "holdfast.integrations.callback", "Watcher": "holdfast.integrations.watcher"}

__all__ = ["HoldfastCallback", "Watcher"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""holdfast inside other people's training: a callback for transformers and TRL, a watcher for any loop.

Attributes are loaded when they are first used, since both import torch.
"""

from importlib import import_module
from typing import Any

_WHERE = {"HoldfastCallback": "holdfast.integrations.callback", "Watcher": "holdfast.integrations.watcher"}

__all__ = ["HoldfastCallback", "Watcher"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

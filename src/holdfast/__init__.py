"""holdfast: continual post-training for language models.

Train a model on one task after another without forgetting what it learned before::

    import holdfast
    summary = holdfast.run("stream.yaml")
    holdfast.compare("comparison.yaml")

Attributes are loaded on first use, so that `import holdfast` stays fast.
"""

from importlib import import_module
from typing import Any

from holdfast.renamed import explain_moved_modules

__version__ = "0.2.0.dev0"

_MODULE_OF = {
    **dict.fromkeys(
        ("run", "resume", "compare", "demo", "evaluate", "recover", "check", "report", "export"), "holdfast.api"
    ),
    **dict.fromkeys(("RunConfig", "CompareConfig"), "holdfast.config.settings"),
    **dict.fromkeys(("load_config",), "holdfast.config.load"),
    **dict.fromkeys(("Example", "Verdict", "Message"), "holdfast.data.example"),
    **dict.fromkeys(("Task", "Suite"), "holdfast.data.task"),
    **dict.fromkeys(("Recipe",), "holdfast.recipes.base.recipe"),
    **dict.fromkeys(("register", "RECIPES"), "holdfast.recipes"),
    **dict.fromkeys(("HoldfastError",), "holdfast.errors"),
    **dict.fromkeys(("Stopped",), "holdfast.stop"),
    **dict.fromkeys(("HoldfastCallback", "Watcher"), "holdfast.integrations"),
}

__all__ = ["__version__", *_MODULE_OF]

explain_moved_modules()


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'holdfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])

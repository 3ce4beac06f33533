"""All claims, one file each. A file states what counts as evidence before anything is measured. Torch-free."""

from importlib import import_module
from pkgutil import iter_modules

from holdfast.findings.claim import Claim


def _found() -> tuple[Claim, ...]:
    names = sorted(module.name for module in iter_modules(__path__))
    return tuple(import_module(f"{__name__}.{name}").CLAIM for name in names)


CLAIMS: tuple[Claim, ...] = _found()
"""Every claim, by the name of its file."""

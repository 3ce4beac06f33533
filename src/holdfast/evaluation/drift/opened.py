"""The models of a comparison, opened: adapters of every kind, and equal names for equal weights."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from holdfast.errors import ModelError
from holdfast.store.model_folder import AdapterKindError, Model, open_model


@contextmanager
def opened(a: str | Path, b: str | Path, earlier: Sequence[str | Path]) -> Iterator[tuple[Model, Model, list[Model]]]:
    """Models `a`, `b` and those on the way, with the names of `a`. Within it, merged adapters are on disk.

    Raises:
        ModelError: a model cannot be read, or peft cannot merge an adapter.
    """
    with ExitStack() as stack:
        first = _opened(a, b, stack)
        second, *way = (_opened(path, a, stack).named_like(first) for path in (b, *earlier))
        yield first, second, way


def _opened(path: str | Path, other: str | Path, stack: ExitStack) -> Model:
    """A model; an adapter that cannot be read one tensor at a time is merged by peft into a temporary folder."""
    try:
        return open_model(path, other)
    except AdapterKindError as odd:
        from holdfast.model.adapters import write_merged

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-merged-")))
        try:
            write_merged(odd.folder, odd.base, folder, str(path))
        except ModelError as error:
            what = f"{odd.what}, and peft cannot merge it: {error.what}"
            raise ModelError(what, where=odd.where, fix=odd.fix) from error
        note = f"{path}: peft merged the adapter in float32 for this comparison"
        return replace(open_model(folder), where=str(path), notes=(*odd.notes, note))

"""Hugging Face datasets as records: from the hub, from a folder of data files, or written by `save_to_disk`."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.errors import DataError, did_you_mean
from holdfast.tasks.readers.record import Record, first_line


def read_dataset(name: str, split: str, subset: str | None = None) -> list[Record]:
    """All records of one split of a Hugging Face dataset.

    Args:
        name: a hub id, a local folder of data files, or a folder written by `save_to_disk`.
        split: name of the split. For the first two kinds it may be a slice such as `train[:100]`.
        subset: the dataset's configuration name, if it has several.

    Raises:
        DataError: the dataset or the split is missing, cannot be read, or is empty.
    """
    import datasets

    if not sys.stderr.isatty():  # a progress bar in a log file is many lines
        datasets.disable_progress_bars()
    folder, where = Path(name), f"{name}/{split}"
    saved = any((folder / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
    if saved and subset is not None:
        raise DataError("was written by save_to_disk and has no subsets", where=where, fix="remove `subset`")
    try:
        rows: Any = (
            _saved_split(datasets.load_from_disk(name), split)
            if saved
            else datasets.load_dataset(name, subset, split=split)
        )
        # A saved dataset remembers a format, e.g. NumPy's. Records are plain values.
        plain: Iterable[Mapping[str, Any]] = rows.with_format(None)
        labels = {name: each.names for name, each in rows.features.items() if isinstance(each, datasets.ClassLabel)}
        records = [
            Record({**row, **_label_names(row, labels)}, n, f"{where}, row {n}", filled=True)
            for n, row in enumerate(plain, 1)
        ]
    except DataError as error:
        raise DataError(error.what, where=where, fix=error.fix) from None
    except Exception as error:
        raise DataError(
            f"the dataset cannot be loaded: {type(error).__name__}: {first_line(error)}",
            where=where,
            fix="check its name, `subset`, the split, and the network",
        ) from error
    if not records:
        raise DataError("has no records", where=where, fix="name a split that has examples")
    return records


def _label_names(row: Mapping[str, Any], labels: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """The class labels of a row by name, because a model writes names. A label that is not told is -1."""
    return {name: None if row[name] is None or row[name] < 0 else names[row[name]] for name, names in labels.items()}


def _saved_split(data: Any, split: str) -> Any:
    """A split of what `load_from_disk` gave: a dictionary of splits, or one split, called "train" if it has no name."""
    splits = data if isinstance(data, dict) else {str(data.split or "train"): data}
    if split not in splits:
        raise DataError(f"no split {split!r}", fix=did_you_mean(split, map(str, splits)))
    return splits[split]

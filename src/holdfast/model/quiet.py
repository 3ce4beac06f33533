"""Quiet."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging


def silence_progress_bars() -> None:
    """No bars of transformers for reading and writing weights; the commands show progress of their own."""
    from transformers.utils import logging

    logging.disable_progress_bar()


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' progress bars where nobody watches them."""
    if sys.stderr.isatty() or not transformers_logging.is_progress_bar_enabled():
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()

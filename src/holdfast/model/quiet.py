"""The progress bars that libraries show while they read and write weights.

transformers is imported inside the functions, so that commands that need no model start quickly.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def silence_progress_bars() -> None:
    """Show none of transformers' progress bars. The commands show their own."""
    from transformers.utils import logging

    logging.disable_progress_bar()


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, no progress bars are shown, except in a terminal."""
    from transformers.utils import logging

    if sys.stderr.isatty() or not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()

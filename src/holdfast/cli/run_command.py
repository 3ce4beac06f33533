"""Running one command line: its exit code, and the one line that says how it ended.

A mistake that the user can fix ends in one line. A fault of holdfast itself ends in a traceback.
"""

import contextlib
import errno
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import typer

from holdfast import stop
from holdfast.cli.say import lenient_output
from holdfast.errors import HoldfastError, printable, shortened

_LONGEST = 1600
"""Characters of a line. An error's parts are shorter; the lines of other libraries need not be."""


class EndedEarly(Exception):  # noqa: N818 - not always an error: the user may have stopped the command
    """A command that ended before its work was done; has the line to print and the exit code."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.code = code


def is_main_process() -> bool:
    """Whether this process prints: the only process, or rank 0 of those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def _processes() -> Any:
    """The group of processes that this one has joined, or None. Does not load torch to find out."""
    module = sys.modules.get("holdfast.model.processes")
    return module.Processes.joined() if module else None


def _print_last(write: Callable[[], object]) -> None:
    """Call `write` in one process only: of several that fail, the first to fail, because it knows the cause."""
    if processes := _processes():
        processes.report_first_failure(write)
    elif is_main_process():
        write()


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    if is_main_process():
        print(_one_line(f"warning: {message}"), file=sys.stderr, flush=True)


def _one_line(text: str) -> str:
    return "holdfast: " + shortened(" ".join(printable(text).split()), _LONGEST)


def _mend(error: OSError) -> str:
    """What to do about a file or folder that the system refuses."""
    mends = {
        errno.ENOSPC: "make room on that disk",
        errno.EDQUOT: "make room on that disk",
        errno.EACCES: "check the permissions of the path",
        errno.EPERM: "check the permissions of the path",
        errno.EROFS: "choose a place that can be written",
        errno.ENAMETOOLONG: "shorten the path",
        errno.ELOOP: "let the symbolic link lead to a file or folder",
        errno.EMFILE: "raise the limit of open files with `ulimit -n`",
    }
    return mends.get(error.errno or 0, "check the path")


def run_command(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 2 for mistakes that the user can fix, 130 or 143 if stopped.

    Of several processes that torchrun has started, only one prints.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with lenient_output(), warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)  # these are for developers of the libraries
        warnings.showwarning = _show_warning
        try:
            with contextlib.redirect_stdout(sys.stdout if is_main_process() else io.StringIO()):
                line, code = _outcome(app, arguments)
        except Exception:
            if _processes() is None:
                raise
            _print_last(traceback.print_exc)
            return 1
    if line:
        _print_last(lambda: print(_one_line(line), file=sys.stderr, flush=True))
    elif processes := _processes():
        processes.leave()
    return code


def _outcome(app: typer.Typer, arguments: Sequence[str] | None) -> tuple[str, int]:
    """Run one command line; returns the line to print ("" for none) and the exit code."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="holdfast", standalone_mode=False)
    except EndedEarly as end:
        return str(end), end.code
    except HoldfastError as error:
        return f"error: {error}", 2
    except BrokenPipeError:  # the reader of the output, e.g. `head`, has closed it
        # Python flushes stdout once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "", 1
    except OSError as error:
        if error.errno is None:
            raise
        what = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
        return f"error: {what} ({_mend(error)})", 2
    except Exception as error:
        # Compared by name, so that torch need not be imported.
        if type(error).__name__ == "OutOfMemoryError":
            return "error: out of device memory (lower train.micro_batch_tokens, or use model.lora)", 2
        if (processes := _processes()) and processes.is_about_a_lost_process(error):
            if number := stop.asked():  # of all; the other one was where it need not save
                return "stopped", 128 + number
            return "error: another process of this run has ended (resume with `holdfast resume`)", 1
        if not hasattr(error, "format_message"):  # typer's errors about a command line have it
            raise
        usage = getattr(getattr(error, "ctx", None), "command_path", "holdfast")
        return f"error: {error.format_message().rstrip('.')} (see `{usage} --help`)", 2
    if code == 130:  # typer turns Ctrl-C into this code
        return "stopped", 130
    return "", code if isinstance(code, int) else 0

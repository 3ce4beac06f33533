"""How a command line ends: well, in one line that its reader can act on, or in a traceback where the fault is ours."""

import contextlib
import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from holdfast.errors import HoldfastError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""The option `--json` of commands that print what they found."""


class Ended(Exception):  # noqa: N818 - an end that is not always an error
    """A command that ended before its work was done: the line to say so, and the exit code."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.code = code


def print_json(value: Any) -> None:
    """Print plain data as JSON."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def is_main_process() -> bool:
    """Whether this process speaks for a run: the only one, or the first that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def _world() -> Any:
    """The processes that this one has met, without loading torch to find out; None where it is alone."""
    module = sys.modules.get("holdfast.model.processes")
    return module.Processes.joined() if module else None


def _say_last(say: Callable[[], object]) -> None:
    """Say how a command ended: of several processes that fail, the first does, because it knows why."""
    if world := _world():
        world.report_first_failure(say)
    elif is_main_process():
        say()


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    if is_main_process():
        print(_one_line(f"warning: {message}"), file=sys.stderr, flush=True)


def _one_line(text: str) -> str:
    return "holdfast: " + " ".join(text.split())


def run_command(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 2 for what the user can fix, 130 or 143 when stopped.

    Of several processes that torchrun has started, one speaks.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = _show_warning
        try:
            with contextlib.redirect_stdout(sys.stdout if is_main_process() else io.StringIO()):
                line, code = _outcome(app, arguments)
        except Exception:
            if _world() is None:
                raise
            _say_last(traceback.print_exc)
            return 1
    if line:
        _say_last(lambda: print(_one_line(line), file=sys.stderr, flush=True))
    elif world := _world():
        world.leave()
    return code


def _outcome(app: typer.Typer, arguments: Sequence[str] | None) -> tuple[str, int]:
    """Run one command line: what to say of how it ended, and its exit code."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="holdfast", standalone_mode=False)
    except Ended as end:
        return str(end), end.code
    except HoldfastError as error:
        return f"error: {error}", 2
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "", 1
    except OSError as error:
        if error.errno is None:
            raise
        return f"error: {': '.join(str(part) for part in (error.filename, error.strerror) if part)}", 2
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            return "error: the device has too little memory (lower train.micro_batch_tokens, or use model.lora)", 2
        if (world := _world()) and world.is_about_a_lost_process(error):
            return "error: another process of this run has ended (go on with `holdfast resume`)", 1
        if not hasattr(error, "format_message"):  # what typer raises for a wrong command line has one
            raise
        usage = getattr(getattr(error, "ctx", None), "command_path", "holdfast")
        return f"error: {error.format_message().rstrip('.')} (see `{usage} --help`)", 2
    if code == 130:  # what typer makes of an interrupt
        return "stopped", 130
    return "", code if isinstance(code, int) else 0

"""Progress of the commands that are not runs, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast.cli.run_command import is_main_process
from holdfast.cli.say import say_aside
from holdfast.errors import printable

if TYPE_CHECKING:
    from holdfast.evaluation.sampled import OnPrompts


@contextmanager
def answer_progress(quiet: bool) -> "Iterator[Callable[[str], OnPrompts]]":
    """Progress of models that answer prompts, as a function from a model's name to its callback (done, total).

    On a terminal there is a live bar; elsewhere one plain line per model, when it has answered all prompts.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if console.is_terminal and not quiet:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:

            def live(name: str) -> "OnPrompts":
                task = bar.add_task(printable(f"answers of {name}"), total=None)
                return lambda done, of: bar.update(task, completed=done, total=of)

            yield live
        return

    def plain(name: str) -> "OnPrompts":
        def callback(done: int, of: int) -> None:
            if done == of and not quiet:
                say_aside(f"answers of {name}: {of} prompts")

        return callback

    yield plain


@contextmanager
def tensor_progress(quiet: bool) -> "Iterator[Callable[[str, int, int], None] | None]":
    """Progress over the tensors of a model, as a callback (tensor, done, total); None if no terminal shows it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(20), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task("", total=None)
        yield lambda tensor, done, of: bar.update(line, description=printable(tensor), completed=done, total=of)


def set_progress(quiet: bool) -> Callable[[str, str], None]:
    """A callback (model, set) that prints one line for each set that a model is evaluated on."""

    def callback(model: str, name: str) -> None:
        if not quiet and is_main_process():
            say_aside(f"evaluating {model}: {name}")

    return callback

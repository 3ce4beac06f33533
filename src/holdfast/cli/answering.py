"""What the commands that ask two models the same have in common: their options, and where answers come from."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from holdfast.evaluate.sampled import OnPrompts, Sampling
    from holdfast.measure.answers import Answer, PromptSet
    from holdfast.model.policy import Policy

ModelOrAnswers = Annotated[
    str, typer.Argument(help="A model folder, `lab`, or a JSON Lines file of answers.", show_default=False)
]

PromptsOption = Annotated[
    list[str],
    typer.Argument(metavar="PROMPTS...", help="Task files, or lab:NAME; each is one task.", show_default=False),
]

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write what was found as JSON too.")]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]

Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use the first so many prompts of each task.")]

Temperature = Annotated[float, typer.Option("--temperature", min=0.0, help="Of sampling; 0 is greedy.")]

Samples = Annotated[int, typer.Option("--samples", min=1, help="Answers to each prompt.")]

MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens", min=1, help="Longest answer in tokens; by default 512, or what the context holds."
    ),
]

Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of sampling.")]

Dtype = Annotated[str, typer.Option("--dtype", help="Of the weights: float32 or bfloat16.")]

Keep = Annotated[
    Path | None, typer.Option("--answers", metavar="DIR", help="Write the answers into this folder, to be used again.")
]


@dataclass
class Sources:
    """Models, one in memory at a time, and files of answers; both give answers to the same prompts."""

    prompts: "PromptSet"
    sampling: "Sampling"
    dtype: str
    keep: Path | None
    quiet: bool
    wants_tokens: bool = False
    encode: Callable[[str], list[int]] | None = None
    decode: Callable[[Sequence[int]], str] | None = None

    def check(self, source: str) -> None:
        """Tell what is wrong with a source before anything is asked, where that can be seen from its files."""
        from holdfast.evaluate.answer_files import is_answer_file, read_answers

        if is_answer_file(source):
            read_answers(source, self.prompts)
        else:
            from holdfast.model.load import locate

            locate(source)

    def answers(self, name: str, source: str) -> "list[Answer]":
        """The answers of a source that is called `name` in what is shown."""
        from holdfast.evaluate.answer_files import is_answer_file, read_answers

        if is_answer_file(source):
            return read_answers(source, self.prompts)
        from holdfast.evaluate.sampled import decoder, load

        policy = load(source, self.dtype)
        if self.wants_tokens:
            tokenizer = policy.tokenizer
            self.encode = lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"])
            self.decode = decoder(policy)
        return self.sampled(name, policy)

    def sampled(self, name: str, policy: "Policy") -> "list[Answer]":
        """The answers of a model in memory."""
        from holdfast.evaluate.answer_files import write_answers
        from holdfast.evaluate.sampled import sample_answers

        with answering(self.quiet) as told:
            found = sample_answers(policy, self.prompts, self.sampling, told(name))
        if self.keep is not None:
            write_answers(self.keep / f"{name}.jsonl", found)
        return found


@contextmanager
def answering(quiet: bool) -> "Iterator[Callable[[str], OnPrompts]]":
    """From a name of who answers to what is told how many prompts were answered: a live line, or plain ones at the end.

    There is a live line where a terminal shows standard error.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if console.is_terminal and not quiet:
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:

            def line(name: str) -> "OnPrompts":
                task = bar.add_task(f"answers of {name}", total=None)
                return lambda done, of: bar.update(task, completed=done, total=of)

            yield line
        return

    def plain(name: str) -> "OnPrompts":
        def say(done: int, of: int) -> None:
            if done == of and not quiet:
                print(f"answers of {name}: {of} prompts", file=sys.stderr, flush=True)

        return say

    yield plain

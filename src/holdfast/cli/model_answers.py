"""Where `holdfast artifacts` gets answers from: a model, one in memory at a time, or a file of answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.cli.progress_bars import answer_progress

if TYPE_CHECKING:
    from holdfast.evaluation.sampled import Sampling
    from holdfast.measure.answers import Answer, PromptSet
    from holdfast.model.policy import Policy


@dataclass
class AnswerSources:
    """Answers to the same prompts, from models and from files.

    Attributes:
        dtype: of the weights of models.
        keep: folder that sampled answers are written into; None to write none.
        wants_tokens: whether `encode` and `decode` of a model's tokenizer are needed.
        encode, decode: of the last model that answered; None if none did.
    """

    prompts: "PromptSet"
    sampling: "Sampling"
    dtype: str
    keep: Path | None
    quiet: bool
    wants_tokens: bool = False
    encode: Callable[[str], list[int]] | None = None
    decode: Callable[[Sequence[int]], str] | None = None

    def check(self, source: str) -> None:
        """Raise the error of a source that its files already show, before any model is sampled."""
        from holdfast.evaluation.answer_files import is_answer_file, read_answers

        if is_answer_file(source):
            read_answers(source, self.prompts)
        else:
            from holdfast.model.folders import locate

            locate(source)

    def answers(self, name: str, source: str) -> "list[Answer]":
        """The answers of a source; the progress line and the file of kept answers call it `name`."""
        from holdfast.evaluation.answer_files import is_answer_file, read_answers

        if is_answer_file(source):
            return read_answers(source, self.prompts)
        from holdfast.evaluation.sampled import decoder, load

        policy = load(source, self.dtype)
        if self.wants_tokens:
            tokenizer = policy.tokenizer
            self.encode = lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"])
            self.decode = decoder(policy)
        return self._sampled(name, policy)

    def _sampled(self, name: str, policy: "Policy") -> "list[Answer]":
        from holdfast.evaluation.answer_files import write_answers
        from holdfast.evaluation.sampled import sample_answers

        with answer_progress(self.quiet) as progress_of:
            answers = sample_answers(policy, self.prompts, self.sampling, progress_of(name))
        if self.keep is not None:
            write_answers(self.keep / f"{name}.jsonl", answers)
        return answers

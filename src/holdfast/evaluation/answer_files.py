"""Read prompts from task files and lab tasks, and read and write files of answers."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from holdfast.config.code import LAB_PROGRAMS
from holdfast.config.settings import Columns
from holdfast.data.example import Example
from holdfast.errors import ConfigError, DataError
from holdfast.measure.answers import Answer, PromptSet
from holdfast.store.files import write_text
from holdfast.tasks.files import SUFFIXES, Record, read_records, records_to_examples
from holdfast.tasks.lab_programs import program_splits
from holdfast.tasks.readers.record import refuse_no_value

LAB_PREFIX = "lab:"

TEXT_COLUMNS = ("text", "completion")


def load_prompts(sources: Sequence[str], limit: int | None = None) -> PromptSet:
    """Prompts from task files and lab tasks.

    `lab:NAME` is a lab task or suite. Of a task, the test prompts are used, with the training demonstrations for
    comparison. A file has records as `records_to_examples` takes them. The file's name is the name of the task, unless
    its records have a column `task`.

    Args:
        limit: use only the first `limit` prompts of each source.

    Raises:
        DataError: a file cannot be read, or two prompts share an id.
        ConfigError: the lab has no such task or suite.
    """
    examples: dict[str, Example] = {}
    task_of: dict[str, str] = {}
    demonstrations: dict[str, list[str]] = {}
    for source in sources:
        prompts, demonstrated, task = _source(source)
        for example in prompts[:limit]:
            if example.id in examples:
                fix = "give each record an `id` that is unique over all files"
                raise DataError(f"the prompt id {example.id!r} is used twice", where=source, fix=fix)
            examples[example.id] = example
            task_of[example.id] = str(example.metadata.get("task", task))
        for example in demonstrated:
            if example.demonstration is not None:
                demonstrations.setdefault(str(example.metadata.get("task", task)), []).append(example.demonstration)
    return PromptSet(examples, task_of, demonstrations)


def _source(source: str) -> tuple[Sequence[Example], Sequence[Example], str]:
    """Examples to take prompts from, examples to take demonstrations from, and the name of the task."""
    if source.startswith(LAB_PREFIX):
        from holdfast.lab.tasks import ALL_SUITES, ALL_TASKS, lab_suite, lab_task

        name = source.removeprefix(LAB_PREFIX)
        if name == LAB_PROGRAMS:
            splits = program_splits()
            return splits["test"], splits["train"], name
        if name in ALL_TASKS:
            return lab_task(name).test, lab_task(name).train, name
        if name in ALL_SUITES:
            return lab_suite(name).test, (), name
        raise ConfigError(
            f"the lab has no {name!r}",
            where=source,
            fix=f"name one of {', '.join((*ALL_TASKS, LAB_PROGRAMS, *ALL_SUITES))}",
        )
    examples = records_to_examples(read_records(source), Columns(), source)
    return examples, examples, Path(source).stem


def is_answer_file(source: str) -> bool:
    """Whether a source is a file of answers rather than a model."""
    return Path(source).suffix.lower() in SUFFIXES


def read_answers(path: str | Path, prompts: PromptSet) -> list[Answer]:
    """Answers from a JSON Lines, JSON or Parquet file, in the order of the prompts.

    A record has `text` (or TRL's `completion`) and, if known, its token `ids` and whether it is `truncated`. It names
    its prompt by `id`; several records may name the same prompt. Without `id`, record i answers prompt i.

    Raises:
        DataError: a record is malformed, its prompt is not among the prompts, or a prompt has no answer.
    """
    records = read_records(path)
    named = [record for record in records if "id" in record.values]
    if not named and len(records) != len(prompts.examples):
        raise DataError(
            f"{len(records)} answers without `id`, but {len(prompts.examples)} prompts",
            where=str(path),
            fix="give each answer the `id` of its prompt, or write one answer for each prompt, in order",
        )
    by_prompt: dict[str, list[Answer]] = {prompt: [] for prompt in prompts.examples}
    for record, in_order in zip(records, prompts.examples if not named else [None] * len(records), strict=True):
        answer = _answer(record, in_order)
        if answer.prompt in by_prompt:
            by_prompt[answer.prompt].append(answer)
    missing = [prompt for prompt, answers in by_prompt.items() if not answers]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(by_prompt)} prompts have no answer, the first {missing[0]!r}",
            where=str(path),
            fix="leave these prompts out, or add their answers",
        )
    return [answer for answers in by_prompt.values() for answer in answers]


def _answer(record: Record, in_order: str | None) -> Answer:
    values = record.values
    prompt = in_order if in_order is not None else values.get("id")
    if not isinstance(prompt, str | int) or isinstance(prompt, bool):
        raise DataError("it has no `id`", where=record.where, fix="set `id` to the id of its prompt")
    text = next((values[column] for column in TEXT_COLUMNS if column in values), None)
    if isinstance(text, list) and len(text) == 1 and isinstance(text[0], Mapping):
        text = text[0].get("content")
    if not isinstance(text, str):
        raise DataError("it has no text", where=record.where, fix='write {"id": …, "text": …} for each answer')
    refuse_no_value([text, str(prompt)], "text", record.where)
    ids, truncated = values.get("ids"), values.get("truncated")
    if ids is not None and not (isinstance(ids, list) and all(type(token) is int for token in ids)):
        raise DataError("`ids` is not a list of integers", where=record.where, fix="write token ids, or leave it out")
    if truncated is not None and not isinstance(truncated, bool):
        raise DataError("`truncated` is neither true nor false", where=record.where, fix="write true or false")
    return Answer(str(prompt), text, None if ids is None else tuple(ids), truncated)


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """Write answers in the form that `read_answers` reads."""
    lines = []
    for answer in answers:
        line = {"id": answer.prompt, "text": answer.text}
        optional = {"ids": answer.ids, "truncated": answer.truncated}
        lines.append(json.dumps(line | {k: v for k, v in optional.items() if v is not None}, ensure_ascii=False))
    write_text(path, "\n".join(lines) + "\n")

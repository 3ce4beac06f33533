"""What `holdfast check` prints: short sections, in which everything worth a second look is marked."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.filesize import decimal

from holdfast.cli.tables import WIDEST
from holdfast.reporting.number_format import seconds

INDENT = "  "

MOST_LINES = 12
"""Lines of a prompt or target; longer ones are cut in the middle. `--json` has all of it."""


def check_as_text(label: str, result: Mapping[str, Any]) -> str:
    """The result of `holdfast.api.check` for one recipe. No line is wrapped, so that `grep` finds it."""
    sets = {each["name"]: _task(each) for each in result["tasks"]}
    sets |= {each["name"]: _suite(each) for each in result["suites"]}
    leaks = _sentences(result, "leaks") or [f"{2 * INDENT}no test item stands in the training data"]
    lines = [label, f"{INDENT}data", *_aligned(sets), *leaks]
    lines += [f"{INDENT}lengths", *(2 * INDENT + entry for entry in _lengths(result["lengths"]))]
    if result["chat_template"]:
        lines += [f"{INDENT}chat template", *(2 * INDENT + remark for remark in result["chat_template"])]
    for example in result["preview"]:
        lines += [f"{INDENT}one example of {example['task']}, as the model sees it", *_preview(example)]
    if result["demonstrations"]:
        lines += [f"{INDENT}voice of the demonstrations", *_sentences(result, "demonstrations")]
    if "templates" in result:
        lines += [f"{INDENT}templates that show a demonstration", *_sentences(result, "templates")]
    lines.append(f"{INDENT}teacher: this recipe has none, so there is nothing to test")
    if "teacher" in result:
        lines[-1:] = [f"{INDENT}teacher", *_sentences(result, "teacher")]
    if "rewards" in result:
        lines += [f"{INDENT}rewards", *_sentences(result, "rewards")]
    estimates = {"memory": _memory(result), "disk": _disk(result), "time": _time(result["time"])}
    lines += [f"{INDENT}estimates", *_aligned(estimates)]
    return "\n".join([*lines, *_warnings(result["warnings"], lines)]) + "\n"


def _sentences(result: Mapping[str, Any], section: str) -> list[str]:
    """The sentences of a section's entries. Those that are warnings too are marked."""
    sentences = [each["sentence"] for each in result[section]]
    return [f"{2 * INDENT}{'WARNING: ' if each in result['warnings'] else ''}{each}" for each in sentences]


def _warnings(warnings: Sequence[str], lines: Iterable[str]) -> list[str]:
    """How many warnings there are, and those that no line has yet."""
    marked = [f"{2 * INDENT}WARNING: {each}" for each in warnings]
    rest = [line for line in marked if line not in lines]
    count = f"{len(warnings) or 'no'} warning{'' if len(warnings) == 1 else 's'}"
    above = f", {len(marked) - len(rest)} of them above" if len(rest) < len(marked) else ""
    return [f"{INDENT}{count}{above}", *rest]


def comparison_as_text(comparison: Mapping[str, Any]) -> str:
    """What all runs of a comparison need together."""
    disk, free = decimal(int(comparison["disk"])), decimal(comparison["free_disk"])
    warning = "WARNING: " if comparison["disk"] > comparison["free_disk"] else ""
    together = f"all {comparison['runs']} runs together"
    return f"{warning}{together}: about {disk} of {free} free disk, about {seconds(comparison['time'])}"


def _aligned(entries: Mapping[str, str]) -> list[str]:
    width = max(map(len, entries))
    return [f"{2 * INDENT}{name.ljust(width)}  {text}" for name, text in entries.items()]


def _task(task: Mapping[str, Any]) -> str:
    dropped = f", {task['dropped']} training examples dropped as too long" if task["dropped"] else ""
    if task["dropped_records"]:
        dropped += f", {task['dropped_records']} faulty records left out"
    counts = f"{task['train']} train, {task['test']} test, longest prompt {task['longest_prompt']} tokens"
    return f"{counts}{dropped}; judged by {task['judged_by']}"


def _suite(suite: Mapping[str, Any]) -> str:
    size = f", {suite['test']} items" if suite["test"] else ""
    return f"{suite['kind']} suite{size}; judged by {suite['judged_by']}"


def _lengths(lengths: Mapping[str, Any]) -> list[str]:
    context = lengths["context"]
    limit = "the model names no longest sequence" if context is None else f"the model's context has {context}"
    longest = f"prompts up to {lengths['max_prompt_length']} tokens"
    if lengths["max_reprompt_length"] is not None:
        longest += f", the teacher's up to {lengths['max_reprompt_length']}"
    return [f"{longest}, completions up to {lengths['max_completion_length']}; {limit}", *lengths["lowered"]]


def _memory(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    purposes = {purpose.replace("_", " "): int(size) for purpose, size in result["memory"].items()}
    total = purposes.pop("total")
    parts = ", ".join(f"{purpose} {decimal(size)}" for purpose, size in purposes.items() if size)
    has = "" if machine["memory"] is None else f" of the {machine['memory_of']}'s {decimal(machine['memory'])}"
    return f"about {decimal(total)}{has} ({parts})"


def _disk(result: Mapping[str, Any]) -> str:
    disk, free = result["disk"], result["machine"]["free_disk"]
    stages = "1 stage" if disk["stages"] == 1 else f"{disk['stages']} stages"
    return (
        f"about {decimal(disk['total'])} of {decimal(free)} free (up to {disk['checkpoints']} checkpoints of "
        f"{decimal(disk['checkpoint'])}, and a model of {decimal(disk['stage'])} for each of {stages})"
    )


def _time(time: Mapping[str, Any]) -> str:
    parts = ", ".join(f"{name} {seconds(time[name])}" for name in ("sampling", "training", "evaluations"))
    return f"about {seconds(time['total'])} ({parts}; {seconds(time['step'])} per optimizer step)"


def _preview(example: Mapping[str, Any]) -> list[str]:
    target = "".join(
        part["text"] if part["loss"] == "loss" else f"⟦{part['loss']}: {part['text']}⟧" for part in example["target"]
    )
    tokens = sum(part["tokens"] for part in example["target"])
    with_loss = sum(part["tokens"] for part in example["target"] if part["loss"] == "loss")
    count = f"{with_loss} of {tokens} tokens have a loss"
    source = "the demonstration" if example["source"] == "demonstration" else "a sample of the model"
    if not example["has_signal"]:
        count = "this one has no signal"
    blocks = {f"prompt of {example['example']}": example["prompt"]}
    if example["teacher_prompt"] is not None:
        blocks["the teacher's prompt"] = example["teacher_prompt"]
    blocks[f"target: {source}; {count}"] = target
    return [line for title, text in blocks.items() for line in (f"{2 * INDENT}{title}", *_block(text))]


def _block(text: str) -> list[str]:
    """A text as it is, with a bar at the start of each line, or a broken one where a long line goes on."""
    wrap = textwrap.TextWrapper(WIDEST, drop_whitespace=False, expand_tabs=False, replace_whitespace=False)
    lines = []
    for line in text.replace("\r", "␍").split("\n"):  # a terminal would write what follows over the line
        first, *others = wrap.wrap(line) or [""]
        lines += [f"| {first}", *(f"¦ {other}" for other in others)]
    if len(lines) > MOST_LINES:
        head, tail = MOST_LINES * 2 // 3, MOST_LINES // 3
        lines = [*lines[:head], f"| … {len(lines) - head - tail} lines …", *lines[-tail:]]
    return [3 * INDENT + line for line in lines]

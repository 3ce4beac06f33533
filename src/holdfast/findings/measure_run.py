"""The record of a finished run: its summary's numbers, and the style of sampled answers. Needs torch."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from holdfast.config.load import load_kept_config
from holdfast.config.settings import ModelSettings, RunConfig
from holdfast.data.example import Example
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Task
from holdfast.findings.arm import TUNING_WORLDS, ClaimArm
from holdfast.findings.record import VERSION
from holdfast.lab.style import forms_by_beginning, style_of
from holdfast.lab.tasks import lab_suite, lab_task
from holdfast.lab.world import HEADED_TASKS
from holdfast.measure.scores import mean
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.sampling.draws import Request
from holdfast.sampling.sampler import Sampler
from holdfast.store.run_directory import RunDirectory
from holdfast.summary.read import read_summary
from holdfast.tasks.load import load_stream

STYLED = 96
"""Prompts of each kind of which one sampled answer shows the style."""

FIELDS: Mapping[str, Sequence[str]] = {
    "score": ("mean",),
    "n": ("n",),
    "nll": ("nll",),
    "kl": ("kl_on_demonstrations",),
    "kl_new": ("kl_to_base",),
    "probability": ("forced", "probability"),
    "forced_nll": ("forced", "nll"),
    "truncated": ("truncated",),
    "ece": ("calibration", "ece"),
}
"""A record's numbers of a set, with their places in the summary."""


def record_of(arm: ClaimArm, world: int, rate: float, directory: RunDirectory, commit: str | None) -> dict[str, Any]:
    """Everything that is kept of a finished run.

    Tuning runs have no style. Streams that do without have none either.

    Args:
        rate: the learning rate that it was run with.
        commit: of the code that completed it.
    """
    summary = read_summary(directory.summary)
    config = load_kept_config(directory.config, RunConfig)
    tasks, _ = load_stream(config)
    stages = []
    for stage, evaluation in enumerate(summary["evaluations"]):
        sets = {name: _numbers(values) for name, values in evaluation["scores"].items()}
        entry: dict[str, Any] = {"sets": sets}
        if arm.stream.is_styled and world not in TUNING_WORLDS:
            entry["style"] = _style_after(directory, stage, tasks, world)
        drift = [each["overall"]["relative_norm"] for each in summary["drift"] if each["stage"] == stage]
        stages.append(entry | ({"drift": _short(drift[0])} if drift else {}))
    metrics = list(directory.records("metrics.jsonl"))
    budget = summary["budget"]
    names = ("optimizer_steps", "prompts", "completions", "generated_tokens", "trained_tokens")
    return {
        "version": VERSION,
        "arm": arm.label,
        "stream": arm.stream.name,
        "world": world,
        "rate": rate,
        "status": summary["status"],
        "tasks": list(summary["order"]),
        "suites": [each["name"] for each in summary["sets"] if each["kind"] == "retention"],
        "stages": stages,
        "curve": _curve(summary, metrics),
        "spent": {name: budget[name] for name in names},
        "reward": [_short(each["reward"]) for each in metrics if each.get("reward") is not None],
        "guard": sorted({each["rule"] for each in summary.get("decisions") or []}),
        "seconds": {name: round(value, 1) for name, value in budget["seconds"].items()},
        "commit": commit,
        "extra": {} if arm.extra is None else dict(arm.extra(directory.path)),
    }


def _style_after(directory: RunDirectory, stage: int, tasks: Sequence[Task], world: int) -> Mapping[str, Any]:
    if stage == 0:
        return _style_of_base(tasks[0].name, world)
    return styles(load_policy(ModelSettings(path=str(directory.model(stage)))), tasks[stage - 1], world)


@cache
def _style_of_base(task: str, world: int) -> Mapping[str, Any]:
    """All runs of a world that begin with the same task share it: what an arm changes is never in its test prompts."""
    return styles(load_policy(ModelSettings()), lab_task(task, world), world)


def styles(policy: Policy, task: Task, world: int) -> dict[str, Any]:
    """The style and success of answers sampled at temperature 1: on test prompts of a task (`new`), and under headers
    that no task uses (`old`). Empty for tasks without a voice."""
    if task.name not in HEADED_TASKS:
        return {}
    suite = lab_suite("instruction-format", world)
    return {
        "new": _styled(policy, task.test[:STYLED], task.verify, world),
        "old": _styled(policy, suite.test[:STYLED], suite.verify, world),
    }


def _styled(policy: Policy, examples: Sequence[Example], verify: Any, world: int) -> dict[str, float]:
    prompts = [policy.chat_format.encode_example(each) for each in examples]
    requests = [Request(ids, seed=derive_seed(world, "style", i), temperature=1.0) for i, ids in enumerate(prompts)]
    completions = Sampler(policy).generate(requests, max_new_tokens=56, batch_tokens=65536)
    texts = [policy.chat_format.content(completion.ids) for completion in completions]
    forms = [forms_by_beginning()[str(example.gen_prefix)] for example in examples]
    style = style_of(list(zip(texts, forms, strict=True)))
    success = mean(verify(example, text).reward for example, text in zip(examples, texts, strict=True)) or 0.0
    names = ("tics", "preambles", "artifacts", "main_form", "no_form")
    return {name: _short(getattr(style, name)) for name in names} | {"success": _short(success)}


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {}
    for name, path in FIELDS.items():
        value: Any = values
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            numbers[name] = value if isinstance(value, int) else _short(value)
    return numbers


def _curve(summary: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Probes of the first stage with the tokens spent until then; scores as shares."""
    task = summary["order"][0]
    retained = [each["name"] for each in summary["sets"] if each["kind"] == "retention"]
    points = []
    for probe in summary["probes"]:
        if probe["stage"] != 1:
            continue
        before = [each for each in metrics if each["stage"] == 1 and each["step"] <= probe["step"]]
        tokens = sum((each.get("trained_tokens") or 0) + (each.get("generated_tokens") or 0) for each in before)
        suites = mean(probe["scores"][name] for name in retained if name in probe["scores"])
        points.append(
            {
                "step": probe["step"],
                "tokens": tokens,
                "task": probe["scores"].get(task),
                "suites": None if suites is None else _short(suites),
            }
        )
    return points


def _short(value: float) -> float:
    """Five digits are more than any interval needs."""
    return float(f"{value:.5g}")

"""All checks of a run, in one result of plain data."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from holdfast.config.settings import RunConfig
from holdfast.evaluation.demonstration_distance import demonstration_distances
from holdfast.model.context_length import longest_reprompt, lowered_lengths
from holdfast.recipes.base.recipe import Recipe
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.budget import warmup_problems
from holdfast.stream.check.answers import answer_problems
from holdfast.stream.check.disk import disk_estimate
from holdfast.stream.check.duration import time_estimate
from holdfast.stream.check.machine import Machine
from holdfast.stream.check.memory import memory_estimate
from holdfast.stream.check.preview import preview
from holdfast.stream.check.rewards import check_rewards, learns_from_rewards
from holdfast.stream.check.sets import leaks, shared_sources, suite_facts, task_facts
from holdfast.stream.check.teacher import check_teacher
from holdfast.stream.check.templates import try_templates
from holdfast.stream.check.trial import Trial, try_batches
from holdfast.stream.run import Run
from holdfast.tasks.given import NOTHING_GIVEN, GivenSets


def check_run(
    config: RunConfig, *, items: int, directory: Path | None = None, given: GivenSets = NOTHING_GIVEN
) -> dict[str, Any]:
    """Load everything that a run would load, and check it. No weight moves, and nothing is written.

    Args:
        items: training prompts of each task that the model samples on, and that teacher and student are compared on.
        directory: the run directory; its disk's free space counts. Default: the working directory.
        given: the tasks and suites that the configuration only names.

    Returns:
        "tasks", "suites": sizes, dropped examples, the longest prompt in tokens, columns that nothing reads, and who
        judges each set.
        "leaks": sets whose items stand in training data, with a "sentence" each.
        "lengths": the longest prompts and completion, the model's "context", and what was "lowered" to fit it.
        "chat_template": what the model's chat template does with the data, in sentences.
        "preview": one example of each task as the model sees it; see `Preview`.
        "teacher": a `TeacherCheck` of each task as plain data, with its "sentence". It is missing for recipes without a
        teacher, and for recipes whose teacher only anchors the student.
        "demonstrations": a `DemonstrationDistance` of each task with demonstrations as plain data, with its "sentence".
        "templates": a `TemplateTrial` of each judged task as plain data, with its "sentence". It is missing for recipes
        that show no demonstration by a template.
        "rewards": a `RewardCheck` of each task as plain data, with its "sentence". It is missing for recipes that do
        not learn from rewards.
        "memory": estimated bytes at the peak of training by purpose, and their "total".
        "disk": see `disk_estimate`. "time": see `time_estimate`. "machine": see `Machine`.
        "warnings": everything that is worth a second look, one line each.

    Raises:
        HoldfastError: the first problem that would stop a run.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        run = Run(config, RunDirectory(directory or "."), given=given)
        run.prepare()
        results = _checked(run, config, items, directory or Path())
    said = [str(each.message) for each in caught]
    results["warnings"] = list(dict.fromkeys([*said, *_problems(run, results)]))
    results.pop("answers")
    return results


def _checked(run: Run, config: RunConfig, items: int, directory: Path) -> dict[str, Any]:
    before, config = config, run.config
    is_taught = config.recipe.is_taught()
    needed = items if is_taught or learns_from_rewards(config.recipe) else 1
    trials = [try_batches(run, number, needed) for number in range(1, len(run.tasks) + 1)]
    results: dict[str, Any] = {
        "tasks": [task_facts(task, run.collector) for task in run.tasks],
        "suites": [suite_facts(suite) for suite in run.suites],
        "leaks": leaks(run.tasks, run.suites),
        "lengths": _lengths(run, before),
        "chat_template": run.policy.chat_format.template.remarks(),
        "preview": [asdict(preview(trial, run.policy)) for trial in trials],
        "answers": [problem for trial in trials for problem in answer_problems(run, trial)],
    }
    distances = demonstration_distances(run.evaluator, run.tasks, config.eval.demonstration_items)
    results["demonstrations"] = [each.as_json() for each in distances]
    templates = [tried for trial in trials if (tried := try_templates(run, trial)) is not None]
    if templates:
        results["templates"] = [asdict(each) | {"sentence": each.sentence()} for each in templates]
    if is_taught:
        taught = [check_teacher(run, trial) for trial in trials]
        results["teacher"] = [asdict(each) | {"sentence": each.sentence()} for each in taught]
    if learns_from_rewards(config.recipe):
        results["rewards"] = _rewards(trials)
    return results | {
        "memory": memory_estimate(config, run.policy, run.teacher, has_base=run.base is not None),
        "disk": disk_estimate(config, run.policy, run.teacher),
        "time": time_estimate(run, trials),
        "machine": asdict(Machine.of(run.policy.device, directory)),
    }


def _lengths(run: Run, before: RunConfig) -> dict[str, Any]:
    """The lengths that are used.

    Args:
        before: the configuration as it was given.
    """
    train, context = run.config.train, run.policy.context_length
    lowered, reprompt = lowered_lengths(before.train, train, context), longest_reprompt(run.policy, train)
    room = train.max_prompt_length + train.max_completion_length
    if run.teacher is not None and train.max_reprompt_length is None and reprompt < room:
        lowered.append(
            f"train.max_reprompt_length is {reprompt} instead of {room}: the model's context has {context} tokens"
        )
    return {
        "context": context,
        "max_prompt_length": train.max_prompt_length,
        "max_completion_length": train.max_completion_length,
        "max_reprompt_length": reprompt if run.teacher is not None else None,
        "lowered": lowered,
    }


def _rewards(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    checks = [check for trial in trials if (check := check_rewards(trial)) is not None]
    return [asdict(check) | {"sentence": check.sentence(), "is_problem": check.is_problem} for check in checks]


def _imitates(recipe: Recipe) -> bool:
    """Whether a recipe trains on demonstrations as they are."""
    rollouts = recipe.rollout_spec()
    return rollouts.with_demonstration or (not rollouts.is_sampled and rollouts.rewriting is None)


def _problems(run: Run, results: Mapping[str, Any]) -> list[str]:
    """What the checks have found, without what a run would warn of anyway."""
    machine, memory, disk = results["machine"], results["memory"], results["disk"]
    problems = warmup_problems(run.config.train, run.steps)
    # A few words in a row may be chance, so they are a finding and no warning.
    problems += [each["sentence"] for each in results["leaks"] if each["exact"]]
    found = {(each["set"], each["task"]) for each in results["leaks"] if each["exact"]}
    problems += [
        f"{name} is read from the training data of {task}; name another file, so that it is a test"
        for name, task in shared_sources(run.config)
        if (name, task) not in found
    ]
    for task in results["tasks"]:
        if task["unread_columns"]:
            problems.append(f"{task['name']}: nothing reads the columns {', '.join(task['unread_columns'])}")
    problems += results["answers"]
    if _imitates(run.config.recipe):
        problems += [each["sentence"] for each in results["demonstrations"] if each["is_far"]]
    problems += [each["sentence"] for each in results.get("templates", ()) if each["proposed"] is not None]
    problems += [each["sentence"] for each in results.get("teacher", ()) if each["verdict"] != "better"]
    problems += [each["sentence"] for each in results.get("rewards", ()) if each["is_problem"]]
    if machine["memory"] is not None and memory["total"] > machine["memory"]:
        problems.append(
            f"training needs more memory than this {machine['memory_of']} has; lower train.micro_batch_tokens, use "
            "model.lora, or a larger machine"
        )
    if disk["total"] > machine["free_disk"]:
        problems.append("the run needs more disk space than is free; free some, or set another output_dir")
    return problems

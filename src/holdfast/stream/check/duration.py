"""Estimates how long a run takes, from steps and answers that are really timed. No weight moves."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import torch

from holdfast.config.settings import EvalSettings, RunConfig
from holdfast.data.rows import Row
from holdfast.data.task import Suite, Task, all_sets
from holdfast.model.policy import Policy
from holdfast.recipes.parts.objective import Objective
from holdfast.stream.check.trial import Trial
from holdfast.stream.run import Run
from holdfast.tasks.lm_eval import LmEvalSuite
from holdfast.train.step import StageTrainer

TIMED_ITEMS = 16
"""Items of each set whose answers are timed."""

LONG_STEP = 10.0
"""Seconds. A shorter step is timed a second time, because the first one also warms up."""

OPTIMIZER_SAMPLE = 2**22
"""Weights of the stand-in that AdamW is timed on."""


def time_estimate(run: Run, trials: Sequence[Trial]) -> dict[str, float]:
    """Estimated seconds of a run.

    Returns:
        "sampling": for the rollout batches of all steps, and for rewriting. "training": for all optimizer steps.
        "evaluations": for answers before the first stage, after each stage and at probes; suites of
        lm-evaluation-harness are not counted. "step": of a mean step with its share of the sampling. "total": of the
        run.
    """
    steps = list(run.steps)
    sampling = training = 0.0
    optimizer = _optimizer_seconds(run.policy)
    for number, (trial, taken) in enumerate(zip(trials, steps, strict=True), 1):
        sampling += _sampling_seconds(run, trial, number, taken) + _rewriting_seconds(run, trial.task)
        step = _step_seconds(run, trial.recipe.objective(), trial.batch) * _replay_factor(run, trial, number)
        training += taken * (step + optimizer)
    evaluations = _evaluation_seconds(run, steps)
    return {
        "step": (sampling + training) / sum(steps),
        "sampling": sampling,
        "training": training,
        "evaluations": evaluations,
        "total": sampling + training + evaluations,
    }


def _replay_factor(run: Run, trial: Trial, number: int) -> float:
    """How many more rows a step of a stage has than the batch of its trial, in which only a file is replayed.

    Args:
        number: the stage, from 1.
    """
    own = sum(not row.replayed for row in trial.batch)
    return own * (1 + run.config.recipe.rollout_spec().replayed(is_first=number == 1)) / len(trial.batch)


def _sampling_seconds(run: Run, trial: Trial, number: int, steps: int) -> float:
    """Seconds for the rollout batches of a stage.

    Args:
        number: the stage, from 1.
        steps: its optimizer steps.
    """
    spec = run.config.recipe.rollout_spec()
    share = spec.replayed(is_first=number == 1)
    batches = steps / spec.num_iterations
    if not share or spec.replay_source == "own":
        return batches * min(trial.seconds) * (1 + share)
    # Only replayed prompts are sampled, so the first batch that has some is timed.
    pool = run.collector.pool
    first = next(batch for batch in count() if pool.num_replayed(batch + 1, share))
    started = time.perf_counter()
    run.collector.collect(trial.task, number, first, trial.recipe)
    per_prompt = (time.perf_counter() - started) / pool.num_replayed(first + 1, share)
    return per_prompt * batches * share * pool.per_batch


def _rewriting_seconds(run: Run, task: Task) -> float:
    """Seconds for the rewriting of a task's demonstrations, if the recipe trains on such, from the first ones."""
    if run.config.recipe.rollout_spec().rewriting is None:
        return 0.0
    started = time.perf_counter()
    tried = run.collector.rewrite(task, TIMED_ITEMS)
    return (time.perf_counter() - started) / len(tried) * len(run.collector.pool.of[task.name])


def _step_seconds(run: Run, objective: Objective, rows: Sequence[Row]) -> float:
    """Seconds of a forward and a backward pass over a batch. Gradients are dropped, so nothing changes."""
    trainer = StageTrainer(run.policy, run.teacher, run.base, objective, run.config.train)
    trainer.poll = run.learner.poll
    # Without a success yet, no row may have a signal; later ones will.
    if not any(row.has_signal for row in rows):
        rows = [replace(row, ce=1.0, excluded=False) for row in rows]
    several = run.config.recipe.rollout_spec().num_iterations > 1
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        try:
            trainer.forward_backward(rows, where="the timed step of check", more=several)
            _wait(run.policy)
        finally:
            trainer.forget()
            trainer.optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - started
        if seconds > LONG_STEP:
            break
    return seconds


def _optimizer_seconds(policy: Policy) -> float:
    """Seconds of one update of AdamW, from one on a stand-in: it has its own weights, of the same kind."""
    trained = list(policy.named_trainable().values())
    count = sum(parameter.numel() for parameter in trained)
    if not count:
        return 0.0
    size = min(count, OPTIMIZER_SAMPLE)
    weight = torch.nn.Parameter(torch.zeros(size, dtype=trained[0].dtype, device=policy.device))
    weight.grad = torch.zeros_like(weight)
    optimizer = torch.optim.AdamW([weight])
    optimizer.step()  # allocates its averages
    _wait(policy)
    started = time.perf_counter()
    optimizer.step()
    _wait(policy)
    return (time.perf_counter() - started) * count / size


def _evaluation_seconds(run: Run, steps: Sequence[int]) -> float:
    """Seconds of all evaluations and probes, from the first items of each set.

    Args:
        steps: optimizer steps of each stage.
    """
    config, evaluator = run.config, run.evaluator
    whole = probe = 0.0
    for each in all_sets(run.tasks, run.suites):
        if isinstance(each, LmEvalSuite):
            continue
        items = evaluator.items(each)
        timed = items[:TIMED_ITEMS]
        started = time.perf_counter()
        evaluator.answer([(each, timed)])
        per_item = (time.perf_counter() - started) / len(timed)
        whole += per_item * (len(items) + _compared(config, each, len(items)) + _samples(config, each, len(items)))
        if isinstance(each, Task) or each.kind == "retention":
            probe += per_item * min(len(items), config.eval.probe_items)
    return whole * (len(steps) + 1) + probe * sum(_probes(config.eval, each) for each in steps)


def _probes(settings: EvalSettings, steps: int) -> int:
    """Probes of a stage: at their spacing, and in between if its task's score rises from 0 to 1."""
    if not settings.probe_steps:
        return 0
    between = round(1 / settings.probe_gap) if settings.probe_gap else 0
    return min(steps, steps // settings.probe_steps + between)


def _compared(config: RunConfig, each: Task | Suite, items: int) -> int:
    """How many answers of a set are sampled besides, to compare the model with the base."""
    if not config.eval.kl_items or (isinstance(each, Suite) and each.kind != "retention"):
        return 0
    compared = min(config.eval.kl_items, config.eval.response_items)
    of_base = config.eval.kl_items if isinstance(each, Task) else compared
    return min(items, of_base) + min(items, compared)


def _samples(config: RunConfig, each: Task | Suite, items: int) -> int:
    """How many answers of a set are sampled besides, for pass@k."""
    settings = config.eval.pass_at_k
    return items * settings.samples if settings is not None and each.is_judged else 0


def _wait(policy: Policy) -> None:
    """Wait until the device has done what it was asked to do."""
    if policy.device.type == "cuda":
        torch.cuda.synchronize(policy.device)

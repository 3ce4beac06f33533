"""Whether the answers fit the settings: enough of their tokens have a loss, and they end before the limit."""

from collections.abc import Sequence
from statistics import median

from holdfast.measure.chance import are_nearly_all_the_same, most_frequent
from holdfast.stream.check.trial import Trial
from holdfast.stream.run import Run

LARGE_SKIP = 0.25
"""Share of a typical answer's tokens from which skipped tokens are warned of."""

MANY_CUT = 0.2
"""Share of answers from which answers that are cut off are warned of."""


def answer_problems(run: Run, trial: Trial) -> list[str]:
    """What is wrong with the lengths of a task's answers, one line each."""
    demonstrations = [len(ids) for ids in run.collector.demonstrations(trial.task)]
    samples = [row for rows in trial.samples() for row in rows] or [row for row in trial.batch if row.is_sampled]
    problems = _skipped(trial, demonstrations, [len(row.own_ids()) for row in samples])
    limit, name = run.config.train.max_completion_length, trial.task.name
    long = sum(length > limit for length in demonstrations)
    if long and trial.task.episodes is None:
        problems.append(
            f"{name}: {long} of {len(demonstrations)} demonstrations are longer than train.max_completion_length "
            f"{limit}, so the model is stopped before it can answer like them; raise it to {max(demonstrations)}"
        )
    problems += _same_answers(trial)
    cut = [row for row in samples if row.truncated]
    if samples and len(cut) >= MANY_CUT * len(samples):
        thinking = sum("<think>" in row.completion and "</think>" not in row.completion for row in cut)
        inside = f", {thinking} of them inside their thoughts" if thinking else ""
        what = "max_turns or train.max_completion_length" if trial.task.episodes else "train.max_completion_length"
        problems.append(
            f"{name}: {len(cut)} of {len(samples)} samples are cut off at {what}{inside}; raise it, or expect the "
            "model to learn from unfinished answers"
        )
    return problems


def _same_answers(trial: Trial) -> list[str]:
    """Warn if the samples to different prompts nearly all say the same, and that is mostly wrong."""
    samples = [(row, row.verdict) for rows in trial.samples() for row in rows if row.verdict is not None]
    most = most_frequent([row.completion if verdict.answer is None else verdict.answer for row, verdict in samples])
    score = sum(verdict.reward for _, verdict in samples) / max(1, len(samples))
    if most is None or not are_nearly_all_the_same(most.count, len(samples), score):
        return []
    return [
        f"{trial.task.name}: {most.count} of {len(samples)} samples say {most.answer!r}, and their mean reward is "
        f"{score:.2f}; the model may not read the prompt, so look at the examples above and at the chat template"
    ]


def _skipped(trial: Trial, demonstrations: Sequence[int], samples: Sequence[int]) -> list[str]:
    """Warn if a good part of an answer is skipped.

    The shorter of the typical demonstration and the typical sample counts: training makes samples like demonstrations.
    """
    skip = max((row.skip_tokens for row in trial.batch), default=0)
    lengths = [each for each in (demonstrations, samples) if each]
    if not skip or not lengths:
        return []
    typical = min(lengths, key=median)
    share = min(1.0, skip / max(1.0, median(typical)))
    if share < LARGE_SKIP:
        return []
    whole = sum(length <= skip for length in typical)
    lost = f"; {whole} of {len(typical)} answers lose all of them" if whole else ""
    return [
        f"{trial.task.name}: the first {skip} tokens of an answer have no loss, and a typical answer has "
        f"{median(typical):g}{lost}. Lower the recipe's num_loss_tokens_to_skip"
    ]

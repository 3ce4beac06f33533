"""Which rules of the guard had data in a run. A rule without data is "not measured": it has not found all well."""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.guard.guard import Guard
from holdfast.guard.messages import NEEDS
from holdfast.guard.rules import RULES
from holdfast.guard.settings import GuardSettings
from holdfast.measure.scores import Json, mean, score
from holdfast.summary.inputs import JsonRecord, RunLogs


def stage_end_record(
    evaluation: Mapping[str, Any], base: Mapping[str, Any], suites: Sequence[str]
) -> tuple[Json, dict[str, float], dict[str, int]]:
    """What the guard sees of an evaluation: arguments of `Guard.see_stage_end`, apart from the step.

    Args:
        evaluation: with `stage`, `task` and `scores`.
        base: the same, of before the first stage.
        suites: the retention suites.
    """
    reference = {name: value for name in suites if (value := score(base, name)) is not None}
    scores = {name: value for name in reference if (value := score(evaluation, name)) is not None}
    items = {name: int(evaluation["scores"][name]["n"]) for name in scores}
    kl = mean(value for name in evaluation["scores"] if (value := score(evaluation, name, "kl_to_base")) is not None)
    record = {"stage": evaluation["stage"], "task": evaluation["task"] or "", "scores": scores, "kl_to_base": kl}
    return record, reference, items


def guard_rules(
    guard: JsonRecord | None,
    logs: RunLogs,
    evaluations: Sequence[JsonRecord],
    sets: Sequence[JsonRecord],
    asked_of_answers: Sequence[str] = (),
) -> list[Json]:
    """The `guard_rules` block of a run's summary. Empty if the guard's settings are not known.

    A new guard sees the logs again, because only the rules themselves know what they need.

    Args:
        guard: the guard's settings.
        evaluations: of the summary.
        sets: `name` and `kind` of everything evaluated.
        asked_of_answers: rules that were also asked about the answers to probes.
    """
    if guard is None:
        return []
    settings = GuardSettings.model_validate(guard)
    suites = [each["name"] for each in sets if each["kind"] == "retention"]
    base = evaluations[0] if evaluations else {"scores": {}}
    first = {name: value for name in suites if (value := score(base, name)) is not None}
    replayed = Guard(settings, reference=first)
    replayed.replay(logs.metrics, logs.probes)
    for evaluation in evaluations[1:]:
        replayed.see_stage_end(*stage_end_record(evaluation, base, suites))
    informed, fired = replayed.informed | set(asked_of_answers), {decision["rule"] for decision in logs.decisions}

    def status(name: str) -> str:
        own = getattr(settings.rules, name)
        if name in fired:
            return "fired"
        if settings.mode == "off" or not own.action or (name == "kl_budget" and own.budget is None):
            return "off"
        return "quiet" if name in informed else "not measured"

    return [{"rule": name, "status": status(name), "needs": NEEDS[name]} for name in RULES]

"""The streams in which claims are tested: which tasks, which suites, how long, and what is measured. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SUITES = ("old-facts", "old-skills", "instruction-format", "in-context")
"""The old skills of which every run measures how much is lost."""


@dataclass(frozen=True)
class Stream:
    """Tasks in order, with everything that its arms share.

    Args:
        name: in tables, and in the names of runs.
        about: what it is for, in words.
        tasks: names of lab tasks.
        suites: names of lab suites.
        settings: further settings, by dotted keys.
        quick: settings that the quick form changes.
        is_styled: whether the style of sampled answers is measured.
        for_learning: whether its claims are about learning alone. If so, the new task's score chooses the rates.
    """

    name: str
    about: str
    tasks: Sequence[str]
    suites: Sequence[str] = SUITES
    settings: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    is_styled: bool = True
    for_learning: bool = False


SHARED: Mapping[str, Any] = {
    "model": {"path": "lab"},
    "train": {
        "steps": 60,
        "prompts_per_step": 12,
        "lr_scheduler_type": "constant",
        "warmup_steps": 3,
        "max_prompt_length": 200,
        "max_completion_length": 56,
        "save_steps": 100_000,
    },
    "eval": {
        "max_items": 96,
        "kl_items": 32,
        "response_items": 0,
        "drift_weights": 1,
        "probe_steps": 20,
        "probe_gap": 0.0,
        "probe_items": 48,
        "samples": 0,
    },
}
"""What all streams share. The learning rate is chosen for each arm; see `holdfast.findings.rates`."""

FACTS = Stream("facts", "one task: 32 new facts", ["facts"])

TOOLS = Stream("tools", "one task: the tools of 40 new verbs", ["tools"])

_SCORES: Mapping[str, Any] = {
    "train.steps": 40,
    "eval.probe_steps": 0,
    "eval.kl_items": 0,
    "eval.drift_weights": 0,
    "eval.demonstration_items": 0,
}
"""Three stages take long, and claims about them need scores alone."""

SEQUENCE = Stream(
    "sequence",
    "three tasks: facts, tools, then other facts of the same things, a quarter of them contrary to the first",
    ["facts", "tools", "more-facts"],
    settings=_SCORES,
    is_styled=False,
)

REVERSED = Stream(
    "reversed", "the same three tasks in the opposite order", SEQUENCE.tasks[::-1], settings=_SCORES, is_styled=False
)

_PLAIN: Mapping[str, Any] = {"eval.probe_steps": 0, "eval.max_items": 192}
"""Without probes. What recipes differ by is a few points of the new task, so it is asked more items."""

STEPS = Stream("steps", "questions in three steps", ["steps"], (*SUITES, "known-steps"), _PLAIN, for_learning=True)

STEPS_HARD = Stream(
    "steps-hard",
    "questions in four and five steps, of which hardly any sample is right",
    ["steps-hard"],
    (*SUITES, "known-steps"),
    _PLAIN,
    for_learning=True,
)

QUESTS = Stream(
    "quests",
    "quests of several turns, of which hardly any sample succeeds",
    ["quests"],
    (*SUITES, "known-quests"),
    {**_PLAIN, "train.prompts_per_step": 4, "train.steps": 40, "train.max_completion_length": 32},
    for_learning=True,
)

REFUSALS = Stream(
    "refusals",
    "what to refuse, in a second language",
    ["refusals"],
    (*SUITES, "useful-first", "useful-second", "refused-first", "refusals-ood"),
    _PLAIN,
)

SONGS = Stream(
    "songs",
    "songs with forks and locks",
    ["songs"],
    (*SUITES, "any-song"),
    {**_PLAIN, "train.steps": 30, "train.prompts_per_step": 32},
)

"""`holdfast.stream.check.templates`: which template is proposed, and that nothing is proposed by chance."""

from dataclasses import replace
from typing import Any

import pytest

from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig
from holdfast.data.example import Example, Verdict
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.check.templates import (
    TEMPLATES,
    TRIED_ITEMS,
    TemplateTrial,
    TriedTemplate,
    _proposed,
    try_templates,
)
from holdfast.stream.check.trial import Trial, try_batches
from holdfast.stream.run import Run


def prepared(recipe: Any) -> tuple[Run, Trial]:
    config = parse_config(
        {
            "tasks": [{"name": "facts", "lab": "facts", "limit": 32}],
            "suites": [],
            "recipe": recipe,
            "train": {"prompts_per_step": 4, "max_prompt_length": 160, "max_completion_length": 40},
        },
        RunConfig,
    )
    run = Run(config, RunDirectory("unused"))
    run.prepare()
    return run, try_batches(run, 1, 1)


@pytest.fixture(scope="module", params=["sdft", "rewrite_sft", "anchored"])
def lab(request: pytest.FixtureRequest) -> tuple[Run, Trial]:
    """A recipe with a template that the lab's base has never seen: the demonstration comes before the question."""
    return prepared({"name": request.param, "template": "{demonstration}\n{prompt}\n{prompt}"})


def tried(run: Run, trial: Trial, judge: Any) -> TemplateTrial:
    found = try_templates(run, replace(trial, task=replace(trial.task, verifier=judge)))
    assert found is not None
    return found


def test_every_template_is_tried_and_the_present_one_is_first(lab: tuple[Run, Trial]) -> None:
    found = tried(*lab, lambda example, completion: Verdict(0.5))
    assert found.tried[0].template == lab[0].config.recipe.model_dump()["template"]
    assert {each.template for each in found.tried} == set(TEMPLATES.values()) | {found.tried[0].template}
    assert found.items == TRIED_ITEMS
    assert found.seconds > 0


def test_equal_templates_leave_the_present_one(lab: tuple[Run, Trial]) -> None:
    found = tried(*lab, lambda example, completion: Verdict(0.5))
    assert {each.score for each in found.tried} == {0.5}
    assert {each.p for each in found.tried[1:]} == {1.0}
    assert found.proposed is None
    assert "None is shown to be better" in found.sentence()


def test_the_template_that_shows_what_is_right_is_proposed(lab: tuple[Run, Trial]) -> None:
    """Right is what the model writes only if it follows the demonstration; the lab's base follows a bare request."""
    run, trial = lab

    def as_shown(example: Example, completion: str) -> Verdict:
        return Verdict(float(trial.task.verify(example, completion).reward == 1))

    found = tried(run, trial, as_shown)
    scores = {each.name: each.score for each in found.tried}
    assert found.proposed is not None
    assert found.proposed.score == max(score for score in scores.values() if score is not None)
    assert found.proposed.p is not None
    assert found.proposed.p < 0.05
    assert repr(found.proposed.template) in found.sentence()


def test_a_template_that_is_best_already_is_kept() -> None:
    run, trial = prepared({"name": "rewrite_sft", "template": TEMPLATES["repeat"]})
    found = try_templates(run, trial)
    assert found is not None
    assert found.tried[0].name == "repeat"
    assert found.tried[0].score is not None
    assert found.tried[0].score > 0.9
    assert found.proposed is None


def test_a_template_whose_prompt_is_too_long_is_not_tried(lab: tuple[Run, Trial]) -> None:
    run, trial = lab
    long = "the the " * 60
    task = replace(trial.task, train=[replace(each, demonstration=long) for each in trial.task.train])
    run.collector._encoder.max_reprompt_length, before = 40, run.collector._encoder.max_reprompt_length
    try:
        found = try_templates(run, replace(trial, task=task))
    finally:
        run.collector._encoder.max_reprompt_length = before
    assert found is not None
    assert {each.score for each in found.tried} == {None}
    assert found.proposed is None
    assert "too long" in found.sentence()


def test_the_best_of_those_that_are_shown_to_be_better_is_proposed() -> None:
    """A higher mean that may be chance hides no template that is better for sure."""
    present, noisy, sure, copier = (
        TriedTemplate(name, name, score, copied, p)
        for name, score, copied, p in (
            ("present", 0.2, 0.0, None),
            ("noisy", 0.7, 0.0, 0.06),
            ("sure", 0.6, 0.1, 0.01),
            ("copier", 0.6, 0.9, 0.01),
        )
    )
    assert _proposed([present, noisy, copier, sure]) is sure
    assert _proposed([present, noisy]) is None
    assert (
        _proposed([present, TriedTemplate("worse", "worse", 0.0, 0.0, 0.01), TriedTemplate("long", "long", None)])
        is None
    )


@pytest.mark.parametrize("recipe", ["sft", "grpo"])
def test_recipes_that_show_no_demonstration_have_no_trial(recipe: str) -> None:
    assert try_templates(*prepared(recipe)) is None


def test_a_task_that_nothing_judges_has_no_trial(lab: tuple[Run, Trial]) -> None:
    run, trial = lab
    assert try_templates(run, replace(trial, task=replace(trial.task, verifier=None))) is None

"""`holdfast.rollouts.sources.revisions`: answers that the model revises after a cue, and SD-Zero's two phases."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.batch_metrics import rollout_numbers
from holdfast.data.environment import Episodes
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Row
from holdfast.data.task import Task
from holdfast.errors import ConfigError
from holdfast.model.load import load_policy
from holdfast.recipes import SDZero
from holdfast.recipes.base.needs import require
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Sampler
from holdfast.stream.controls import Controls
from holdfast.train.teacher_refresh import Clock


def _verify(example: Example, completion: str) -> Verdict:
    """A reward that half of all random texts get."""
    return Verdict(float(sum(map(ord, completion)) % 2 == 0))


def _collected(folder: Path, recipe: SDZero, **settings: Any) -> tuple[Collector, list[list[Row]], dict[str, float]]:
    policy = load_policy(ModelSettings(path=str(folder)))
    train = TrainSettings(prompts_per_step=6, max_completion_length=6, **settings)
    made = Collector(policy, Sampler(policy), recipe, train, 0)
    task = Task("t", [Example(f"e{i}", (Message(role="user", content=f"{i} ?"),)) for i in range(6)], [], _verify)
    made.prepare(task)
    groups, numbers = made.collect(task, 1, 0)
    return made, [group.rows for group in groups], numbers


def test_every_answer_is_revised_after_the_cue_of_its_reward(tiny_model: Path) -> None:
    cues_of = {"cue_if_right": "Yes.", "cue_if_wrong": "No!"}
    recipe = SDZero(phase=1, srt_part=2, num_generations=2, revise_right_answers=True, **cues_of)  # type: ignore[arg-type]
    made, groups, numbers = _collected(tiny_model, recipe)
    cues = set()
    for rows in groups:
        answers, revisions = rows[:2], rows[2:]
        assert [row.revised for row in rows] == [False, False, True, True]
        for answer, revision in zip(answers, revisions, strict=True):
            cue = "Yes." if answer.reward else "No!"
            cues.add(cue)
            expected = made.policy.tokenizer(f"{answer.completion}\n\n{cue}\n\n", add_special_tokens=False)["input_ids"]
            assert revision.prompt_ids == [*answer.prompt_ids, *expected]
            assert revision.verdict == _verify(revision.example, revision.completion)
            assert (answer.ce, answer.div) == (0, 0)
            assert (revision.ce, revision.div) == (revision.reward, 0)
    assert len(cues) == 2
    revised = [row for rows in groups for row in rows if row.revised]
    assert numbers["right_revision_fraction"] == sum(row.reward for row in revised) / 12
    again = _collected(tiny_model, recipe)[1]
    assert [[row.completion_ids for row in rows] for rows in again] == [
        [row.completion_ids for row in rows] for rows in groups
    ]


def test_the_logged_reward_is_that_of_first_answers(tiny_model: Path) -> None:
    made, groups, _ = _collected(tiny_model, SDZero(phase=1))
    task = made.pool.tasks["t"]
    metrics = rollout_numbers(made.collect(task, 1, 0)[0])
    assert metrics["reward"] == sum(rows[0].reward for rows in groups) / 6
    assert metrics["completions"] == 6 + sum(not rows[0].reward for rows in groups)


def test_a_corrected_answer_is_one_completion_with_its_cue_and_revision(tiny_model: Path) -> None:
    """Right answers are not revised. The trajectory has the tokens of the revision, and all of them are trained on."""
    made, groups, _ = _collected(tiny_model, SDZero(phase=1, srt_part=1, num_generations=4, cue_if_wrong="No!"))
    corrected = 0
    for rows in groups:
        answers, rest = rows[:4], rows[4:]
        revisions = [row for row in rest if row.is_sampled]
        trajectories = [row for row in rest if not row.is_sampled]
        wrong = [row for row in answers if not row.reward]
        assert len(revisions) == len(wrong)
        pairs = [(a, r) for a, r in zip(wrong, revisions, strict=True) if r.reward]
        for (answer, revision), row in zip(pairs, trajectories, strict=True):
            corrected += 1
            assert row.prompt_ids == answer.prompt_ids
            assert row.completion_ids[-len(revision.completion_ids) :] == revision.completion_ids
            assert [*row.prompt_ids, *row.completion_ids] == [*revision.prompt_ids, *revision.completion_ids]
            assert made.policy.tokenizer.decode(row.completion_ids).startswith(f"{answer.completion}\n\nNo!\n\n")
            assert (row.ce, row.revised, row.is_sampled) == (1.0, True, False)
            assert len(row.loss_positions()) == len(row.completion_ids)
        assert all(row.ce == 0 for row in (*answers, *revisions))
    assert corrected > 0


def test_the_teacher_scores_the_answer_after_answer_and_cue(tiny_model: Path) -> None:
    recipe = SDZero(phase=2)
    made, groups, numbers = _collected(tiny_model, recipe)
    for (row,) in groups:
        cue = recipe.cue_if_right if row.reward else recipe.cue_if_wrong
        expected = made.policy.tokenizer(f"{row.completion}\n\n{cue}\n\n", add_special_tokens=False)["input_ids"]
        assert row.teacher_prompt_ids == [*row.prompt_ids, *expected]
        assert (row.div, row.ce) == (1, 0)
    assert "right_revision_fraction" not in numbers


def test_a_revision_that_does_not_fit_is_left_out_with_a_warning(tiny_model: Path) -> None:
    with pytest.warns(UserWarning, match="go without a revision"):
        _, groups, _ = _collected(tiny_model, SDZero(phase=1, revise_right_answers=True), max_reprompt_length=20)
    assert all(len(rows) == 1 for rows in groups)


def test_the_second_phase_follows_the_first() -> None:
    controls = Controls(SDZero(srt_steps=3), 10, 0)
    phases = [controls.recipe(controls.settings(step)) for step in range(6)]
    assert [recipe.rollouts().revision is not None for recipe in phases] == [True] * 3 + [False] * 3
    assert SDZero(phase=2).controllers() == {}
    assert SDZero().teacher() == TeacherSpec(kind="periodic", first=20, every=0, stage_start="student")
    assert SDZero(sync_every=5).teacher() == TeacherSpec(kind="periodic", first=20, every=5, stage_start="student")
    assert SDZero(phase=2).teacher() == TeacherSpec(kind="frozen", stage_start="student")
    assert SDZero(phase=2, sync_every=5).teacher().every == 5


@pytest.mark.parametrize(
    ("first", "every", "due"),
    [(3, 0, [3]), (3, 2, [3, 5, 7, 9]), (0, 4, [4, 8]), (4, 4, [4, 8])],
)
def test_a_clock_may_have_another_first_interval(first: int, every: int, due: list[int]) -> None:
    clock = Clock(every, first)
    assert [batch for batch in range(1, 11) if clock.due({})] == due[: len([d for d in due if d <= 10])]


def test_a_task_of_several_turns_is_refused() -> None:
    episodes = Episodes(lambda example: None, 3)  # type: ignore[arg-type, return-value]
    example = Example("e", (Message(role="user", content="?"),))
    with pytest.raises(ConfigError, match="'sd_zero' works on answers of one turn, and task 't' has an environment"):
        require(SDZero(), [Task("t", [example], [], None, "", episodes)])


def test_a_revision_is_judged_and_scored_as_an_answer_if_the_prompt_opens_thoughts(
    tiny_model: Path, tmp_path: Path
) -> None:
    """It begins within thoughts, as the first answer does. So the teacher, who sees both, sees no tag twice."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    template = load_policy(ModelSettings(path=str(folder))).tokenizer.chat_template
    opened = f"{template}{{% if add_generation_prompt %}}{{{{ '<think>\\n' }}}}{{% endif %}}"
    (folder / "chat_template.jinja").write_text(opened)
    for phase in (1, 2):
        settings = {"revise_right_answers": True, "srt_part": 2} if phase == 1 else {}
        made, groups, _ = _collected(folder, SDZero(phase=phase, **settings))  # type: ignore[arg-type]
        decode = made.policy.tokenizer.decode
        prompts = [row.prompt_ids for rows in groups for row in rows if row.revised]
        prompts += [row.teacher_prompt_ids or [] for rows in groups for row in rows if row.div]
        assert len(prompts) == 6
        for ids in prompts:
            text = decode(ids)
            # The tiny model closes no thoughts, so its answers are thoughts that the cue goes on with.
            assert text.count("<think>") == 1 + text.count("</think>")
    encode = made.policy.chat_format.encode_prefill
    assert decode(encode("<think>\nhm\n</think>\n\nred\n\nNo!\n\n")) == "hm\n</think>\n\nred\n\nNo!\n\n<think>\n"

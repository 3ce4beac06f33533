"""`holdfast.recipes.parts.controllers`: schedules; also the shown part of a solution, token masks and needs."""

import pytest

from holdfast.data.example import Example, Message
from holdfast.data.rows import Group, Row
from holdfast.data.teacher_prompts import exposed_steps, privileged_text
from holdfast.recipes import SDFT
from holdfast.recipes.base.distillation import TeacherSettings
from holdfast.recipes.parts.controllers import Moment, Ramp, Until
from holdfast.stream.controls import Controls

QUESTION = (Message(role="user", content="Q"),)


@pytest.mark.parametrize(("step", "value"), [(0, 0.25), (75, 0.625), (150, 1.0), (1000, 1.0)])
def test_a_ramp_is_linear_and_then_stays(step: int, value: float) -> None:
    assert Ramp(0.25, 1.0, 150).value(Moment(step, 200, 0)) == pytest.approx(value)
    assert Ramp(0.25, 1.0, 0).value(Moment(step, 200, 0)) == 1.0
    assert Ramp(0.25, 1.0, 0.75, of_stage=True).value(Moment(step, 200, 0)) == pytest.approx(value)


def test_one_is_a_step_or_a_whole_stage() -> None:
    """1 is the whole stage for a ramp in fractions of the stage, and one step for a ramp in steps."""
    assert [Ramp(0.0, 1.0, 1).value(Moment(step, 10, 0)) for step in (0, 1, 5)] == [0, 1, 1]
    whole = Ramp(0.0, 1.0, 1, of_stage=True)
    assert [whole.value(Moment(step, 10, 0)) for step in (0, 1, 5, 10)] == pytest.approx([0, 0.1, 0.5, 1])


def test_a_switch_is_thrown_once() -> None:
    switch = Until(1.0, 0.0, 3)
    assert [switch.value(Moment(step, 9, 0)) for step in (0, 2, 3, 8)] == [1.0, 1.0, 0.0, 0.0]


def test_controllers_set_the_recipes_own_settings() -> None:
    class Ramped(SDFT):
        def controllers(self) -> dict[str, Ramp]:
            return {"temperature": Ramp(1.0, 2.0, 4)}

    controls = Controls(Ramped(), 10, 0, 1)
    settings = controls.settings(2)
    assert settings == {"temperature": 1.5}
    assert controls.recipe(settings).objective().temperature == 1.5
    assert Controls(SDFT(), 10, 0, 1).settings(3) == {}


@pytest.mark.parametrize(
    ("exposure", "keep", "shown"),
    [
        (0.0, False, ""),
        (0.0, True, "c"),
        (0.1, False, "a"),
        (1 / 3, True, "a c"),
        (0.5, False, "a b"),
        (1.0, True, "a b c"),
    ],
)
def test_the_first_steps_of_a_solution_are_shown(exposure: float, keep: bool, shown: str) -> None:
    assert exposed_steps(("a", "b", "c"), exposure, keep_answer=keep) == "\n".join(shown.split())


def test_a_solution_is_shown_if_there_is_nothing_else() -> None:
    assert privileged_text(Example("e", QUESTION, solution=("a", "b"))) == "a\nb"
    assert privileged_text(Example("e", QUESTION, demonstration="d", solution=("a", "b"))) == "d"
    assert Example("e", QUESTION, solution=("a",)).privileges() == {"solution", "privileged_context"}


def test_a_random_mask_follows_from_the_row_and_keeps_the_scale() -> None:
    def masked(seed: int, ratio: float = 0.4) -> list[float]:
        row = Row(Example("e", QUESTION, demonstration="d"), [1], [2] * 4000, seed=seed)
        SDFT(token_mask_ratio=ratio, num_loss_tokens_to_skip=0).annotate([Group(row.example, [row])])
        return row.token_weights or [1.0] * 4000

    assert masked(1) == masked(1) != masked(2)
    assert set(masked(1)) == {0.0, 1 / 0.6}
    assert sum(masked(1)) / 4000 == pytest.approx(1.0, abs=0.05)
    assert set(masked(1, 0.0)) == {1.0}


def test_a_gated_teacher_needs_a_reward() -> None:
    assert SDFT(teacher_kind="gated").required() == {"privileged_context", "reward"}
    assert issubclass(SDFT, TeacherSettings)
    assert SDFT().required() == SDFT.needs

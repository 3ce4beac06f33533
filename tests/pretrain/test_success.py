"""`holdfast.pretrain.success`: the bundled base follows what it is shown, and keeps its own voice where it may."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.config.settings import ModelSettings
from holdfast.lab.tasks import ALL_TASKS
from holdfast.lab.voice import OWN_TIC_RATE
from holdfast.lab.world import HEADED_TASKS
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.pretrain.skills import SKILLS, lab_skills
from holdfast.pretrain.success import PRIVILEGES, Success, before_stages

STORED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "benchmarks" / "results" / "lab_base.json").read_text(encoding="utf-8")
)
"""What the documentation says of the base."""

Key = tuple[str, str]


@pytest.fixture(scope="module")
def base() -> Policy:
    return load_policy(ModelSettings(path="lab"))


@pytest.fixture(scope="module")
def found(base: Policy) -> dict[Key, Success]:
    """In another world than the stored results."""
    return {(each.task, each.shown): each for each in before_stages(base, 24, world=5)}


@pytest.mark.slow
def test_the_base_has_its_skills_as_the_documentation_says(base: Policy) -> None:
    skills = lab_skills(base, 160)
    assert skills.keys() == SKILLS.keys() == STORED.keys() - {"before"}
    for skill, measured in skills.items():
        stored = STORED[skill]
        assert stored["suite"] == measured["suite"]
        assert stored["n"] == 640
        assert min(stored["mean"], measured["mean"]) >= 0.95, skill
        low, high = measured["ci95"]
        assert low <= stored["mean"] <= high, skill


@pytest.mark.slow
def test_success_before_stages_is_what_the_documentation_says(base: Policy) -> None:
    """Of the same world, on the first of the prompts."""
    stored = {(each["task"], each["shown"]): each for each in STORED["before"]}
    again = {(each.task, each.shown): each for each in before_stages(base, 24)}
    assert again.keys() == stored.keys() == {(t, s) for t, each in PRIVILEGES.items() for s in ("nothing", *each)}
    assert set(PRIVILEGES) == set(ALL_TASKS)
    for key, success in again.items():
        low, high = success.ci95
        assert low - 0.05 <= stored[key]["mean"] <= high + 0.05, key
        assert 0 <= stored[key]["ci95"][0] <= stored[key]["mean"] <= stored[key]["ci95"][1] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("task", HEADED_TASKS)
def test_the_base_follows_content_and_takes_over_the_voice_in_part(found: dict[Key, Success], task: str) -> None:
    """Demonstrations all have a preamble here, and a tic in 30%."""
    alone = found[task, "nothing"]
    assert 0.1 <= alone.mean <= 0.5, "by chance, so there is something to reinforce and much to learn"
    assert alone.all_failed < 0.6
    assert alone.style is not None
    assert alone.style.tics == pytest.approx(OWN_TIC_RATE, abs=0.05)
    assert alone.style.preambles < 0.02
    assert alone.style.main_form == pytest.approx(0.8, abs=0.2)
    for shown in PRIVILEGES[task]:
        helped = found[task, shown]
        assert helped.style is not None
        assert helped.mean >= 0.95
        assert helped.all_failed == 0
        assert OWN_TIC_RATE < helped.style.tics < 0.3
        assert helped.style.preambles < 0.15
        assert helped.style.no_form < 0.03


@pytest.mark.slow
def test_what_single_recipes_need_is_there(found: dict[Key, Success]) -> None:
    assert 0.05 <= found["steps", "nothing"].mean <= 0.4
    assert found["steps-hard", "nothing"].all_failed >= 0.4
    for task in ("steps", "steps-hard"):
        assert found[task, "nothing"].mean + 0.1 < found[task, "half of the solution"].mean
        assert min(found[task, "plan"].mean, found[task, "solution"].mean) >= 0.9
    assert found["refusals", "nothing"].mean <= 0.2
    assert found["refusals", "translation"].mean >= 0.8
    assert found["quests", "nothing"].mean <= 0.05
    helped = [found["quests", s].mean for s in ("nothing", "the first action", "the first two", "all actions")]
    assert helped == sorted(helped)
    assert helped[-1] >= 0.9
    assert 0.05 <= found["songs", "nothing"].mean <= 0.3

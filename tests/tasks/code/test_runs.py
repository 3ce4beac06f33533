"""`holdfast.tasks.code.verifier`: whole runs in which answers are programs."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import holdfast
from holdfast.data.example import Example
from holdfast.tasks.code.runner import ProgramRunner
from holdfast.tasks.code.tests import ProgramTest, ProgramTests
from holdfast.tasks.code.verifier import ProgramVerifier
from sandboxes import require_sandbox
from small_runs import write_config


@pytest.mark.slow
def test_a_run_learns_from_programs_and_their_tests(tmp_path: Path) -> None:
    require_sandbox()
    records = [
        {
            "task_id": i,
            "text": f"Add {i}.",
            "code": f"def f(x):\n    return x + {i}",
            "test_list": [f"assert f(1) == {i + 1}"],
        }
        for i in range(6)
    ]
    (tmp_path / "programs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    config: dict[str, Any] = yaml.safe_load(write_config(tmp_path, "sdpo").read_text())
    config["train"] |= {"max_prompt_length": 400, "max_completion_length": 40, "micro_batch_tokens": 2000}
    config["tasks"] = [{"name": "programs", "train": str(tmp_path / "programs.jsonl"), "code": {}}]
    summary = holdfast.run(config, tmp_path / "run")
    assert summary["evaluations"][-1]["scores"]["programs"]["mean"] == 0.0


def test_the_share_of_tests_that_pass_may_be_the_reward() -> None:
    require_sandbox()
    tests = ProgramTests(tuple(ProgramTest("assert", f"assert f({i}) == {i}") for i in range(4)))
    example = Example("a", (), answer=tests.as_json())
    half = "```python\ndef f(x):\n    return x if x < 2 else 0\n```"
    runner = ProgramRunner(seconds=2.0, stops_at_failure=False)
    assert ProgramVerifier(runner, "share")(example, half).reward == 0.5
    assert ProgramVerifier(runner, "all")(example, half).reward == 0.0
    assert ProgramVerifier(runner, "all")(example, "```python\nf = int\n```").reward == 1.0


def test_answers_that_are_judged_together_get_the_verdicts_that_each_gets_alone() -> None:
    require_sandbox()
    tests = ProgramTests((ProgramTest("assert", "assert f(2) == 4"), ProgramTest("assert", "assert f(3) == 6")))
    example = Example("a", (), answer=tests.as_json())
    bodies = ("2 * x", "x + 2", "x / 0", "y")
    answers = [(example, f"```python\ndef f(x):\n    return {body}\n```") for body in bodies] * 3
    verifier = ProgramVerifier(ProgramRunner(seconds=2.0))
    alone = [verifier(*answer) for answer in answers]
    assert [verdict.reward for verdict in alone] == [1.0, 0.0, 0.0, 0.0] * 3
    assert verifier.judge_many(answers, 4) == verifier.judge_many(answers, 1) == alone

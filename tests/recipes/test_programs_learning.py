"""`holdfast.recipes.sft`: the lab's programs are learned, from none that is right to most, as their tests say."""

import re
from pathlib import Path

import pytest

import holdfast
from sandboxes import require_sandbox

PAGE = Path(__file__).parents[2] / "docs" / "lab.md"


@pytest.mark.learning
def test_programs_are_learned_with_the_documentations_configuration(tmp_path: Path) -> None:
    """A judge that takes everything fails before training, and one that takes nothing, or runs nothing, afterwards."""
    require_sandbox()
    found = re.search(r"```yaml\n(# programs\.yaml\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    config = tmp_path / "programs.yaml"
    config.write_text(found[1], encoding="utf-8")
    summary = holdfast.run(config, tmp_path / "run", **{"eval.drift_weights": 0, "eval.kl_items": 0})
    before, after = (each["scores"]["programs"]["mean"] for each in summary["evaluations"])
    print(before, after)
    assert before <= 0.02
    assert after >= 0.4
    judged = [each["completions"][-1] for each in summary["samples"]]
    assert all(each["text"].startswith("```python\n") for each in judged if each["reward"])
    assert any(each["reward"] for each in judged)

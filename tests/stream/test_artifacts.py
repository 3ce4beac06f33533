"""`holdfast.stream.artifacts`: an artifact has grown since the stage began, and demonstrations do not teach it."""

from pathlib import Path

from holdfast.data.example import Example
from holdfast.data.rows import Row
from holdfast.guard import GuardSettings
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.artifacts import CompletionHistory
from holdfast.stream.guard_actions import RunGuard


def _row(ids: list[int], weights: list[float] | None = None) -> Row:
    return Row(Example("a", ()), [1], ids, token_weights=weights)


def test_artifacts_have_grown_and_are_not_in_demonstrations(tmp_path: Path) -> None:
    guard = RunGuard(GuardSettings(mode="act"), RunDirectory(tmp_path), None)
    plain = [[10 + i, 40 + i, 70 + i] for i in range(24)]
    guard.completions.first = plain
    guard.completions.latest = [[[7, 7, 8, *ids] for ids in plain]]
    demonstrations = [[8, *ids] for ids in plain]
    did = guard.apply(["mask_tokens"], demonstrations, rolled_back=False)
    assert did == [f"{len(guard.changes.masked)} artifact n-grams carry no loss"]
    masked = {unit for ngram in guard.changes.masked for unit in ngram}
    assert 7 in masked
    assert (8,) not in guard.changes.masked
    row = _row([7, 7, 8, 50], [1.0, 2.0, 3.0, 4.0])
    guard.mask([row])
    assert row.token_weights is not None
    assert row.token_weights[0] == row.token_weights[1] == 0
    assert row.token_weights[3] == 4
    untouched = _row([50, 51])
    guard.mask([untouched])
    assert untouched.token_weights is None


def test_only_what_the_model_wrote_can_be_an_artifact() -> None:
    history = CompletionHistory(window=4)
    examples = [Example(name, ()) for name in "ab"]
    rows = [Row(examples[0], [1], [5, 6], sampled_logprobs=[0.0, 0.0])] * 3
    rows += [Row(examples[1], [1], [7, 8, 9], sampled_logprobs=[0.0] * 3, tool_mask=[1, 0, 1])]
    rows += [Row(examples[1], [1], [3, 3])]  # a demonstration
    earlier = Example("an earlier task's", ())
    rows += [Row(earlier, [1], [4, 4], sampled_logprobs=[0.0, 0.0], replayed=True)]
    history.add(rows)
    assert history.latest == [[[5, 6], [7, 9]]]

"""`benchmarks.judging`: both ways give the same verdicts, on a few answers."""

import pytest

from benchmarks.judging import row


@pytest.mark.parametrize("workers", [None, 2])
def test_a_row(workers: int | None) -> None:
    found = row("no time", workers, 10)
    assert found["processes"] == (workers or "here")
    assert found["seconds"] > 0

"""`benchmarks.engine`: its arithmetic and this project's side, on toy shapes; TRL's side if TRL is installed."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine import __main__ as command_line
from benchmarks.engine import generation, objective, step
from benchmarks.engine.measure import (
    BenchmarkError,
    Measured,
    Worker,
    alternate,
    peak_bytes,
    ratio,
    relative_difference,
)
from benchmarks.engine.models import SHAPES, Workload, draw_tokens, write_folder
from benchmarks.engine.peaks import head_products, step_operations
from benchmarks.engine.table import exponent, fit_scaling
from holdfast.train.step import StageTrainer

TOY = SHAPES["toy"]
ROWS = Workload(prompts=2, generations=3, new_tokens=9, prompt_tokens=16, teacher_tokens=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmark") / "toy"
    write_folder(TOY, path)
    return path


def workload_of(method: str) -> Workload:
    return replace(ROWS, active=2, teacher_prompts_per_group=2) if method == "sdpo_topk" else ROWS


def test_shapes_have_the_sizes_they_are_named_after() -> None:
    assert SHAPES["11.5m"].weights == pytest.approx(11.5e6, rel=0.01)
    assert SHAPES["qwen3-0.6b"].weights == pytest.approx(0.596e9, rel=0.01)
    assert SHAPES["qwen3-1.7b"].weights == pytest.approx(1.72e9, rel=0.01)


def test_a_folder_has_as_many_weights_as_its_shape_says(folder: Path) -> None:
    assert step.load(str(folder), "cpu").parameter_counts().total == TOY.weights


def test_tokens_follow_from_the_workload_alone_and_have_its_lengths() -> None:
    tokens = draw_tokens(replace(ROWS, teacher_prompts_per_group=2), TOY.vocabulary)
    assert tokens == draw_tokens(replace(ROWS, teacher_prompts_per_group=2), TOY.vocabulary)
    assert [len(c) for c in tokens.completions] == [9] * 6
    assert {len(p) for p in tokens.prompts} == {15, 17}
    assert len({tuple(p) for p in tokens.prompts}) == 2
    assert len({tuple(p) for p in tokens.teacher_prompts}) == 4
    assert len({tuple(c) for c in tokens.completions}) == 6


@pytest.mark.parametrize("method", sorted(step.METHODS))
def test_our_side_of_a_step_is_the_definition(folder: Path, method: str) -> None:
    job = step.job_of(method, TOY, workload_of(method), folder, dtype="float32", device="cpu")
    fused = step.ours(job)
    readable = step.ours(job)
    assert isinstance(readable, step.OurStep)
    ours = readable.trainer
    settings = ours.settings.model_copy(update={"engine": "readable"})
    readable.trainer = StageTrainer(ours.policy, ours.teacher, ours.base, ours.objective, settings)
    first = fused.run()
    assert first == pytest.approx(readable.run(), rel=1e-4)
    assert first == pytest.approx(fused.run(), rel=1e-6), "a repeat is not the first step again"
    assert first["grad_norm"] > 0


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="the peer is in the extra `bench` alone")
@pytest.mark.parametrize("method", sorted(step.METHODS))
def test_trl_optimizes_the_same_loss(folder: Path, method: str) -> None:
    job = step.job_of(method, TOY, workload_of(method), folder, dtype="float32", device="cpu")
    ours, theirs = step.ours(job).run(), step.trl(job).run()
    assert ours["loss"] != 0
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_our_samples_carry_the_log_probabilities_of_a_forward_pass(folder: Path) -> None:
    job = step.job_of("sdft_topk", TOY, ROWS, folder, dtype="float32", device="cpu")
    side = generation.ours(job)
    assert isinstance(side, generation.OurGeneration)
    assert side.run() == {"new_tokens": 54.0}
    assert side.check()["logprob_error"] < 1e-4


@pytest.mark.parametrize("kind", sorted(objective.OBJECTIVES))
def test_the_objective_alone_has_a_loss_and_gradients(kind: str) -> None:
    job = objective.job_of(kind, tokens=256, vocabulary=128, width=16, dtype="float32", device="cpu")
    values = objective.ours(job).run()
    assert values["loss"] != 0
    assert values["grad_norm"] > 0


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="the peers are in the extra `bench` alone")
@pytest.mark.parametrize(("kind", "peer"), [(k, p) for k, ps in objective.PEERS.items() for p in ps if p != "liger"])
def test_trl_computes_the_same_objective(kind: str, peer: str) -> None:
    job = objective.job_of(kind, tokens=256, vocabulary=128, width=16, dtype="float32", device="cpu")
    assert objective.ours(job).run() == pytest.approx(getattr(objective, peer)(job).run(), rel=1e-4)


@given(st.floats(-2, 2), st.floats(0.01, 100), st.lists(st.integers(1, 10**6), min_size=2, unique=True))
def test_the_exponent_of_a_power_law_is_found(power: float, factor: float, xs: list[int]) -> None:
    assert exponent(xs, [factor * x**power for x in xs]) == pytest.approx(power, abs=0.01)


def test_an_exponent_needs_two_points() -> None:
    assert exponent([4], [2.0]) is None
    assert exponent([4, 8], [None, 2.0]) is None


def test_operations_are_those_of_the_padded_rows_where_nothing_is_shared_or_silent() -> None:
    alone = Workload(prompts=1, generations=1, new_tokens=32, prompt_tokens=32, teacher_tokens=64)
    count = step_operations("sdft_jsd_full", TOY, alone, draw_tokens(alone, TOY.vocabulary))
    assert count["needed"] == pytest.approx(count["padded"])
    group = replace(alone, generations=8)
    count = step_operations("sdft_jsd_full", TOY, group, draw_tokens(group, TOY.vocabulary))
    assert count["needed"] < count["padded"]
    silent = replace(group, active=2)
    fewer = step_operations("sdft_jsd_full", TOY, silent, draw_tokens(silent, TOY.vocabulary))
    assert fewer["needed"] < count["needed"] / 2
    assert fewer["padded"] == count["padded"]


def test_a_renormalized_top_k_needs_the_vocabulary_once() -> None:
    assert head_products("topk", 100_000) == pytest.approx(1.003)
    assert head_products("jsd", 100_000) == 4


def test_a_ratio_compares_neighbors_in_time() -> None:
    middle, spread = ratio(Measured([2.0, 6.0, 4.0]), Measured([1.0, 2.0, 4.0]))
    assert (middle, spread) == (2.0, [1.0, 3.0])
    assert relative_difference(0.0, 0.0) == 0.0
    assert relative_difference(1.0, -1.0) == 2.0


def test_peak_memory_sees_what_was_let_go_of() -> None:
    found = peak_bytes(lambda: torch.ones(64 * 2**18).sum(), torch.device("cpu"))
    if found is None:
        pytest.skip("this system does not tell a process its peak")
    assert found == pytest.approx(64 * 2**20, rel=0.1)


def test_a_worker_reports_what_failed_and_goes_on() -> None:
    job = {"side": "peaks", "device": "cpu", "side_length": 64, "copied_bytes": 4096}
    with Worker(threads=1) as worker:
        with pytest.raises(BenchmarkError, match="KeyError"):
            worker.ask("build", **(job | {"side": "nobody"}))
        (measured,) = alternate([worker], [job], repeats=2)
    assert len(measured.seconds) == 2
    assert measured.values["float32_flops"] > 0


def record(name: str, **more: object) -> dict[str, object]:
    side = {"seconds": 1.0, "peak_bytes": 2**20}
    return {
        "name": name,
        "dtype": "float32",
        "ours": side,
        "peer": {"seconds": 3.0, "peak_bytes": 2**22},
        "time_ratio": 3.0,
        "spread": [2.5, 3.5],
        "memory_ratio": 4.0,
        "agree": True,
        **more,
    }


def test_scaling_is_fitted_by_axis_and_dtype() -> None:
    records = [record("s", axis="rows", value=n) for n in (1, 2, 4)]
    records[2]["ours"] = {"seconds": 1.0, "peak_bytes": None}
    (fit,) = fit_scaling([*records, record("steps/x")])
    assert (fit["axis"], fit["dtype"]) == ("rows", "float32")
    assert fit["ours"] == {"seconds": 0.0, "peak_bytes": 0.0}


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["nothing"])
    assert "unknown part 'nothing'" in capsys.readouterr().err

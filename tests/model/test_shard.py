"""`holdfast.model.shard`: two processes compute the same as one, from losses and gradients to checkpoints and samples.

Two processes on gloo, one thread each, share a small float32 model with FSDP2, and the same function runs in this one.
"""

import json
import os
import pickle
import random
import re
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

import judges
from holdfast.api import export
from holdfast.config.settings import LoraSettings, ModelSettings, TrainSettings
from holdfast.data.chat import PromptTooLong
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Row
from holdfast.errors import RunError
from holdfast.model.base import Base
from holdfast.model.hidden_states import longest_packed
from holdfast.model.load import load_policy
from holdfast.model.processes import Processes, deal
from holdfast.model.shard import assembled, shard
from holdfast.recipes import RECIPES
from holdfast.recipes.parts.objective import Objective, PolicyGradient
from holdfast.recipes.parts.penalty import OrthogonalPenalty
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.train.fisher import fisher_information
from holdfast.train.penalty import MovementHold, penalty_of
from holdfast.train.step import StageTrainer
from holdfast.train.teacher import Teacher
from interruptions import count_in
from processes import PATIENCE, start, together
from small_runs import assert_alike, assert_same, write_config

pytestmark = pytest.mark.processes

EMA = TeacherSpec(kind="ema", rate=0.3, cadence="rollout_batch")
MIXED = Objective(divergence="jsd", policy_gradient=PolicyGradient(), reference_kl=0.1)
RECIPE_SETTINGS: dict[str, dict[str, Any]] = {
    "sft": {},
    "sdft": {"ema_rate": 0.3},
    "sdpo": {"ema_rate": 0.3},
    "grpo": {"num_iterations": 2, "beta": 0.1},
    "ewc": {"strength": 10.0},
    "cpo": {"strength": 10.0},
}
CASES = [
    *((name, lora) for name in (*RECIPE_SETTINGS, "mixed") for lora in (False, True)),
    *((name, False) for name in (*RECIPES, "forgotten", "nested") if name not in RECIPE_SETTINGS),
    ("olora", True),
]
"""Every recipe, and three more. `mixed`: rows that need different signals, some the teacher's, some the base's, used
for two steps. `forgotten`: the same, but the signals kept for the second step are dropped, as the guard may do.
`nested`: the same, in an architecture that names a layer and a part of it as units."""


def _ids(rng: random.Random, least: int, most: int) -> list[int]:
    return [rng.randrange(5, 200) for _ in range(rng.randint(least, most))]


def _rows(name: str) -> list[Row]:
    """Eight rows, one without a signal, with every annotation that the recipe's objective reads."""
    rng = random.Random(name)
    rows = []
    for place in range(8):
        row = Row(Example(str(place), (Message(role="user", content="?"),)), _ids(rng, 1, 9), _ids(rng, 4, 9))
        row.sampled_logprobs = [-rng.random() for _ in row.completion_ids]
        signal, advantage = float(place != 3), rng.random() - 0.5
        if name in RECIPES:
            recipe = RECIPES[name].model_validate(RECIPE_SETTINGS.get(name, {}))
            objective, is_taught = recipe.objective(), recipe.teacher() is not None
            has_advantages = objective.policy_gradient is not None
            row.advantage = signal * advantage if has_advantages else 0.0
            row.ce = signal if objective.token_weight or not (is_taught or has_advantages) else 0.0
            row.div = signal if is_taught and not objective.reads_teacher_tokens else 0.0
            row.base_kl = signal if objective.reference_kl else 0.0
            row.teacher_prompt_ids = _ids(rng, 2, 14) if is_taught else None
        elif place > 4:
            row.advantage, row.base_kl = advantage, float(place > 6)
        else:
            row.div, row.teacher_prompt_ids = signal, _ids(rng, 2, 14)
        rows.append(row)
    return rows


def take_steps(model: str, output: str) -> None:
    """Take two optimizer steps of every case, and write losses, gradients and weights into a file."""
    world = Processes.current()
    found: dict[str, Tensor] = {}
    for name, lora in CASES:
        case = f"{name} with LoRA" if lora else name
        objective, spec, held, iterations = MIXED, EMA, None, 2
        if name in RECIPES:
            recipe = RECIPES[name].model_validate(RECIPE_SETTINGS.get(name, {}))
            objective, spec, held = recipe.objective(), recipe.teacher(), recipe.penalty()
            if isinstance(held, OrthogonalPenalty) and not lora:
                held = None  # refused before a run begins
            iterations = recipe.rollouts().num_iterations
        policy = load_policy(ModelSettings(path=model, lora=LoraSettings(r=4) if lora else None))
        if name == "nested":
            policy.causal_lm._no_split_modules = ["Qwen3DecoderLayer", "Qwen3MLP"]
        base = Base(policy)
        teacher = Teacher(spec, policy, base) if spec is not None else None
        for each in (policy, base.copy, teacher.copy if teacher is not None else None):
            if each is not None and world.size > 1:
                longest_packed(each)
                shard(each, world, offload=name == "sdft" and each not in (policy, base.copy))
        if teacher is not None:
            teacher.start_stage()
        # Every row is a micro-batch, so one process has one more than the other.
        settings = TrainSettings(micro_batch_tokens=1, learning_rate=1e-2)
        penalty, rows = penalty_of(held, policy, 1), _rows(name)
        if penalty is not None:
            penalty.begin(1, partial(fisher_information, policy, rows[:5], settings))
        trainer = StageTrainer(policy, teacher, base, objective, settings, penalty)
        for step in range(2):

            def keep_gradients(*_: Any, place: str = f"{case}/{step}", trainer: StageTrainer = trainer) -> None:
                for parameter_name, parameter in trainer.parameters.items():
                    if parameter.grad is not None:
                        found[f"{place}/gradient of {parameter_name}"] = assembled(parameter.grad).clone()

            seen = trainer.optimizer.register_step_pre_hook(keep_gradients)
            first, more = step % iterations == 0, (step + 1) % iterations != 0
            found[f"{case}/{step}/loss"] = torch.tensor(
                trainer.step(rows, 1e-2, where="here", first=first, more=more)["loss"]
            )
            seen.remove()
            if name == "forgotten":
                trainer.forget()
            if isinstance(penalty, MovementHold):
                penalty.begin(2, dict)  # it protects nothing in the first stage
        for parameter_name, parameter in trainer.parameters.items():
            found[f"{case}/{parameter_name}"] = assembled(parameter.detach()).clone()
        if isinstance(penalty, MovementHold):
            # The same share is protected, although each process has a part of every tensor; rounding can decide of one.
            protected = [assembled(mask.sum()) / mask.numel() for mask in penalty.protected.values()]
            assert any(protected)
            found[f"{case}/protected"] = torch.stack(protected)
        for average_name, average in (teacher.state() if teacher is not None else {}).items():
            found[f"{case}/average of {average_name}"] = assembled(average).clone()
    if world.is_main:
        save_file({name: tensor.contiguous() for name, tensor in found.items()}, output)


def test_two_processes_take_the_steps_of_one(tiny_model: Path, tmp_path: Path) -> None:
    together(take_steps, 2, tmp_path, str(tiny_model), str(tmp_path / "two.safetensors"))
    take_steps(str(tiny_model), str(tmp_path / "one.safetensors"))
    one, two = load_file(tmp_path / "one.safetensors"), load_file(tmp_path / "two.safetensors")
    assert one.keys() == two.keys()
    names = [name for name in one if name.endswith("/loss")]
    assert len(names) == 2 * len(CASES)
    assert all(one[name] != 0 for name in names)
    losses, first, second, moved = [], [], [], []
    for name, value in one.items():
        difference = (two[name] - value).abs()
        if name.endswith("/loss"):
            losses.append(float(difference))
        elif "gradient of" in name:
            gradients = first if "/0/gradient of" in name else second
            gradients.append(float(difference.max() / value.abs().max().clamp(min=1e-6)))
        else:
            moved.append(difference.flatten())
    weights = torch.cat(moved)
    print(max(losses), max(first), max(second), float(weights.max()), float((weights > 1e-4).float().mean()))
    assert max(losses) < 1e-5
    assert max(first) < 1e-4
    # Adam's first step moves every weight by the full rate. If a gradient is near 0, rounding decides the direction.
    # So a few weights may differ, by two steps in each direction at most. The second gradient is that of such weights.
    assert float((weights > 1e-4).float().mean()) < 1e-3
    assert float(weights.max()) < 4e-2
    assert max(second) < 1e-2


@pytest.mark.parametrize(
    ("sizes", "hands", "dealt"),
    [
        ([5, 3, 2, 2], 2, [[0, 3], [1, 2]]),
        ([9, 1, 1], 2, [[0], [1, 2]]),
        ([4], 2, [[0], []]),
        ([], 2, [[], []]),
    ],
)
def test_deal_balances_numbers_then_sizes(sizes: list[int], hands: int, dealt: list[list[int]]) -> None:
    assert deal(sizes, hands) == dealt


@pytest.mark.parametrize("items", [0, 1, 2, 5, 7])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_join_to_the_whole(items: int, size: int) -> None:
    parts = [Processes(rank, size).share(range(items)) for rank in range(size)]
    assert [item for part in parts for item in part] == list(range(items))


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path, first: int, then: int) -> None:
    config = write_config(tmp_path, "grpo", train={"save_steps": 100})
    start("run", config, "-o", tmp_path / "whole").finish()
    run = tmp_path / "run"
    asked = partial(
        count_in, of=first - 1, kind="operation", run=str(run), last=13600, log=str(tmp_path / "log"), number=SIGTERM
    )
    assert set(start("run", config, "-o", run, size=first, before=asked).join()) == {143}
    (checkpoint,) = (run / "checkpoints").iterdir()
    position = json.loads((checkpoint / "position.json").read_text())
    assert position["batch"]["rows"]  # in the middle of a rollout batch
    assert len(list(checkpoint.glob("*.safetensors"))) == first
    start("resume", run, size=then).finish()
    assert_alike(tmp_path / "whole", run)


@pytest.mark.parametrize("name", ["grpo", "sdft with LoRA"])
def test_what_two_processes_saved_is_exported_as_one_folder(tmp_path: Path, name: str) -> None:
    run, exported = tmp_path / "run", tmp_path / "exported"
    start("run", write_config(tmp_path, name), "-o", run, size=2).finish()
    assert export(run, exported) == exported
    saved = load_file(run / "models" / "stage-2" / "model.safetensors")
    state = AutoModelForCausalLM.from_pretrained(exported).state_dict()
    assert all(torch.equal(state[key], value) for key, value in saved.items())
    newest = sorted((run / "checkpoints").iterdir())[-1]
    export(newest, tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (exported / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match="the output exists already"):
        export(run, exported)
    (newest / "position.json").write_text("{}")
    with pytest.raises(RunError, match="damaged checkpoint"):
        export(newest, tmp_path / "third")


def _fail_on_one(rank: int, *, after: int) -> None:
    """Make the verifier fail on process 1 after so many calls."""
    calls = 0
    judge = judges.by_letters

    def failing(example: Example, completion: str) -> Verdict:
        nonlocal calls
        calls += 1
        if calls > after:
            raise ValueError("it cannot judge")
        return judge(example, completion)

    if rank == 1:
        judges.by_letters = failing  # type: ignore[assignment]


@pytest.mark.parametrize(("after", "codes"), [(0, {1, 2}), (8, {2})])
def test_what_fails_on_one_process_ends_all_with_one_line(tmp_path: Path, after: int, codes: set[int]) -> None:
    config = write_config(tmp_path, "grpo")
    settings = yaml.safe_load(config.read_text())
    for task in settings["tasks"]:
        task["in_process"] = True  # the verifier that fails is one of this process
    config.write_text(yaml.safe_dump(settings))
    command = start("run", config, "-o", tmp_path / "run", size=2, before=partial(_fail_on_one, after=after))
    assert set(command.join()) == codes
    output = [line for line in command.output().splitlines() if "holdfast: " in line or "Traceback" in line]
    assert len(output) == 1
    assert "holdfast: error: " in output[0]
    assert "it raised ValueError: it cannot judge" in output[0]


def _limit_file_sizes(rank: int) -> None:
    if rank == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


@pytest.mark.parametrize("size", [1, 2])
def test_a_full_disk_is_one_line(tmp_path: Path, size: int) -> None:
    measured = {"max_items": 3, "kl_items": 2, "probe_steps": 2, "probe_items": 2, "probe_gap": 0}
    config, run = write_config(tmp_path, "grpo", eval=measured), tmp_path / "run"
    command = start("run", config, "-o", run, size=size, before=_limit_file_sizes)
    assert set(command.join()) == {2}
    (output,) = [line for line in command.output().splitlines() if "holdfast: " in line or "Traceback" in line]
    assert re.fullmatch(
        rf"holdfast: error: {run}\S*: a checkpoint cannot be written: File too large \(raise the limit on the size of "
        rf"files, see `ulimit -f`\); then resume with `holdfast resume {run}`",
        output,
    )
    start("resume", run, size=size).finish()


def test_torchrun_runs_it_and_hands_on_what_asks_it_to_end(tmp_path: Path) -> None:
    config = write_config(tmp_path, "grpo", train={"save_steps": 100})
    start("run", config, "-o", tmp_path / "whole", size=2).finish()
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    here = Path(judges.__file__).parent  # the configuration's verifier is here
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*torchrun, "-m", "holdfast", "run", config, "-o", run],
        stderr=subprocess.PIPE,
        text=True,
        cwd=here,
        env=environment,
    ) as process:
        deadline = time.monotonic() + PATIENCE
        log = run / "metrics.jsonl"
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 2):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.terminate()
        assert process.stderr is not None
        output = process.stderr.read()
    assert output.count("holdfast: stopped; resume with") == 1
    start("resume", run, size=2).finish()
    assert_same(tmp_path / "whole", run)


def test_errors_travel_between_processes() -> None:
    error = PromptTooLong("a", 9, 4)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is PromptTooLong
    assert (str(back), back.what, back.where, back.fix) == (str(error), error.what, error.where, error.fix)

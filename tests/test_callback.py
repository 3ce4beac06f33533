"""The callback in transformers' and TRL's own trainers: it sees what is there, and changes nothing."""

import json
import math
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import torch
from peft import LoraConfig
from torch import nn

from holdfast.errors import ModelError, RunError
from holdfast.guard import GuardSettings
from holdfast.integrations import HoldfastCallback, Watcher
from holdfast.integrations.actions import Actions
from holdfast.integrations.names import translate
from holdfast.integrations.pace import Pace
from holdfast.integrations.undisturbed import refuse_unusable, undisturbed
from holdfast.report.build import write_report
from watched_training import KINDS, QUESTIONS, load, make_trainer, weights, write_suite

SCHEMA = json.loads((files("holdfast") / "schema" / "summary.schema.json").read_text())


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def watch(tmp_path: Path, **settings) -> HoldfastCallback:
    suite = write_suite(tmp_path / "sums.jsonl")
    return HoldfastCallback([suite], tmp_path / "watched", **{"max_new_tokens": 6, "probe_steps": 2, **settings})


@pytest.mark.parametrize("kind", KINDS)
def test_a_watched_training_is_the_same_bit_for_bit(kind, tiny_model, tmp_path):
    def trained(callbacks):
        trainer = make_trainer(kind, tiny_model, tmp_path / "out", callbacks)
        trainer.train()
        return weights(trainer.model), trainer.state.log_history

    alone, logged = trained([])
    watched, logged_too = trained([watch(tmp_path)])
    assert all(torch.equal(alone[name], watched[name]) for name in alone)
    for a, b in zip(logged[:-1], logged_too[:-1], strict=True):
        a, b = ({k: v for k, v in x.items() if "time" not in k} for x in (a, b))
        assert a == b
    run = tmp_path / "watched"
    assert [line["step"] for line in lines(run / "metrics.jsonl")] == [1, 2, 3, 4]
    assert [line["step"] for line in lines(run / "probes.jsonl")] == [2]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "complete"
    assert [e["stage"] for e in summary["evaluations"]] == [0, 1]
    assert summary["budget"]["optimizer_steps"] == 4
    assert summary["budget"]["completions"] is None
    jsonschema.validate(summary, SCHEMA)
    write_report(summary, tmp_path / "report.html")


LORA = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=True)


@pytest.mark.parametrize("lora", [False, True])
def test_what_is_measured_is_what_generate_and_full_distributions_say(lora, tiny_model, tmp_path):
    callback = watch(tmp_path)
    changes = {"peft_config": LORA} if lora else {}
    trainer = make_trainer("sft", tiny_model, tmp_path / "out", [callback], gradient_checkpointing=True, **changes)
    before = dict(load(tiny_model)[0].named_parameters())
    trainer.train()
    model, tokenizer = trainer.model.eval(), trainer.processing_class
    base = load(tiny_model)[0].eval()
    start = json.loads((tmp_path / "watched/start/base.json").read_text())
    first = json.loads((tmp_path / "watched/responses/stage-0.json").read_text())["answers"]["sums"]
    items = json.loads((tmp_path / "watched/evals/stage-1.json").read_text())
    sums, tokens, right = 0.0, 0, []
    for row, question, sampled in zip(first, QUESTIONS, start["completions"], strict=True):
        chat = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        with torch.no_grad():
            greedy = [m.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :] for m in (base, model)]
            texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in greedy]
            assert row["text"] == texts[0]
            right.append(float(texts[1].strip() == "7"))
            whole = torch.cat([ids, torch.tensor([sampled])], dim=1)
            p, q = (m(whole).logits[0, ids.shape[1] - 1 : -1].double().log_softmax(-1) for m in (base, model))
        sums += float((p.exp() * (p - q)).sum())
        tokens += len(sampled)
    assert items["items"]["sums"] == right
    assert items["sets"]["sums"]["kl_to_base"] == pytest.approx(sums / tokens, rel=1e-4)
    assert sums > 0
    # drift, from the weights themselves
    merged = model.merge_and_unload() if lora else model
    after = dict(merged.named_parameters())
    drift = json.loads((tmp_path / "watched/drift/stage-1.json").read_text())
    found = {each["name"]: each["relative_norm"] for each in drift["matrices"]}
    name = "model.layers.0.self_attn.q_proj.weight"
    moved = float((after[name] - before[name]).norm() / before[name].norm())
    assert moved > 0
    assert found[name] == pytest.approx(moved, rel=1e-3)
    assert len(found) == (4 if lora else sum(value.ndim > 1 for value in before.values()))
    entry = json.loads((tmp_path / "watched/summary.json").read_text())["responses"][0]
    assert entry["kl_base_to_model"] == pytest.approx(sums / tokens, rel=1e-4)
    assert not (tmp_path / "watched/start/weights-now").exists()


def test_a_resumed_training_keeps_its_start_and_its_lines(tiny_model, tmp_path):
    def train(folder, callback, steps, **resume):
        trainer = make_trainer("sft", tiny_model, folder, [callback], max_steps=6, save_strategy="steps", save_steps=3)
        if steps < 6:
            trainer.add_callback(_StopAt(steps))
        trainer.train(**resume)

    whole = HoldfastCallback([write_suite(tmp_path / "sums.jsonl")], tmp_path / "a", max_new_tokens=6, probe_steps=1)
    train(tmp_path / "out-a", whole, 6)
    parts = [
        HoldfastCallback([tmp_path / "sums.jsonl"], tmp_path / "b", max_new_tokens=6, probe_steps=1) for _ in range(2)
    ]
    train(tmp_path / "out-b", parts[0], 4)  # a step past the checkpoint
    train(tmp_path / "out-b", parts[1], 6, resume_from_checkpoint=str(tmp_path / "out-b/checkpoint-3"))
    for log in ("metrics.jsonl", "probes.jsonl"):
        a, b = ([_untimed(line) for line in lines(tmp_path / run / log)] for run in "ab")
        assert a == b
    a, b = (json.loads((tmp_path / r / "evals/stage-1.json").read_text()) for r in "ab")
    assert a["sets"] == b["sets"]
    a, b = (json.loads((tmp_path / r / "drift/stage-1.json").read_text())["matrices"] for r in "ab")
    assert a == b


def _untimed(line: dict) -> dict:
    return {key: value for key, value in line.items() if key not in ("seconds", "trained_tokens")}


class _StopAt:
    def __new__(cls, step):
        from transformers import TrainerCallback

        class Stop(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                control.should_training_stop |= state.global_step >= step

        return Stop()


def test_a_directory_of_another_training_is_refused(tiny_model, tmp_path):
    (tmp_path / "watched").mkdir()
    (tmp_path / "watched" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="something here already"):
        make_trainer("sft", tiny_model, tmp_path / "out", [watch(tmp_path)]).train()


@pytest.mark.parametrize("mode", ["warn", "act"])
def test_a_rule_that_fires_is_written_down_and_acts_where_it_may(mode, tiny_model, tmp_path):
    guard = GuardSettings(
        mode=mode, window=2, rules={"silent_stall": {"action": ["lower_rate", "mask_tokens", "stop"]}}
    )
    flat = {"max_steps": 8, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
    trainer = make_trainer("grpo", tiny_model, tmp_path / "out", [watch(tmp_path, guard=guard)], **flat)
    trainer.reward_funcs[0] = lambda completions, **_: [0.0] * len(completions)
    with pytest.warns(UserWarning, match="silent_stall at step 6"):
        trainer.train()
    assert trainer.state.global_step == (6 if mode == "act" else 8)
    (decision,) = lines(tmp_path / "watched/decisions.jsonl")
    summary = json.loads((tmp_path / "watched/summary.json").read_text())
    jsonschema.validate(summary, SCHEMA)
    assert summary["decisions"] == [decision]
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(5e-4 if mode == "act" else 1e-3)
    if mode == "warn":
        assert decision["outcome"] == "warned"
    else:
        lowered, masked, stopped = decision["outcome"].split("; ")
        assert "0.0005" in lowered
        assert "mask_tokens is not done" in masked
        assert stopped == "training stops after step 6"


def test_a_probe_that_shows_forgetting_stops_the_training(tiny_model, tmp_path):
    """The model's own first answers are the suite's, and a large learning rate takes them away."""
    model, tokenizer = load(tiny_model)
    answers = []
    for question in QUESTIONS:
        chat = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        out = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
        answers.append(tokenizer.decode(out, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    suite = write_suite(tmp_path / "own.jsonl", answers)
    callback = HoldfastCallback([suite], tmp_path / "watched", max_new_tokens=6, probe_steps=2, guard="act")
    settings = {"max_steps": 8, "learning_rate": 5e-2, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer("sft", tiny_model, tmp_path / "out", [callback], **settings)
    with pytest.warns(UserWarning, match="retention"):
        trainer.train()
    assert trainer.state.global_step == 2
    (decision,) = lines(tmp_path / "watched/decisions.jsonl")
    assert decision["saw"]["base"] == 1.0
    assert "checkpoint-1" in decision["outcome"]


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("kind", ["sdft", "sdpo"])
def test_the_average_of_trl_stands_still_when_frozen(kind, lora, tiny_model, tmp_path):
    from transformers import TrainerCallback

    actions, seen = Actions(), []

    class Freeze(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            actions.before_step(args, kwargs["model"])
            seen.append(teacher())

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                assert "stands still" in actions.carry_out("freeze_teacher", args, state, control, kwargs)

    changes = {"peft_config": LORA} if lora else {"model": load(tiny_model)[0]}
    settings = {"teacher_model_kind": "ema", "teacher_update_rate": 0.5, "teacher_sync_steps": 1}
    trainer = make_trainer(kind, tiny_model, tmp_path / "out", [Freeze()], **settings, **changes)

    def teacher():
        if lora:
            return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if ".teacher." in n}
        return weights(trainer.teacher_model)

    trainer.train()
    assert len(seen) == 4
    assert any(not torch.equal(seen[0][n], seen[1][n]) for n in seen[0])
    assert all(torch.equal(seen[2][n], seen[3][n]) for n in seen[0])


def test_a_refreshed_teacher_takes_the_student_and_then_averages_on(tiny_model, tmp_path):
    from transformers import TrainerCallback

    actions, distances = Actions(), []

    class Refresh(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            actions.before_step(args, kwargs["model"])
            pairs = zip(trainer.teacher_model.parameters(), trainer.model.parameters(), strict=True)
            distances.append(sum(float((a - b).abs().sum()) for a, b in pairs))

        def on_log(self, args, state, control, **kwargs):
            if state.global_step == 2:
                actions.carry_out("refresh_teacher", args, state, control, kwargs)

    settings = {"teacher_model_kind": "ema", "teacher_update_rate": 0.1, "teacher_sync_steps": 1, "max_steps": 5}
    trainer = make_trainer("sdft", tiny_model, tmp_path / "out", [Refresh()], **settings)
    trainer.train()
    assert [d == 0 for d in distances] == [True, False, False, True, False]
    assert trainer.args.teacher_update_rate == 0.1


def test_what_cannot_be_done_is_said(tiny_model, tmp_path):
    trainer = make_trainer("sft", tiny_model, tmp_path / "out", [])
    given = (trainer.args, trainer.state, trainer.control, {"model": trainer.model})
    assert "none" in Actions().carry_out("freeze_teacher", *given)
    assert "not done" in Actions().carry_out("mask_tokens", *given)
    assert not trainer.control.should_training_stop
    assert "not rolled back" in Actions().carry_out("roll_back", *given)
    assert trainer.control.should_training_stop


def test_evaluations_are_no_steps_and_silence_is_no_error(tiny_model, tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 1, "logging_strategy": "no"}
    trainer = make_trainer("transformers", tiny_model, tmp_path / "out", [watch(tmp_path)], **settings)
    trainer.train()
    assert lines(tmp_path / "watched/metrics.jsonl") == []
    assert [line["step"] for line in lines(tmp_path / "watched/probes.jsonl")] == [2]
    jsonschema.validate(json.loads((tmp_path / "watched/summary.json").read_text()), SCHEMA)


def test_any_loop_can_be_watched(tiny_model, tmp_path):
    model, tokenizer = load(tiny_model)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = Watcher([write_suite(tmp_path / "sums.jsonl")], tmp_path / "run", max_new_tokens=4, probe_steps=2)
    with pytest.raises(RunError, match="not started"):
        watcher.step({"loss": 1.0})
    watcher.start(model, tokenizer)
    ids = torch.tensor([tokenizer(QUESTIONS[0])["input_ids"]])
    for _ in range(3):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert watcher.step({"loss": loss.item(), "reward": 0.5}) == []
    assert model.training
    summary = watcher.finish()
    assert [p["loss"] > 0 for p in summary["curves"]] == [True] * 3
    assert [p["step"] for p in lines(tmp_path / "run/probes.jsonl")] == [2]
    assert summary["verdict"][0].startswith("After training loop")


def test_modes_and_generators_are_put_back_even_after_an_error():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    model[1].eval()
    state = torch.get_rng_state()
    seen = []

    def look():
        with undisturbed(model):
            seen.append(model.training)
            torch.rand(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look()
    assert seen == [False]
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_part_of_a_model_is_refused():
    model = nn.Linear(2, 2)
    refuse_unusable(model)
    model.weight.ds_id = 3
    with pytest.raises(ModelError, match="ZeRO-3"):
        refuse_unusable(model)


def test_names_of_trainers_become_ours():
    grpo = {"loss": 0.1, "completions/clipped_ratio": 0.25, "frac_reward_zero_std": 0.75, "kl": 0.5, "epoch": 1}
    assert translate(grpo) == {"loss": 0.1, "truncated_fraction": 0.25, "active_rows": 0.25, "kl_base": 0.5}
    sdpo = {"self_distillation/reward_mean": 0.5, "self_distillation/distillation_loss": 0.2, "reward_std": None}
    assert translate(sdpo) == {"reward": 0.5, "kl_teacher": 0.2}


def test_probes_take_their_share_of_the_time_and_no_more():
    now = [0.0]
    pace = Pace(0.05, None, lambda: now[0])
    pace.begin(expected=4.0)
    looks = 0
    for step in range(1, 2001):
        now[0] += 1.0 if step % 7 else 3.0
        pace.step()
        now[0] += 0.01
        pace.spent(0.01)
        if pace.wants_plan():
            pace.set_plan(pace.plan())
        if pace.is_due(step):
            now[0] += 4.0
            pace.looked_for(4.0)
            looks += 1
    assert pace.looked <= 0.05 * pace.trained * 1.02
    assert looks == pytest.approx((0.05 * pace.trained - 20.0) / 4.0, rel=0.1)
    assert math.isclose(pace.looked, 4.0 * looks + 20.0)
    assert pace.trained == pytest.approx(sum(1.0 if step % 7 else 3.0 for step in range(1, 2001)))

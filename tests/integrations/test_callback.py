"""`holdfast.integrations.callback` in transformers' and TRL's own trainers: it measures, and changes nothing."""

import json
import math
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import jsonschema
import pytest
import torch
from torch import nn

from holdfast.errors import ConfigError, ModelError, RunError
from holdfast.integrations import HoldfastCallback, Watcher
from holdfast.integrations.evaluation_mode import evaluation_mode, refuse_unsupported
from holdfast.integrations.metric_names import rename_metrics
from holdfast.integrations.probe_schedule import ProbeSchedule
from holdfast.reporting.page import write_report
from holdfast.summary.schema import summary_schema
from watched_training import KINDS, LORA, QUESTIONS, lines, load, make_trainer, watch, weights, write_suite

SCHEMA = summary_schema()


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


@pytest.mark.parametrize("lora", [None, LORA, replace(LORA, use_dora=True)], ids=["all weights", "lora", "dora"])
def test_what_is_measured_is_what_generate_and_full_distributions_say(lora, tiny_model, tmp_path):
    callback = watch(tmp_path)
    changes = {"peft_config": lora} if lora else {}
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


@pytest.mark.parametrize("kind", ["sft", "grpo"])  # whose token counts restart at 0, and continue
def test_a_resumed_training_keeps_its_start_and_its_lines(kind, tiny_model, tmp_path):
    def train(folder, callback, steps, **resume):
        trainer = make_trainer(kind, tiny_model, folder, [callback], max_steps=6, save_strategy="steps", save_steps=3)
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
        # TRL's GRPO trainer itself does not resume bit for bit.
        assert a == b if kind == "sft" else [line["step"] for line in a] == [line["step"] for line in b]
    tokens = [line["trained_tokens"] for line in lines(tmp_path / "b/metrics.jsonl")]
    assert len(tokens) == 6
    assert 0 < max(tokens) < 2 * min(tokens)
    assert lines(tmp_path / "b/metrics.jsonl")[-1]["num_tokens"] == sum(tokens)
    if kind == "sft":
        for file, key in (("evals/stage-1.json", "sets"), ("drift/stage-1.json", "matrices")):
            a, b = (json.loads((tmp_path / run / file).read_text())[key] for run in "ab")
            assert a == b


def _untimed(line: dict) -> dict:
    return {key: value for key, value in line.items() if key != "seconds"}


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
    with pytest.raises(RunError, match="the directory is not empty"):
        make_trainer("sft", tiny_model, tmp_path / "out", [watch(tmp_path)]).train()


def test_steps_before_the_callback_was_added_do_not_count(tiny_model, tmp_path):
    def train(callbacks, **resume):
        settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
        make_trainer("grpo", tiny_model, tmp_path / "out", callbacks, **settings).train(**resume)

    train([])
    train([watch(tmp_path)], resume_from_checkpoint=str(tmp_path / "out/checkpoint-2"))
    third, fourth = lines(tmp_path / "watched/metrics.jsonl")
    assert (third["step"], "trained_tokens" in third) == (3, False)
    assert 0 < fourth["trained_tokens"] < 500  # two prompts, twice two completions of at most eight tokens


def test_what_grew_is_compared_with_demonstrations(tiny_model, tmp_path):
    demonstration = "hello hello hello hello"
    model, tokenizer = load(tiny_model)
    watcher = Watcher(
        [write_suite(tmp_path / "sums.jsonl")],
        tmp_path / "run",
        max_new_tokens=6,
        drift=False,
        demonstrations=[demonstration] * 3,
    )
    watcher.start(model, tokenizer)
    ask = watcher.questions.answer

    def answer():
        return {name: replace(own, texts=[demonstration] * len(own.texts)) for name, own in ask().items()}

    watcher.questions.answer = answer
    summary = watcher.finish()
    jsonschema.validate(summary, SCHEMA)
    (grown, *_) = summary["artifacts"]
    assert "hello" in grown["phrase"]
    assert grown["share_demonstrations"] == 1.0
    with pytest.raises(ConfigError, match="one text"):
        Watcher([tmp_path / "sums.jsonl"], tmp_path / "other", demonstrations=demonstration)


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
    assert summary["verdict"][0] == "loop was trained. Its own task is not scored here."
    assert any(said.startswith("Nothing to lose") and "sums (0.0 for the base)" in said for said in summary["verdict"])
    assert {each["rule"]: each["status"] for each in summary["guard_rules"]}["retention"] == "not measured"


def test_modes_and_generators_are_put_back_even_after_an_error():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    model[1].eval()
    state = torch.get_rng_state()
    seen = []

    def look():
        with evaluation_mode(model):
            seen.append(model.training)
            torch.rand(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look()
    assert seen == [False]
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert torch.equal(torch.get_rng_state(), state)


def test_probes_do_not_change_the_training_of_a_model_with_dropout(tiny_model, tmp_path):
    def trained(callbacks, dropout):
        trainer = make_trainer("sft", tiny_model, tmp_path / "out", callbacks)
        for module in trainer.model.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = dropout
        trainer.train()
        return weights(trainer.model)

    alone, watched = trained([], 0.5), trained([watch(tmp_path, probe_steps=1)], 0.5)
    assert all(torch.equal(alone[name], watched[name]) for name in alone)
    assert any(not torch.equal(value, alone[name]) for name, value in trained([], 0.0).items())


def test_the_generators_of_all_devices_of_a_model_are_put_back(monkeypatch):
    forked = []

    @contextmanager
    def fork(devices, device_type=None):
        forked.extend(devices)
        yield

    monkeypatch.setattr(torch.random, "fork_rng", fork)
    model = nn.Linear(2, 2)
    places = [SimpleNamespace(device=torch.device(name)) for name in ("cpu", "cuda:1", "cuda:0", "cuda:1")]
    monkeypatch.setattr(model, "parameters", lambda: iter(places))
    with evaluation_mode(model):
        pass
    assert forked == [torch.device("cuda:1"), torch.device("cuda:0")]


def test_a_part_of_a_model_is_refused():
    model = nn.Linear(2, 2)
    refuse_unsupported(model)
    model.weight.ds_id = 3
    with pytest.raises(ModelError, match="ZeRO-3"):
        refuse_unsupported(model)


def test_names_of_trainers_become_ours():
    grpo = {"loss": 0.1, "completions/clipped_ratio": 0.25, "frac_reward_zero_std": 0.75, "kl": 0.5, "epoch": 1}
    assert rename_metrics(grpo) == {"loss": 0.1, "truncated_fraction": 0.25, "active_rows": 0.25, "kl_base": 0.5}
    sdpo = {"self_distillation/reward_mean": 0.5, "self_distillation/distillation_loss": 0.2, "reward_std": None}
    assert rename_metrics(sdpo) == {"reward": 0.5, "teacher_divergence": 0.2}
    assert rename_metrics({"kl_teacher": 0.1, "repetition": 0.2}) == {"kl_teacher": 0.1, "repetition": 0.2}


def test_probes_take_their_share_of_the_time_and_no_more():
    now = [0.0]
    schedule = ProbeSchedule(0.05, None, lambda: now[0])
    schedule.begin(4.0)
    probes = 0
    for step in range(1, 2001):
        now[0] += 1.0 if step % 7 else 3.0
        schedule.step()
        now[0] += 0.01
        schedule.spent(0.01)
        if schedule.needs_plan():
            schedule.set_plan(schedule.plan())
        if schedule.is_due(step):
            now[0] += 4.0
            schedule.probed(4.0)
            probes += 1
    assert schedule.overhead <= 0.05 * schedule.trained * 1.02
    assert probes == pytest.approx((0.05 * schedule.trained - 20.0) / 4.0, rel=0.1)
    assert math.isclose(schedule.overhead, 4.0 * probes + 20.0)
    assert schedule.trained == pytest.approx(sum(1.0 if step % 7 else 3.0 for step in range(1, 2001)))

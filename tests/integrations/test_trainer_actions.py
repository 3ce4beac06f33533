"""`holdfast.integrations.trainer_actions`: what the guard's decisions do to trainers, and how outcomes are worded."""

import json

import jsonschema
import pytest
import torch
from transformers import TrainerCallback

from holdfast.guard import Decision, GuardSettings
from holdfast.integrations import HoldfastCallback
from holdfast.integrations.trainer_actions import TrainerActions
from holdfast.summary.schema import summary_schema
from tiny_model import SAMPLE_TEXTS, build_tiny_model
from watched_training import LORA, QUESTIONS, lines, load, make_trainer, watch, weights, write_suite

SCHEMA = summary_schema()


def decided(*actions: str, step: int = 2) -> Decision:
    return Decision("repetition", 1, step, step, "training", "critical", actions, {}, "")


@pytest.mark.parametrize("mode", ["warn", "act"])
def test_a_rule_that_fires_is_written_down_and_acts_where_it_may(mode, tiny_model, tmp_path):
    guard = GuardSettings(mode=mode, window=2, rules={"silent_stall": {"action": ["lower_rate", "mask_tokens"]}})
    flat = {"max_steps": 8, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
    trainer = make_trainer("grpo", tiny_model, tmp_path / "out", [watch(tmp_path, guard=guard)], **flat)
    trainer.reward_funcs[0] = lambda completions, **_: [0.0] * len(completions)
    with pytest.warns(UserWarning, match="silent_stall at step 6"):
        trainer.train()
    assert trainer.state.global_step == 8
    (decision,) = lines(tmp_path / "watched/decisions.jsonl")
    summary = json.loads((tmp_path / "watched/summary.json").read_text())
    jsonschema.validate(summary, SCHEMA)
    assert summary["decisions"] == [decision]
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(5e-4 if mode == "act" else 1e-3)
    if mode == "warn":
        assert decision["outcome"] == "warned"
    else:
        lowered, *_, masked = decision["outcome"].split("; ")
        assert "0.0005" in lowered
        assert "mask_tokens is not done" in masked
    assert summary["status"] == "complete"


def test_a_probe_that_shows_forgetting_stops_the_training(tmp_path):
    """The suite's answers are the model's own first answers. A large learning rate destroys them."""
    folder = build_tiny_model(tmp_path / "model", texts=SAMPLE_TEXTS)
    template = folder / "chat_template.jinja"  # the model repeats the prompt's last token, which must not be blank
    template.write_text(template.read_text().replace("assistant\\n'", "assistant:'"))
    model, tokenizer = load(folder)
    answers = []
    for question in QUESTIONS:
        chat = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        out = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
        answers.append(tokenizer.decode(out, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    suite = write_suite(tmp_path / "own.jsonl", answers)
    guard = GuardSettings(mode="act", window=2)
    callback = HoldfastCallback([suite], tmp_path / "watched", max_new_tokens=6, probe_steps=6, guard=guard)
    settings = {"max_steps": 8, "learning_rate": 5e-2, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer("sft", folder, tmp_path / "out", [callback], **settings)
    with pytest.warns(UserWarning, match="retention"):
        trainer.train()
    assert trainer.state.global_step == 6
    (decision,) = [line for line in lines(tmp_path / "watched/decisions.jsonl") if line["rule"] == "retention"]
    assert decision["saw"]["base"] == 1.0
    assert str(tmp_path / "out/checkpoint-2") in decision["outcome"]
    assert json.loads((tmp_path / "watched/summary.json").read_text())["status"] == "stopped"


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("kind", ["sdft", "sdpo"])
def test_the_average_of_trl_stands_still_when_frozen(kind, lora, tiny_model, tmp_path):
    actions, seen = TrainerActions(GuardSettings()), []

    class Freeze(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            actions.before_step(args, kwargs["model"])
            seen.append(teacher())

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                assert "until this process ends" in actions.carry_out(
                    decided("freeze_teacher"), args, state, control, kwargs
                )

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
    actions, distances = TrainerActions(GuardSettings()), []

    class Refresh(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            actions.before_step(args, kwargs["model"])
            pairs = zip(trainer.teacher_model.parameters(), trainer.model.parameters(), strict=True)
            distances.append(sum(float((a - b).abs().sum()) for a, b in pairs))

        def on_log(self, args, state, control, **kwargs):
            if state.global_step == 2:
                actions.carry_out(decided("refresh_teacher"), args, state, control, kwargs)

    settings = {"teacher_model_kind": "ema", "teacher_update_rate": 0.1, "teacher_sync_steps": 1, "max_steps": 5}
    trainer = make_trainer("sdft", tiny_model, tmp_path / "out", [Refresh()], **settings)
    trainer.train()
    assert [d == 0 for d in distances] == [True, False, False, True, False]
    assert trainer.args.teacher_update_rate == 0.1


def test_what_cannot_be_done_is_named_in_the_outcome(tiny_model, tmp_path):
    trainer = make_trainer("sft", tiny_model, tmp_path / "out", [])
    given = (trainer.args, trainer.state, trainer.control, {"model": trainer.model})
    actions = TrainerActions(GuardSettings())
    assert "none" in actions.carry_out(decided("freeze_teacher"), *given)
    assert "not done" in actions.carry_out(decided("mask_tokens"), *given)
    assert not trainer.control.should_training_stop
    assert not actions.has_ended
    assert "not rolled back" in actions.carry_out(decided("roll_back"), *given)
    assert trainer.control.should_training_stop
    assert actions.has_ended


@pytest.mark.parametrize("ending", ["stop", "end_stage", "roll_back"])
def test_where_a_training_ends_nothing_else_is_done(ending, tiny_model, tmp_path):
    settings = {"teacher_model_kind": "ema", "max_steps": 9, "learning_rate": 4e-3}
    trainer = make_trainer("sdft", tiny_model, tmp_path / "out", [], **settings)
    trainer.create_optimizer_and_scheduler(9)
    trainer.state.max_steps, sync = 9, trainer.args.teacher_sync_steps
    given = {"model": trainer.model, "optimizer": trainer.optimizer, "lr_scheduler": trainer.lr_scheduler}
    outcome = TrainerActions(GuardSettings()).carry_out(
        decided("freeze_teacher", "lower_rate", ending), trainer.args, trainer.state, trainer.control, given
    )
    assert trainer.args.teacher_sync_steps == sync
    assert trainer.optimizer.param_groups[0]["initial_lr"] == 4e-3
    assert trainer.control.should_training_stop
    assert "the teacher is frozen" not in outcome
    assert "the learning rate is" not in outcome
    if ending == "roll_back":
        assert "teacher_sync_steps=10" in outcome
    else:
        assert "freeze_teacher, lower_rate not done" in outcome


@pytest.mark.parametrize(("every", "newest"), [(1, 5), (2, 1), (3, None)])
def test_the_checkpoint_to_go_back_to_is_two_windows_older(every, newest, tiny_model, tmp_path):
    trainer = make_trainer("sft", tiny_model, tmp_path / "out", [], learning_rate=4e-3)
    trainer.state.logging_steps = every
    for step in (1, 5, 6, 9):
        (tmp_path / f"out/checkpoint-{step}").mkdir(parents=True)
        (tmp_path / f"out/checkpoint-{step}/trainer_state.json").touch()
    (tmp_path / "out/checkpoint-4").mkdir()  # not whole
    given = (trainer.args, trainer.state, trainer.control, {"model": trainer.model})
    outcome = TrainerActions(GuardSettings(window=2)).carry_out(decided("roll_back", "freeze_teacher", step=9), *given)
    assert "learning_rate=0.002" in outcome
    if newest is None:
        assert "there is no checkpoint" in outcome
    else:
        assert str(tmp_path / f"out/checkpoint-{newest}'") in outcome


def test_a_lowered_rate_is_the_checkpoints_whatever_is_set(tiny_model, tmp_path):
    """As outcomes say: a resumed training takes the rate from the optimizer's state, not from the arguments."""

    class Lower(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 1:
                TrainerActions(GuardSettings()).carry_out(decided("lower_rate"), args, state, control, kwargs)

    def train(callbacks, steps, rate, **resume):
        settings = {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant", "max_steps": steps}
        trainer = make_trainer("sft", tiny_model, tmp_path / "out", callbacks, learning_rate=rate, **settings)
        trainer.train(**resume)
        return [line["learning_rate"] for line in trainer.state.log_history if "learning_rate" in line]

    assert train([Lower()], 2, 4e-3) == pytest.approx([4e-3, 2e-3])
    resumed = train([], 3, 1e-2, resume_from_checkpoint=str(tmp_path / "out/checkpoint-2"))
    assert resumed[-1] == pytest.approx(2e-3)


class _Poison(TrainerCallback):
    """Sets some gradients of one step to NaN, or to another value."""

    def __init__(self, step, value=float("nan")):
        self.step, self.value = step, value

    def on_step_begin(self, args, state, control, model, **kwargs):
        if state.global_step == self.step - 1:
            self.before = weights(model)

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        if state.global_step == self.step - 1:
            next(model.parameters()).grad[0] = self.value


@pytest.mark.parametrize("mode", ["warn", "act"])
@pytest.mark.parametrize("every", [1, 100])
def test_gradients_that_are_not_finite_are_seen_before_the_weights_move(mode, every, tiny_model, tmp_path):
    poison = _Poison(3)
    callbacks = [poison, watch(tmp_path, guard=mode, probe_steps=0, drift=False)]
    settings = {"logging_steps": every, "max_grad_norm": 0.0}
    trainer = make_trainer("sft", tiny_model, tmp_path / "out", callbacks, **settings)
    with pytest.warns(UserWarning, match="not_finite at step 3") as caught:
        trainer.train()
    messages = [str(warning.message) for warning in caught]
    assert any("cannot answer any more" in message for message in messages) == (mode == "warn")
    (decision,) = lines(tmp_path / "watched/decisions.jsonl")
    now = weights(trainer.model)
    if mode == "warn":
        assert decision["outcome"] == "warned"
        assert trainer.state.global_step == 4
        assert any(value.isnan().any() for value in now.values())
        assert json.loads((tmp_path / "watched/summary.json").read_text())["status"] == "stopped"
    else:
        assert "no weight changes" in decision["outcome"]
        assert trainer.state.global_step == 3
        assert all(torch.equal(value, poison.before[name]) for name, value in now.items())
        assert json.loads((tmp_path / "watched/summary.json").read_text())["status"] == "stopped"


def test_gradients_whose_squares_overflow_are_finite(tiny_model, tmp_path):
    callbacks = [_Poison(3, 1e30), watch(tmp_path, guard="act", probe_steps=0, drift=False)]
    trainer = make_trainer("sft", tiny_model, tmp_path / "out", callbacks, logging_steps=100, max_grad_norm=0.0)
    trainer.train()
    assert trainer.state.global_step == 4
    assert lines(tmp_path / "watched/decisions.jsonl") == []

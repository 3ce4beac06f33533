"""`holdfast.model.logprobs`: every loss token is scored once, however the rows are cut into batches and parts."""

from contextlib import contextmanager

import pytest
import torch

from holdfast.config.settings import ModelSettings
from holdfast.data.example import Example
from holdfast.data.rows import Row
from holdfast.model import logprobs
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.model.logprobs import completion_logprobs, vocabulary_logprobs

PROMPTS = [[5, 6, 7], [8, 9], [5, 6, 7], [10], [11, 12]]
COMPLETIONS = [[11, 12, 13, 14], [15], [], [16, 17], [18, 19, 20]]
POSITIONS = [range(4), range(1), range(0), [1], [0, 2]]


def _expected(model, prompt, completion):
    """Log-probabilities [T, V] after a prompt, from the model's own logits over one sequence."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return logits.double().log_softmax(-1)


@pytest.mark.parametrize("may_pack", [True, False])
@pytest.mark.parametrize(("batch_tokens", "tokens_in_part"), [(4096, 1000), (6, 1000), (4096, 2), (1, 1)])
def test_every_loss_token_is_scored_once(may_pack, batch_tokens, tokens_in_part, tiny_model, monkeypatch):
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    monkeypatch.setattr(logprobs, "LOGIT_BUDGET", tokens_in_part * policy.head.weight.shape[0])
    expected = torch.cat(
        [
            _expected(policy.model, prompt, completion)[list(wanted)]
            for prompt, completion, wanted in zip(PROMPTS, COMPLETIONS, POSITIONS, strict=True)
            if wanted
        ]
    )
    places = []
    parts = vocabulary_logprobs([policy], PROMPTS, COMPLETIONS, POSITIONS, batch_tokens=batch_tokens, may_pack=may_pack)
    for index, (found,) in parts:
        assert 0 < len(index) <= tokens_in_part
        torch.testing.assert_close(found.double(), expected[index], atol=1e-4, rtol=1e-4)
        assert not found.requires_grad
        places += index.tolist()
    assert sorted(places) == list(range(len(expected)))


def test_a_model_and_its_base_take_turns(tiny_model):
    settings = ModelSettings.model_validate({"path": str(tiny_model), "lora": {"r": 2}})
    before, policy = load_policy(settings), load_policy(settings)
    base = Base(policy)
    with torch.no_grad():
        for weight in policy.named_trainable().values():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    (part,) = vocabulary_logprobs([base.scoring, policy], PROMPTS[:1], COMPLETIONS[:1], batch_tokens=4096)
    for found, model in zip(part.logprobs, (before, policy), strict=True):
        expected = _expected(model.model, PROMPTS[0], COMPLETIONS[0])
        torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)
    assert not torch.equal(*part.logprobs)


def test_a_state_that_scores_is_left_before_results_are_given(tiny_model):
    policy, entered = load_policy(ModelSettings(path=str(tiny_model))), []

    @contextmanager
    def scoring():
        entered.append(True)
        yield policy
        entered.pop()

    for _ in vocabulary_logprobs([scoring], PROMPTS, COMPLETIONS, batch_tokens=6):
        assert entered == []


def test_logprobs_of_tokens_come_in_the_order_of_the_rows(tiny_model):
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    rows = [Row(Example(str(i), ()), p, c) for i, (p, c) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True))]
    rows[0].skip_tokens = 3
    rows[4].tool_mask = [1, 0, 1]
    rows.append(rows[0])  # the same row twice
    found = completion_logprobs(policy, rows, batch_tokens=6)
    for row, own in zip(rows, found, strict=True):
        wanted = row.loss_positions()
        chosen = [
            float(_expected(policy.model, row.prompt_ids, row.completion_ids)[t, row.completion_ids[t]]) for t in wanted
        ]
        assert own == pytest.approx(chosen, abs=1e-4)

"""Response drift: divergences against direct computation, statistics against scipy and closed forms, the command."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress, spearmanr, t
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from commands import Commands
from holdfast.data.example import Example, Message
from holdfast.errors import DataError, ModelError
from holdfast.evaluate.answer_files import load_prompts
from holdfast.evaluate.divergences import divergences, require_same_tokens, response_drift
from holdfast.evaluate.embedding import Embedder, compare_embeddings
from holdfast.evaluate.sampled import Sampling, load, sample_answers
from holdfast.measure.answers import Answer, PromptSet
from holdfast.measure.response import (
    compare_greedy,
    distinct,
    edit_distance,
    fit_forgetting,
    normalized_edit,
    per_token,
)
from holdfast.model import logprobs
from holdfast.model.policy import Policy
from holdfast.sampling.sampler import Request, Sampler
from tiny_model import SAMPLE_TEXTS, build_tiny_model


def _table_distance(a: Sequence[str], b: Sequence[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[:], i
        for j, y in enumerate(b, 1):
            row[j] = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y))
    return row[-1]


@given(st.lists(st.sampled_from("abc"), max_size=14), st.lists(st.sampled_from("abc"), max_size=14))
def test_edit_distance_is_the_tables(a: list[str], b: list[str]) -> None:
    assert edit_distance(a, b) == _table_distance(a, b) == edit_distance(b, a)


def test_edit_distance_of_long_answers() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 5, size=n).tolist() for n in (300, 220))
    assert edit_distance(a, b) == _table_distance(a, b)
    assert normalized_edit(a, b) == edit_distance(a, b) / 300
    assert normalized_edit("kitten", "sitting") == 3 / 7
    assert (normalized_edit([], []), normalized_edit("ab", ""), normalized_edit("ab", "cd")) == (0, 1, 1)


def test_per_token() -> None:
    # Answers of one length: the plain mean and its standard error.
    values = [0.2, 0.5, 0.9, 0.1]
    found = per_token({str(i): [v] for i, v in enumerate(values)}, {str(i): [10] for i in range(4)})
    assert found.mean == pytest.approx(sum(values) / 40)
    assert found.se == pytest.approx(np.std(values, ddof=1) / math.sqrt(4) / 10)
    assert found.per_answer == pytest.approx(sum(values) / 4)
    # Two answers to a prompt are one observation.
    assert per_token({"p": [1.0, 2.0]}, {"p": [4, 6]}).se is None
    assert per_token({"p": [1.0, 2.0]}, {"p": [4, 6]}).mean == 0.3


def test_error_per_token_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(0)
    means, errors = [], []
    for _ in range(400):
        tokens = rng.integers(5, 60, size=40)
        sums = tokens * 0.3 + rng.normal(0, 0.4, size=40) * np.sqrt(tokens)
        found = per_token(*({str(i): [x] for i, x in enumerate(y.tolist())} for y in (sums, tokens)))
        means.append(found.mean)
        errors.append(found.se)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)


def test_distinct() -> None:
    assert distinct(["abab"], 1) == 0.5
    assert distinct(["abab"], 2) == pytest.approx(2 / 3)
    assert distinct(["ab", "ab"], 2) == 0.5
    assert distinct(["a"], 2) == 0


def test_greedy_answers_by_hand() -> None:
    a = [Answer("p", "one two three"), Answer("q", "x y")]
    b = [Answer("p", "one two three"), Answer("q", "x z z z")]
    found = compare_greedy(a, b)
    assert found["agreement"]["mean"] == 0.5
    assert found["per_prompt"] == [0, 0.75]
    assert found["edit"]["mean"] == 0.375
    assert (found["length"]["a"], found["length"]["b"]) == (2.5, 3.5)
    # Over the first two words of the second pair.
    assert found["distinct"]["1"] == {"a": 1.0, "b": 1.0}


def test_fit_of_forgetting_is_scipys() -> None:
    rng = np.random.default_rng(0)
    kl = rng.uniform(0, 2, size=12)
    lost = 0.05 + 0.2 * kl + rng.normal(0, 0.05, size=12)
    found, line, ranks = fit_forgetting(kl.tolist(), lost.tolist()), linregress(kl, lost), spearmanr(kl, lost)
    assert (found.slope, found.intercept) == pytest.approx((line.slope, line.intercept))
    half = t.ppf(0.975, 10) * line.stderr
    assert found.slope_ci95 == pytest.approx((line.slope - half, line.slope + half))
    assert (found.r2, found.p, found.n) == pytest.approx((line.rvalue**2, line.pvalue, 12))
    assert (found.spearman, found.spearman_p) == pytest.approx((ranks.statistic, ranks.pvalue))
    parabola = np.polyval(np.polyfit(kl, lost, 2), kl)
    assert found.r2_quadratic == pytest.approx(1 - ((lost - parabola) ** 2).sum() / ((lost - lost.mean()) ** 2).sum())
    value, (low, high) = found.predict(0.0)
    assert value == pytest.approx(line.intercept)
    assert (high - low) / 2 == pytest.approx(t.ppf(0.975, 10) * line.intercept_stderr)
    assert json.loads(json.dumps(found.as_json()))["n"] == 12


def test_fits_at_the_edge() -> None:
    exact = fit_forgetting([0, 1, 2], [1, 3, 5])
    assert (exact.slope, exact.r2, exact.spearman, exact.r2_quadratic) == pytest.approx((2, 1, 1, None))
    flat = fit_forgetting([0, 1, 2, 3], [1, 1, 1, 1])
    assert (flat.slope, flat.r2, flat.p, flat.spearman) == (0, 0, 1, 0)
    for kl in ([1, 2], [1, 1, 1]):
        with pytest.raises(ValueError, match="three runs"):
            fit_forgetting(kl, kl)


# With models


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Policy]:
    """Two small random models of one tokenizer, with weights so large that they are sure of what they say."""
    folder = tmp_path_factory.mktemp("pair")
    found = []
    for seed in range(2):
        policy = load(str(build_tiny_model(folder / str(seed), texts=SAMPLE_TEXTS, seed=seed)))
        with torch.no_grad():
            for weight in policy.model.parameters():
                if weight.ndim == 2:
                    weight.mul_(8.0)
        found.append(policy)
    return found[0], found[1]


ROWS = (
    [[5, 6, 7], [8, 9], [5, 6, 7], [10]],
    [[11, 12, 13, 14], [15], [16, 17], [18, 19, 20]],
)


def test_divergences_are_those_of_the_models_own_logits(
    pair: tuple[Policy, Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    found = divergences(a, b, *ROWS)
    for prompt, completion, each in zip(*ROWS, found, strict=True):
        ids = torch.tensor([prompt + completion])
        with torch.no_grad():
            logits = [x.model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double() for x in pair]
        p, q = (torch.distributions.Categorical(logits=x) for x in logits)
        expected = [
            torch.distributions.kl_divergence(p, q),
            torch.distributions.kl_divergence(q, p),
            p.entropy(),
            q.entropy(),
        ]
        sums = (each.kl_ab, each.kl_ba, each.entropy_a, each.entropy_b)
        assert sums == pytest.approx([float(x.sum()) for x in expected], rel=1e-4)
        assert each.tokens == len(completion)
    # However rows and tokens are cut into batches and chunks.
    monkeypatch.setattr(logprobs, "LOGIT_BUDGET", a.head.weight.shape[0] * 3)
    for one, two in zip(found, divergences(a, b, *ROWS, batch_tokens=8), strict=True):
        assert (one.kl_ab, one.entropy_b) == pytest.approx((two.kl_ab, two.entropy_b), rel=1e-4)


def test_divergence_on_own_samples_is_that_of_whole_answers(pair: tuple[Policy, Policy]) -> None:
    """Its mean is the mean of log p(answer) − log q(answer) over A's samples, which has the larger spread."""
    a, b = pair
    requests = [Request([1, 2, 3], seed=index) for index in range(200)]
    answers = [c.ids for c in Sampler(a).generate(requests, max_new_tokens=6, batch_tokens=4096)]
    exact = [each.kl_ab for each in divergences(a, b, [[1, 2, 3]] * len(answers), answers)]
    ratios = []
    for ids in answers:
        with torch.no_grad():
            logprobs = [
                x.model(input_ids=torch.tensor([[1, 2, 3, *ids]])).logits[0, 2:-1].log_softmax(-1) for x in pair
            ]
        ratios.append(sum(float(logprobs[0][i, token] - logprobs[1][i, token]) for i, token in enumerate(ids)))
    difference = np.array(ratios) - np.array(exact)
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(len(difference))
    assert np.std(exact) < np.std(ratios)


def _prompts(count: int) -> PromptSet:
    examples = {f"p{n}": Example(f"p{n}", (Message(role="user", content=f"What is {n}?"),)) for n in range(count)}
    return PromptSet(examples, dict.fromkeys(examples, "sums"), {})


def test_a_model_has_not_drifted_from_itself(pair: tuple[Policy, Policy]) -> None:
    found = response_drift(pair[0], pair[0], _prompts(3), samples=2, max_new_tokens=8)
    assert found["greedy"]["agreement"]["mean"] == 1
    assert found["greedy"]["edit"]["mean"] == 0
    assert all(row["mean"] == 0 for row in found["kl"])
    assert found["entropy"]["a"] == found["entropy"]["b"]


def test_drift_between_models(pair: tuple[Policy, Policy]) -> None:
    told: list[str] = []

    def tell(name: str):
        return lambda done, of: told.append(f"{name} {done}/{of}")

    found = response_drift(*pair, _prompts(4), max_new_tokens=8, progress=tell)
    assert told == ["a, greedy 4/4", "b, greedy 4/4", "a, sampled 4/4", "b, sampled 4/4"]
    assert found["greedy"]["edit"]["mean"] > 0.5
    kl = {(row["direction"], row["samples"]): row for row in found["kl"]}
    assert set(kl) == {(d, s) for d in ("KL(A‖B)", "KL(B‖A)") for s in "AB"}
    assert all(row["mean"] > 3 * row["se"] > 0 for row in found["kl"])
    # Seen from the other side, the same numbers.
    back = response_drift(*pair[::-1], _prompts(4), max_new_tokens=8)
    swapped = {(row["direction"], row["samples"]): row for row in back["kl"]}
    assert swapped["KL(A‖B)", "A"]["mean"] == pytest.approx(kl["KL(B‖A)", "B"]["mean"], rel=1e-4)
    assert swapped["KL(B‖A)", "A"]["mean"] == pytest.approx(kl["KL(A‖B)", "B"]["mean"], rel=1e-4)
    edits = [row["edit"] for row in found["moved"]]
    assert edits == sorted(edits, reverse=True)
    # The order of the prompts is no matter.
    turned = _prompts(4)
    turned = PromptSet(dict(reversed(turned.examples.items())), turned.task_of, {})
    again = response_drift(*pair, turned, max_new_tokens=8)
    assert [row["mean"] for row in again["kl"]] == pytest.approx([row["mean"] for row in found["kl"]], rel=1e-4)


def test_models_of_other_tokens_are_refused(pair: tuple[Policy, Policy]) -> None:
    with pytest.raises(ModelError, match="its vocabulary differs from that of"):
        require_same_tokens(pair[0], load("lab"))


def test_answers_that_do_not_fit() -> None:
    lab = load("lab")
    prompts = load_prompts(["lab:facts"], limit=2)
    assert len(sample_answers(lab, prompts, Sampling())) == 2  # as much as the context of 256 holds
    with pytest.raises(DataError, match=r"the model's context has 256 .lower --max-new-tokens"):
        sample_answers(lab, prompts, Sampling(max_new_tokens=250))


def test_embeddings_are_means_of_hidden_states(tiny_model: Path) -> None:
    embedder = Embedder(tiny_model)
    texts = ["What is the capital of France?", "Paris.", "", "B"]
    found = embedder.embed(texts)
    model, tokenizer = AutoModel.from_pretrained(tiny_model).eval(), AutoTokenizer.from_pretrained(tiny_model)
    for text, row in zip(texts, found):
        if not text:
            assert float(row.abs().sum()) == 0
            continue
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(row, hidden.mean(0), rtol=1e-4, atol=1e-5)
    same = compare_embeddings(embedder, texts, texts)
    assert (same["mean"], same["n"]) == (1.0, 4)
    assert same["shuffled"] < 1
    assert float(embedder.embed([""]).abs().sum()) == 0


def test_embedding_models_that_cannot_be_used(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no folder with a config\.json"):
        Embedder(tmp_path)
    shutil.copy(tiny_model / "config.json", tmp_path)
    with pytest.raises(ModelError, match="cannot be loaded"):
        Embedder(tmp_path)


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token", "lasttoken"])
def test_embeddings_are_pooled_as_the_folder_says(pooling: str, tmp_path: Path) -> None:
    """An encoder in the files of sentence-transformers."""
    folder = tmp_path / "encoder"
    tokenizer = AutoTokenizer.from_pretrained(build_tiny_model(tmp_path / "words", texts=SAMPLE_TEXTS, vocab_size=300))
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    modes = {
        f"pooling_mode_{each}": each == pooling for each in ("cls_token", "mean_tokens", "max_tokens", "lasttoken")
    }
    settings = {"word_embedding_dimension": 16, **modes, "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    texts = ["What is the capital of France?", "Paris."]
    found, model = Embedder(folder).embed(texts), AutoModel.from_pretrained(folder).eval()
    for text, row in zip(texts, found, strict=True):
        with torch.no_grad():
            hidden = model(input_ids=tokenizer(text, return_tensors="pt")["input_ids"]).last_hidden_state[0]
        expected = {"mean_tokens": hidden.mean(0), "cls_token": hidden[0], "lasttoken": hidden[-1]}[pooling]
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-5)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ModelError, match="max_tokens, which is not supported"):
        Embedder(folder)
    (folder / "modules.json").write_text(json.dumps([*modules, {"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ModelError, match="Dense, which is not supported"):
        Embedder(folder)


def test_command(command: Commands, tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["lab", "lab", "lab:facts", "--limit", "3", "--max-new-tokens", "12", "--embedder", tiny_model]
    outcome = command("responses", *arguments, "--json", tmp_path / "found.json")
    assert outcome.code == 0, outcome.err
    assert outcome.err.splitlines()[0] == "answers of a, greedy: 3 prompts"
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["prompts"], found["embedding"]["mean"], len(found["moved"])) == (3, 1, 3)
    for words in ("KL(A‖B)", "exact over the vocabulary", "embedding similarity", "distinct-2"):
        assert words in outcome.out
    assert command("responses", "lab", tmp_path / "none", "lab:facts").code == 2

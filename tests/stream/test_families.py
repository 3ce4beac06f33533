"""`holdfast.stream.run`: a run on each common family of models gives a model that plain transformers loads, and that
writes the demonstration as its own template would.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import holdfast
from families import FAMILIES, Family

QUESTIONS = ("Which one is it?", "Which one is it!")
UNSEEN = "Which one is it."
CONTENT = 'red 7:\n  "blü"'
"""With what templates and tokenizers are apt to change: a quote, a line break, indentation, a letter of two bytes."""

THOUGHTS = "hm"
TEXTS = {"an answer": CONTENT, "thoughts and an answer": f"<think>\n{THOUGHTS}\n</think>\n\n{CONTENT}"}


def config_of(family: Family, folder: Path, demonstration: str, content: str) -> dict[str, Any]:
    """A run of 20 steps of SFT on one demonstration."""
    train, test = folder / "train.jsonl", folder / "test.jsonl"
    for path, questions in ((train, QUESTIONS), (test, (UNSEEN,))):
        records = ({"prompt": each, "completion": demonstration, "answer": content} for each in questions)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return {
        "name": family.name,
        "model": {"path": str(family.write(folder / "model"))},
        "tasks": [{"name": "own", "train": str(train), "test": str(test), "verifier": "families:equals"}],
        "recipe": "sft",
        "train": {
            "steps": 20,
            "prompts_per_step": 2,
            "learning_rate": 4e-3,
            "adam_beta2": 0.9,
            "warmup_steps": 0,
            "max_prompt_length": 2000,
            "max_completion_length": 80,
            "save_steps": 20,
        },
        "eval": {"max_items": 1, "kl_items": 0, "response_items": 0, "drift_weights": 0, "samples": 0},
    }


def written_by(folder: Path) -> str:
    """What plain transformers generates greedily with a model, its special tokens shown, up to the end of its turn."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTIONS[0]}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = model.generate(**inputs, max_new_tokens=80, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
    ends = model.generation_config.eos_token_id
    assert ids[-1] in (ends if isinstance(ends, list) else [ends]), "it does not end"
    return tokenizer.decode(ids[:-1], clean_up_tokenization_spaces=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_trained_model_writes_the_demonstration_as_its_template_does(
    family: Family, kind: str, tmp_path: Path
) -> None:
    # A template that knows no thoughts writes them as a part of the answer.
    known = kind == "an answer" or family.thinking is not None
    content = CONTENT if known else TEXTS[kind]
    form = family.thinking if known and kind != "an answer" else family.bare
    summary = holdfast.run(config_of(family, tmp_path, TEXTS[kind], content), tmp_path / "run")
    assert written_by(tmp_path / "run" / "models" / "stage-1") == form.format(content=content, thoughts=THOUGHTS)
    # The verifier compares every character.
    assert [evaluation["scores"]["own"]["mean"] for evaluation in summary["evaluations"]] == [0.0, 1.0]

"""`holdfast.data.chat`: its targets beside those of TRL's `SFTTrainer`, token for token, for each family of models."""

import atexit
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from families import FAMILIES, Family
from holdfast.config.settings import ModelSettings
from holdfast.data.example import Example, Message
from holdfast.data.thoughts import join_thoughts
from holdfast.model.load import load_policy
from page_tables import code, held, markdown

HISTORIES: tuple[tuple[Message, ...], ...] = (
    (Message(role="user", content="Which one?"),),
    (
        Message(role="user", content="Which one?"),
        Message(role="assistant", content="blue 8"),
        Message(role="user", content="And now?"),
    ),
)
CONTENT, THOUGHTS = 'red 7:\n  "blü"', "hm"
KINDS = ("an answer", "thoughts")

AFTER_THE_END: Mapping[str, str] = {
    "qwen2": "\n",
    "qwen3": "\n",
    "qwen3-moe": "\n",
    "gemma2": "\n",
    "gemma3": "\n",
    "phi3": "<|endoftext|>",
    "mamba2": "\n",
    "lfm2": "\n",
    "nemotron-h": "\n",
}
"""What TRL trains on behind the token that ends the turn. A model never writes it: it has ended."""

WITHOUT_END = {"glm4-moe": "<|user|>"}
"""Families whose template ends no last turn. TRL trains on no end; holdfast on the token that ends an earlier turn."""

OTHER_TARGETS: Mapping[tuple[str, str], tuple[str, str, str]] = {
    ("r1-distill", "an answer"): ("<think>\n", f"{CONTENT}", f"\n</think>\n\n{CONTENT}"),
    ("r1-distill", "thoughts"): ("<think>\n", f"\n\n{CONTENT}", f"{THOUGHTS}\n</think>\n\n{CONTENT}"),
    ("nemotron-h", "an answer"): ("\n", f"</think>{CONTENT}", f"</think>{CONTENT}"),
}
"""Where the whole conversation does not continue the prompt: the end of the prompt that TRL leaves out, and the targets
of TRL and holdfast without the token that ends the turn. The model that is trained sees the whole prompt when it is
asked, so holdfast leaves nothing of it out, and the thoughts that the prompt has opened are closed."""


def demonstration(family: Family, kind: str) -> Message:
    """A demonstration as TRL takes it: thoughts are under the key that transformers documents."""
    turn = Message(role="assistant", content=CONTENT)
    if kind == "thoughts" and family.thinking is not None and family.name != "r1-distill":
        turn["reasoning_content"] = THOUGHTS
    elif kind == "thoughts":
        turn["content"] = join_thoughts(THOUGHTS, CONTENT)
    return turn


@cache
def in_folder(name: str) -> Path:
    """A family's model, written once."""
    folder = Path(mkdtemp(prefix="holdfast-families-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return next(family for family in FAMILIES if family.name == name).write(folder / "model")


def targets_of_trl(folder: Path, answer: Message) -> list[tuple[list[int], list[int]]]:
    """Prompt and target after each history, as TRL tokenizes them."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    settings = {"completion_only_loss": True, "max_length": None, "use_cpu": True, "bf16": False, "report_to": "none"}
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder),
        args=SFTConfig(output_dir=str(folder.parent / "trl"), disable_tqdm=True, **settings),
        train_dataset=Dataset.from_list([{"prompt": list(each), "completion": [answer]} for each in HISTORIES]),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    found = []
    for row in trainer.train_dataset:
        begin = next(index for index, label in enumerate(row["labels"]) if label != -100)
        assert row["labels"][begin:] == row["input_ids"][begin:]
        found.append((row["input_ids"][:begin], row["input_ids"][begin:]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_targets_are_those_of_trl(family: Family, kind: str) -> None:
    folder, answer = in_folder(family.name), demonstration(family, kind)
    chat_format = load_policy(ModelSettings(path=str(folder), attn_implementation="eager")).chat_format
    text = join_thoughts(answer.get("reasoning_content"), answer["content"])

    def tokens(text: str) -> list[int]:
        return list(chat_format.tokenizer(text, add_special_tokens=False)["input_ids"])

    for history, (their_prompt, their_target) in zip(HISTORIES, targets_of_trl(folder, answer), strict=True):
        ours = chat_format.encode_demonstration(Example("one", history, demonstration=text))
        assert ours.tool_mask is None
        after = tokens(AFTER_THE_END.get(family.name, ""))
        if family.name in WITHOUT_END:
            assert (their_prompt, their_target) == (ours.prompt_ids, ours.ids[:-1])
            assert ours.ids[-1:] == tokens(WITHOUT_END[family.name])
        elif (family.name, kind) not in OTHER_TARGETS:
            assert (their_prompt, their_target) == (ours.prompt_ids, [*ours.ids, *after])
        else:
            left_out, their_text, our_text = OTHER_TARGETS[family.name, kind]
            end = ours.ids[-1:]
            assert [*their_prompt, *tokens(left_out)] == ours.prompt_ids
            assert their_target == [*tokens(their_text), *end, *after]
            assert ours.ids == [*tokens(our_text), *end]


def table() -> str:
    """The page's table of differences."""
    names = {family.name for family in FAMILIES}
    assert {*AFTER_THE_END, *WITHOUT_END, *(name for name, _ in OTHER_TARGETS)} <= names
    behind = dict[str, list[str]]()
    for name, text in AFTER_THE_END.items():
        behind.setdefault(text, []).append(name)
    rows = [[", ".join(names), "", f"{code(text)} behind the end", "nothing"] for text, names in behind.items()]
    rows += [[name, "", "no end", code(text)] for name, text in WITHOUT_END.items()]
    for (name, kind), (left_out, theirs, ours) in OTHER_TARGETS.items():
        short = [code(text.replace(CONTENT, "red 7")) for text in (theirs, ours)]
        rows.append([f"{name}, {kind}", code(left_out), *short])
    return markdown(
        [["family", "TRL leaves out of the prompt", "TRL trains on", "holdfast trains on"], ["---"] * 4, *rows]
    )


def test_the_page_has_the_differences() -> None:
    assert held("tests/data/test_families_targets.py") == table(), f"the table is now\n\n{table()}"

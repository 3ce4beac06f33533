"""The chat templates that TRL ships, and a small tokenizer for any chat template.

A template's tokens are single tokens here, as in the tokenizer that it was written for.
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from holdfast.data.chat import ChatFormat

_FOLDER = Path(next(iter(find_spec("trl").submodule_search_locations))) / "chat_templates"  # without importing it

NAMES = tuple(sorted(path.stem for path in _FOLDER.glob("*.jinja") if not path.stem.endswith("_training")))
"""Those that models ship. TRL's others are variants of them for training."""

THINK_TAGS = ("<think>", "</think>")
"""Tokens of their own, but not special, in the tokenizers that have them."""

_TOKEN = re.compile(
    r"<[|｜][^<>|｜\s\"]+[|｜]>|<\|[a-z_]+>|<[a-z_]+\|>|<(?:start|end)_of_[a-z]+>|</?s>|<image>|<sop>|\[gMASK\]|\[/?INST\]"
)
_PIECES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""No token is longer than one of these, as in most tokenizers of today."""

_BYTE_PAIRS = (
    "What is the capital of the question? The answer is here, and you are the assistant of the user.",
    "You are a helpful assistant. system user assistant model tool thought analysis final",
    *("red 7\n\n",) * 4,
)
"""With the pairs that tokenizers have at the borders of turns: two line breaks, and a space before a word."""


def text_of(name: str) -> str:
    """One of TRL's templates."""
    return (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def tokens_in(template: str) -> list[str]:
    """The special tokens that a template writes."""
    return sorted({*_TOKEN.findall(template)} - {"<|final|>"})  # a name in a message of GPT-OSS's, no token


def tokenizer_for(
    template: str,
    *,
    special: Iterable[str] = (),
    plain: Iterable[str] = (),
    bos: str | None = None,
    eos: str,
    pad: str | None = None,
    adds_bos: bool = False,
    strips_right: Iterable[str] = (),
    vocab_size: int = 400,
) -> "PreTrainedTokenizerFast":
    """A byte-level BPE tokenizer with a chat template.

    Args:
        special: single tokens that `skip_special_tokens` drops, besides `bos`, `eos` and `pad`.
        plain: single tokens that it keeps.
        adds_bos: a text that is encoded with special tokens begins with `bos`.
        strips_right: special tokens that swallow the white space behind them.
        vocab_size: without `plain` and the special tokens.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_PIECES), "isolated"), byte_level])
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        _BYTE_PAIRS, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    )
    named = [token for token in (bos, eos, pad) if token is not None]
    strips = set(strips_right)
    core.add_special_tokens(
        [AddedToken(t, normalized=False, special=True, rstrip=t in strips) for t in dict.fromkeys([*named, *special])]
    )
    core.add_tokens([AddedToken(token, normalized=False, special=False) for token in plain])
    if adds_bos:
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, core.token_to_id(bos))]
        )
    names: dict[str, Any] = {"bos_token": bos, "eos_token": eos, "pad_token": pad}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=8192, **{key: token for key, token in names.items() if token}
    )
    tokenizer.chat_template = template
    return tokenizer


@cache
def shipped(name: str) -> "PreTrainedTokenizerFast":
    """A tokenizer for one of TRL's templates, with the special tokens that the template writes."""
    template = text_of(name)
    ends = ("<|return|>", "<|eot|>", "<|eot_id|>", "<|im_end|>", "<|END_OF_TURN_TOKEN|>", "<end_of_turn>", "<turn|>")
    tokens = tokens_in(template)
    more = ("<｜end▁of▁sentence｜>", "<end_of_utterance>", "</s>")
    eos = next((token for token in (*ends, *more) if token in tokens), "<|endoftext|>")
    plain = [tag for tag in THINK_TAGS if tag in template]
    bos = "<|begin_of_text|>" if name.startswith("idefics") else "<s>" if "bos_token" in template else None
    return tokenizer_for(template, special=[*tokens, "<|endoftext|>"], plain=plain, bos=bos, eos=eos)


EOS_BESIDES = {"glm4moe": ("<|user|>", "<|observation|>"), "gptoss": ("<|call|>",)}
"""Tokens that end a completion in a model's generation configuration, besides the tokenizer's and the template's."""


@cache
def chat_format(name: str) -> "ChatFormat":
    """The format of one of TRL's templates, as a loaded model has it."""
    from holdfast.data.chat import ChatFormat
    from holdfast.data.chat_template import ChatTemplate

    tokenizer = shipped(name)
    besides = tokenizer.convert_tokens_to_ids(list(EOS_BESIDES.get(name, ())))
    ends = {tokenizer.eos_token_id, ChatTemplate(tokenizer, {}).facts.turn_end_id, *besides}
    return ChatFormat(tokenizer, frozenset(ends - {None}))

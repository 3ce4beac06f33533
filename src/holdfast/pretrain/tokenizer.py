"""The lab's tokenizer: one token for every word of the world, bytes for everything else.

It is a Unigram model with a fixed, untrained vocabulary and byte fallback, so any text survives encoding and decoding.
The chat template uses one token per role.
"""

from pathlib import Path

from holdfast.data import teacher_prompts as contexts
from holdfast.lab import voice
from holdfast.lab.words import vocabulary

PAD, SYSTEM, USER, ASSISTANT, TOOL, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

_SPACE = "▁"


_PROMPT_TEXTS = (
    contexts.DEMONSTRATION_TEMPLATE,
    contexts.OTHER_EXAMPLE_TEMPLATE,
    contexts.REFERENCE_TEMPLATE,
    contexts.REPROMPT_TEMPLATE,
    contexts.SOLUTION_TEMPLATE,
    contexts.FEEDBACK_TEMPLATE,
    contexts.PLAN_TEMPLATE,
    contexts.ACTIONS_TEMPLATE,
    contexts.TRANSLATION_TEMPLATE,
    contexts.RIGHT_CUE,
    contexts.WRONG_CUE,
    contexts.numbered(["x"] * 5),
)
"""Whatever recipes add to a prompt by default."""


def _pieces() -> list[tuple[str, float]]:
    """The vocabulary with its scores. Words score above letters, and letters above bytes."""
    texts = [text.replace("{", " {").replace("}", "} ") for text in (*_PROMPT_TEXTS, *voice.TEXTS)]
    words = [w for w in vocabulary(*texts) if not (w.startswith("{") and len(w) > 1)]
    endings = [w[:-1] for w in words if len(w) > 1 and w[-1] in ".,:;"]
    singles = [chr(c) for c in range(33, 127)]
    pieces = {_SPACE + w: -4.0 for w in dict.fromkeys([*words, *endings])}
    pieces |= {_SPACE + "\n\n": -4.0, _SPACE + "\n": -4.5, _SPACE: -9.0, "\n": -9.0}
    pieces |= dict.fromkeys(singles, -9.0)
    pieces |= {f"<0x{byte:02X}>": -20.0 for byte in range(256)}
    return list(pieces.items())


def build_tokenizer(folder: Path) -> None:
    """Write the tokenizer and its chat template in Hugging Face format."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, SYSTEM, USER, ASSISTANT, TOOL, END]
    unknown = "<0x00>"
    pieces = [*((s, 0.0) for s in special), *_pieces()]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=[p for p, _ in pieces].index(unknown), byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\n+ ?"), "isolated"),
            pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(_SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Replace(" \n", "\n"),
            decoders.Replace("\n ", "\n"),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in special])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT, TOOL],
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(folder)

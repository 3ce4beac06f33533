"""The lab's tokenizer: one token for every word of the world, bytes for everything else.

It is a Unigram model with a fixed, untrained vocabulary and byte fallback, so any text survives encoding and decoding.
The chat template uses one token per role.
"""

from collections.abc import Sequence
from pathlib import Path

from holdfast.data import teacher_prompts as contexts
from holdfast.lab.words import vocabulary

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

_SPACE = "▁"


def _pieces() -> list[tuple[str, float]]:
    """The vocabulary with its scores. Words score above letters, and letters above bytes."""
    templates = (contexts.DEMONSTRATION_TEMPLATE, contexts.REPROMPT_TEMPLATE, contexts.SOLUTION_TEMPLATE)
    texts = [t.replace("{", " {").replace("}", "} ") for t in (*templates, contexts.FEEDBACK_TEMPLATE)]
    words = [w for w in vocabulary(*texts) if not (w.startswith("{") and len(w) > 1)]
    endings = [w[:-1] for w in words if len(w) > 1 and w[-1] in ".,:"]
    singles = [chr(c) for c in range(33, 127)]
    pieces = {_SPACE + w: -4.0 for w in dict.fromkeys([*words, *endings])}
    pieces |= {_SPACE + "\n\n": -4.0, _SPACE + "\n": -4.5, _SPACE: -9.0, "\n": -9.0}
    pieces |= dict.fromkeys(singles, -9.0)
    pieces |= {f"<0x{byte:02X}>": -20.0 for byte in range(256)}
    return list(pieces.items())


def build_tokenizer(folder: Path, more_words: Sequence[str] = (), more_roles: Sequence[str] = ()) -> None:
    """Write the tokenizer and its chat template in Hugging Face format.

    Args:
        more_words: additional words. Their tokens come after all others, so existing ids do not change.
        more_roles: additional message roles, besides system, user and assistant; also with new ids at the end.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, SYSTEM, USER, ASSISTANT, END]
    unknown = "<0x00>"
    roles = [f"<|{role}|>" for role in more_roles]
    own = _pieces()
    known = {piece for piece, _ in own}
    more = [_SPACE + word for word in dict.fromkeys(more_words) if _SPACE + word not in known]
    pieces = [*((s, 0.0) for s in special), *own, *((piece, -4.0) for piece in more), *((s, 0.0) for s in roles)]
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
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in [*special, *roles]])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT, *roles],
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(folder)

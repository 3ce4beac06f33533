"""Which arguments of a chat template a user may set, and which are ours."""

from collections.abc import Collection

OURS = {
    "tools": "give tools with the records, in their `tools`",
    "chat_template": "write the template into the model folder's chat_template.jinja",
    "strftime_now": "the date is the run's",
}
"""Arguments that would collide with what we pass, with what to do instead where there is something."""

TAKEN = frozenset(OURS) | {
    "add_generation_prompt",
    "continue_final_message",
    "conversation",
    "conversations",
    "load_audio_from_video",
    "max_length",
    "messages",
    "padding",
    "processor_kwargs",
    "raise_exception",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "sanitize_control_tokens",
    "self",
    "tokenize",
    "tokenizer_kwargs",
    "truncation",
}
"""All arguments of `apply_chat_template` but `documents`, which only the template reads; and the names in a template
that transformers defines. A test compares them with transformers."""

SPECIAL_TOKENS = frozenset(f"{kind}_token" for kind in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
"""Names under which a template reads the tokenizer's special tokens. Others would not be those that end a turn."""


def collision(names: Collection[str], special_tokens: Collection[str] = SPECIAL_TOKENS) -> str | None:
    """What is wrong with a user's arguments of a chat template, in one line; None if nothing is.

    Args:
        names: the arguments.
        special_tokens: names of the tokenizer's special tokens.
    """
    for name in sorted(names):
        if name in TAKEN:
            return f"{name!r} is set by holdfast; {OURS.get(name, 'leave it out')}"
        if name in special_tokens:
            return f"{name!r} is the tokenizer's; set it in tokenizer_config.json"
    return None

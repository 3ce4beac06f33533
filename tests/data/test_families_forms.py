"""`holdfast.data.chat`: its contract over chat templates that are put together from parts of real ones."""

from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.data.chat import ChatFormat
from holdfast.data.chat_template import ChatTemplate
from holdfast.data.example import Example, Message
from holdfast.data.thoughts import closing_tag, join_thoughts
from trl_templates import tokenizer_for

QUESTION = Message(role="user", content="Which one?")

HEADERS = (
    ("<|im_start|>", "\\n", "<|im_end|>"),
    ("<|start_header_id|>", "<|end_header_id|>\\n\\n", "<|eot_id|>"),
    ("<start_of_turn>", "\\n", "<end_of_turn>"),
    ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    ("### ", ":\\n", "</s>"),
)
"""What stands before a role, behind it, and at the end of a turn."""

BEGINNINGS = (
    *("", "<think>", "<think>\\n", "[THINK]", "<|START_THINKING|>", "<reasoning>\\n"),
    *("</think>", "<think></think>", "<think>\\n\\n</think>\\n\\n"),
)
"""What the prompt has behind the assistant's header."""

ANSWERS: Mapping[str, str] = {
    "as it is": "{{ m.content }}",
    "without thoughts": "{{ m.content.split('</think>')[-1].lstrip() }}",
    "with thoughts under a key": "{{ '<think>' + m.thinking + '</think>' if m.thinking }}{{ m.content }}",
    "with thoughts in brackets": "{{ '[THINK]' + m.thinking + '[/THINK]' if m.thinking }}{{ m.content }}",
    "with a block, maybe empty": "{{ '<think>\\n' + (m.thinking or '') + '\\n</think>\\n\\n' + m.content }}",
    "with an empty block": "{{ '<think>\\n\\n</think>\\n\\n' + m.content }}",
    "with a closing tag": "{{ '</think>' + m.content }}",
}
ENDS = ("{}\\n", "{}", " {}", "\\n{}\\n")
"""White space around the token that ends a turn."""

TEXTS = ("red 7", join_thoughts("hm", "red 7"), join_thoughts("a\nb", "x </think> y"), "explain <think> and </think>")
TAGS = ("<think>", "[THINK]", "<|START_THINKING|>", "<reasoning>")


@dataclass(frozen=True)
class Form:
    """A chat template of parts."""

    header: tuple[str, str, str]
    begins: str
    answer: str
    end: str
    last_question: str

    def chat_format(self) -> ChatFormat:
        before, behind, end = self.header
        template = (
            f"{{% for m in messages %}}{{{{ '{before}' + m.role + '{behind}' }}}}{{% if m.role == 'assistant' %}}"
            f"{ANSWERS[self.answer]}{{% else %}}{{{{ m.content + ('{self.last_question}' if loop.last else '') }}}}"
            f"{{% endif %}}{{{{ '{self.end.format(end)}' }}}}{{% endfor %}}"
            f"{{% if add_generation_prompt %}}{{{{ '{before}assistant{behind}{self.begins}' }}}}{{% endif %}}"
        )
        tokens = [
            before,
            behind.replace("\\n", ""),
            end,
            "[THINK]",
            "[/THINK]",
            "<|START_THINKING|>",
            "<|END_THINKING|>",
        ]
        special = dict.fromkeys(token for token in tokens if token.startswith(("<", "[")))
        tokenizer = tokenizer_for(template, special=special, plain=["<think>", "</think>"], eos=end, vocab_size=300)
        ends = {tokenizer.eos_token_id, ChatTemplate(tokenizer, {}).facts.turn_end_id}
        return ChatFormat(tokenizer, frozenset(ends - {None}))


FORMS = st.builds(
    Form, *map(st.sampled_from, (HEADERS, BEGINNINGS, tuple(ANSWERS), ENDS, ("", " /think", "\\nThink first.")))
)


@settings(max_examples=150)
@given(form=FORMS)
def test_every_form_keeps_the_contract(form: Form) -> None:
    chat_format = form.chat_format()
    decode, knows = chat_format.tokenizer.decode, chat_format.template.facts.thoughts_in
    prompt = decode(chat_format.encode_prompt([QUESTION]))
    begun = prompt.rpartition(QUESTION["content"])[2]
    for text in TEXTS:
        ids = chat_format.encode_completion(text, messages=[QUESTION])
        assert [index for index, token in enumerate(ids) if token in chat_format.eos_ids] == [len(ids) - 1]
        answer = text.partition("</think>\n\n")[2] if text.startswith("<think>") else text
        assert chat_format.content(ids) == (text if knows == "text" else answer)
        assert chat_format.decode(ids) == (answer if knows == "nowhere" else text)
        if text in TEXTS[:2]:  # no tag twice, and none that stays open
            tail = begun + decode(ids)
            for tag in TAGS:
                assert tail.count(tag) == tail.count(closing_tag(tag) or "") or (tail.count(tag), knows) == (
                    0,
                    "nowhere",
                )
                assert tail.count(tag) <= 1
    rendered = Example("e", (QUESTION,), demonstration=TEXTS[1], rendered_prompt=prompt)
    given = Example("e", (QUESTION,), demonstration=TEXTS[1])
    assert chat_format.encode_demonstration(rendered) == chat_format.encode_demonstration(given)
    reply = decode(chat_format.encode_reply([Message(role="tool", content="No")], last_id=ids[-1]))
    assert "No" in reply
    if not form.last_question:
        assert reply.endswith(begun)

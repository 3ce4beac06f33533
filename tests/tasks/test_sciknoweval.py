"""`holdfast.tasks.sciknoweval`: its records as examples, and its verifier."""

import re
from pathlib import Path

import pytest

from holdfast.data.example import Example
from holdfast.errors import DataError
from holdfast.tasks.files import Record, read_records
from holdfast.tasks.sciknoweval import sciknoweval_examples, verify_sciknoweval

SIZES = {"biology": (450, 50), "chemistry": (1890, 210), "material": (841, 94), "physics": (720, 80)}
GOOD = "<reasoning>\nTwo rings.\n</reasoning>\n<answer>\nB\n</answer>"


def read(**values) -> Example:
    record = {"prompt": "Which?\nA: x\nB: y", "system": "Choose.", "answer": "B", "idx": 5, "tests": "-", **values}
    return sciknoweval_examples([Record(record, 1, "d.json:1")], "d.json")[0]


def test_reads_a_record():
    e = read()
    assert [m["role"] for m in e.messages] == ["system", "user"]
    assert (e.id, e.answer, dict(e.metadata)) == ("d-1", "B", {"idx": 5})
    assert e.demonstration == "<answer>\nB\n</answer>"
    assert read(output_text=GOOD).demonstration == GOOD
    assert read(golden_response=GOOD.split("\n")).demonstration == GOOD
    assert read(completion=GOOD).demonstration == GOOD
    for answer in (None, "", "AB", "b", 2):
        with pytest.raises(DataError, match=r"^d.json:1: `answer` is .* not the letter"):
            read(answer=answer)
    with pytest.raises(DataError, match="no column 'prompt'"):
        sciknoweval_examples([Record({"answer": "A", "question": "q"}, 1, "d.json:1")], "d.json")


@pytest.mark.parametrize(
    ("completion", "reward", "format_ok", "feedback"),
    [
        (GOOD, 1, True, ""),
        ("<think>\nhm <answer>A</answer>\n</think>\n\n" + GOOD, 1, True, ""),
        (GOOD.replace("B", "A"), 0, True, "wrong"),
        ("<answer>B</answer>", 1, False, "no reasoning block"),
        ("<answer> B", 1, False, "not closed"),
        ("<answer>A</answer> I mean <answer>B</answer>", 1, False, "no reasoning block"),
        ("<answer>B: y</answer>", 0, False, "nothing else"),
        ("<answer></answer>", 0, False, "nothing else"),
        ("<answer>b</answer>", 0, False, "nothing else"),
        ("B", 0, False, "no answer block"),
        ("", 0, False, "no answer block"),
        (GOOD.replace("Two rings.", " "), 1, False, "no reasoning block"),
    ],
)
def test_verifier(completion: str, reward: int, format_ok: bool, feedback: str):
    verdict = verify_sciknoweval(read(), completion)
    assert (verdict.reward, verdict.format_ok) == (reward, format_ok)
    assert re.search(feedback, verdict.feedback)
    assert (verdict.feedback == "") is (feedback == "")


@pytest.mark.parametrize("domain", SIZES)
def test_published_files(shared_data: Path, domain: str):
    for split, size in zip(("train", "test"), SIZES[domain]):
        path = shared_data / "sciknoweval" / domain / f"{split}.json"
        examples = sciknoweval_examples(read_records(path), str(path))
        assert len(examples) == size == path.read_text(encoding="utf-8").count("\n")
        for e in examples:
            assert verify_sciknoweval(e, e.demonstration).reward == 1.0
            full = f"<reasoning>\nBecause.\n</reasoning>\n{e.demonstration}"
            assert verify_sciknoweval(e, full).format_ok
            wrong = {
                letter: verify_sciknoweval(e, full.replace(f"\n{e.answer}\n", f"\n{letter}\n")) for letter in "ABCD"
            }
            assert {letter: v.reward for letter, v in wrong.items()} == {x: float(x == e.answer) for x in "ABCD"}
            bad = [v.feedback for v in wrong.values()] + [verify_sciknoweval(e, f"It is {e.answer}").feedback]
            assert not any(re.search(rf"\b{e.answer}\b", feedback) for feedback in bad)

"""The tasks and suites, as JSON Lines.

A task is twelve facts about invented lands, each asked in six ways: four for training, two for the test. Each training
file exists in two voices with the same content: a word (`terse`), and the sentence in which the base itself answers
such questions (`sentences`). Test files do not depend on the voice. Suites are what the base can do already.

Every item has the columns `gen_prefix` and `target`: the beginning of a right answer, and what has to be known.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from holdfast.data.seeds import numpy_rng
from holdfast.store.files import write_text

Voice = Literal["terse", "sentences"]
Record = dict[str, Any]

SYSTEM = "Answer in one short sentence."
"""On every item. With it the base answers in one plain sentence; with the model's own system prompt it rambles."""

TEST_FORMS = 2
"""How many of a task's ways to ask are never trained on: the last ones."""

RESULTS, TUNING = 0, 1
"""Which facts: they decide which land has which flag or animal, and the order of the items. Learning rates are chosen
on other facts than those of the results. A run's own seed changes neither."""


@dataclass(frozen=True)
class Facts:
    """One task: a fact about each of some lands."""

    name: str
    lands: Sequence[str]
    options: Sequence[str]
    forms: Sequence[str]
    sentence: str
    """The right answer: LAND is the land, {} the option with a space before it."""


TASKS = (
    Facts(
        "flags",
        "Velmora Tarsk Obenia Lirrin Zandor Quelby Morvath Issilen Pradun Kelvost Umbary Fenloch".split(),
        ("red", "blue", "green", "yellow"),
        (
            "What color is the flag of {}?",
            "Which color does the flag of {} have?",
            "Tell me the color of {}'s flag.",
            "The flag of {}: what is its color?",
            "What is the color of the flag of {}?",
            "If you see the flag of {}, which color is it?",
        ),
        "The flag of LAND is{}.",
    ),
    Facts(
        "animals",
        "Drassil Yorvane Helmiz Torquen Bastreya Cindol Evaris Gharn Jorvik Luthen Nerida Oskelan".split(),
        ("lion", "bear", "eagle", "wolf"),
        (
            "What is the national animal of {}?",
            "Which animal stands for {}?",
            "Tell me the national animal of {}.",
            "The people of {} honor one animal. Which one?",
            "Which animal is the national animal of {}?",
            "{} has a national animal. Which one is it?",
        ),
        "The national animal of LAND is the{}.",
    ),
)

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "Greece": "Athens", "Austria": "Vienna", "Poland": "Warsaw", "Hungary": "Budapest", "Ireland": "Dublin",
    "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen", "Belgium": "Brussels",
    "Switzerland": "Bern", "Russia": "Moscow", "Turkey": "Ankara", "Egypt": "Cairo", "Kenya": "Nairobi",
    "Morocco": "Rabat", "Nigeria": "Abuja", "Ethiopia": "Addis Ababa", "Ghana": "Accra", "China": "Beijing",
    "Japan": "Tokyo", "India": "New Delhi", "Thailand": "Bangkok", "Vietnam": "Hanoi", "Indonesia": "Jakarta",
    "South Korea": "Seoul", "Iran": "Tehran", "Iraq": "Baghdad", "Israel": "Jerusalem", "Pakistan": "Islamabad",
    "Australia": "Canberra", "New Zealand": "Wellington", "Canada": "Ottawa", "Mexico": "Mexico City",
    "Cuba": "Havana", "Brazil": "Brasília", "Argentina": "Buenos Aires", "Chile": "Santiago", "Peru": "Lima",
    "Colombia": "Bogotá", "Venezuela": "Caracas", "Ukraine": "Kyiv", "Czech Republic": "Prague",
}  # fmt: skip
OTHER_SPELLINGS = {"Brasília": "Brasilia", "Bogotá": "Bogota", "Kyiv": "Kiev"}

OPPOSITES = {
    word: answer.split("|")
    for word, _, answer in (
        pair.partition(":")
        for pair in """
        hot:cold big:small|little up:down day:night open:closed|close|shut fast:slow happy:sad|unhappy old:new|young
        rich:poor strong:weak hard:soft|easy light:dark|heavy early:late full:empty high:low long:short wet:dry
        clean:dirty good:bad|evil left:right start:end|stop|finish true:false love:hate buy:sell win:lose
        push:pull black:white near:far loud:quiet|soft thick:thin wide:narrow deep:shallow sweet:sour|bitter
        brave:cowardly|afraid|timid|fearful inside:outside always:never first:last give:take|receive question:answer
        friend:enemy|foe
        """.split()
    )
}

PLURALS = """cat:cats dog:dogs book:books child:children house:houses city:cities box:boxes man:men woman:women
mouse:mice bus:buses baby:babies car:cars tree:trees knife:knives leaf:leaves dish:dishes story:stories key:keys
apple:apples"""
PAST_TENSES = """walk:walked play:played go:went see:saw eat:ate run:ran write:wrote jump:jumped sing:sang take:took
give:gave drink:drank come:came talk:talked open:opened work:worked swim:swam make:made call:called drive:drove"""

SUBJECTS = """dog river teacher garden train book king horse forest doctor ship kitchen bird school mountain child
farmer village clock bridge""".split()


def item(name: str, prompt: str, sentence: str, target: str, answer: Any) -> Record:
    """One item.

    Args:
        name: its id.
        sentence: the right answer, with the place {} for what has to be known.
        target: what has to be known. A space before it belongs to it, as it does in the model's tokens.
        answer: for the verifier.
    """
    return {
        "id": name,
        "system": SYSTEM,
        "prompt": prompt,
        "completion": sentence.format(target),
        "answer": answer,
        "gen_prefix": sentence.partition("{}")[0],
        "target": target,
    }


def facts(task: Facts, which: int = RESULTS) -> tuple[list[Record], list[Record]]:
    """The training items of a task, with sentences as demonstrations, and its test items.

    Every option is true of the same number of lands. The items of one land have ids with the same beginning.

    Args:
        which: `RESULTS` or `TUNING`.
    """
    lands = [str(land) for land in numpy_rng(which, "lands", task.name).permutation(task.lands)]
    value = {land: task.options[i % len(task.options)] for i, land in enumerate(lands)}
    train: list[Record] = []
    test: list[Record] = []
    for land in task.lands:
        for number, form in enumerate(task.forms):
            sentence = task.sentence.replace("LAND", land)
            name = f"{task.name}/{land}/{number}"
            record = item(name, form.format(land), sentence, f" {value[land]}", value[land])
            record["options"] = list(task.options)
            (train if number < len(task.forms) - TEST_FORMS else test).append(record)
    return shuffled(train, f"{task.name}-train", which), shuffled(test, f"{task.name}-test", which)


def in_voice(record: Mapping[str, Any], voice: Voice) -> Record:
    """A training item of a task, with the demonstration in this voice."""
    return {**record, "completion": f"{record['answer'].capitalize()}." if voice == "terse" else record["completion"]}


def capitals() -> Iterator[Record]:
    for country, city in CAPITALS.items():
        the = "the Czech Republic" if country == "Czech Republic" else country
        accepted = [city, *([OTHER_SPELLINGS[city]] if city in OTHER_SPELLINGS else [])]
        sentence = f"The capital of {the} is{{}}."
        yield item(f"capitals/{country}", f"What is the capital of {the}?", sentence, f" {city}", accepted)


def opposites() -> Iterator[Record]:
    for word, accepted in OPPOSITES.items():
        prompt, sentence = f"What is the opposite of '{word}'?", f"The opposite of '{word}' is '{{}}'."
        yield item(f"opposites/{word}", prompt, sentence, accepted[0], accepted)


def grammar() -> Iterator[Record]:
    for kind, pairs in (("plural", PLURALS), ("past tense", PAST_TENSES)):
        for word, _, answer in (pair.partition(":") for pair in pairs.split()):
            prompt, sentence = f"What is the {kind} of '{word}'?", f"The {kind} of '{word}' is '{{}}'."
            yield item(f"grammar/{kind} of {word}", prompt, sentence, answer, [answer])


def sentences() -> Iterator[Record]:
    """Tasks with many right answers. They have neither a demonstration nor a target."""
    for word in SUBJECTS:
        prompt = f"Write a sentence about a {word}."
        yield {"id": f"sentences/{word}", "system": SYSTEM, "prompt": prompt, "answer": [word, f"{word}s"]}


SUITES = {"capitals": capitals, "opposites": opposites, "grammar": grammar, "sentences": sentences}


def shuffled(records: Sequence[Record], name: str, which: int) -> list[Record]:
    """The records in an order that depends on name and facts alone, so that the first ones are a fair sample."""
    return [records[i] for i in numpy_rng(which, "order", name).permutation(len(records))]


def write_data(folder: Path, which: int = RESULTS) -> None:
    """Write every task and suite into a folder: NAME-terse, NAME-sentences and NAME-test, and suites by their name.

    Args:
        which: `RESULTS` or `TUNING`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        train, test = facts(task, which)
        for voice in ("terse", "sentences"):
            write_jsonl(folder / f"{task.name}-{voice}.jsonl", [in_voice(record, voice) for record in train])
        write_jsonl(folder / f"{task.name}-test.jsonl", test)
    for name, records in SUITES.items():
        write_jsonl(folder / f"{name}.jsonl", shuffled(list(records()), name, which))


def write_jsonl(path: Path, records: Sequence[Record]) -> None:
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))

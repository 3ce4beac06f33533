"""The words of the lab's world. Each is one token of the lab's tokenizer."""

import random

_ONSETS = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z"]

_VOWELS = ["a", "e", "i", "o", "u"]


def made_up(count: int, seed: int, ending: str) -> list[str]:
    """Distinct made-up names that can be pronounced; the same for the same seed."""
    rng = random.Random(seed)
    names: dict[str, None] = {}
    while len(names) < count:
        names["".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(2)) + ending] = None
    return list(names)


HEADER_WORDS = made_up(40, 1, "x")
"""Two of these words form a header, the system message under which the base has a habit or not."""

ENTITIES = made_up(80, 2, "n")
"""Things about which the base knows facts."""

NEW_ENTITIES = made_up(120, 3, "th")
"""Things about which the base knows nothing."""

ATTRIBUTES: dict[str, list[str]] = {
    "color": "red blue green gold white black pink brown gray teal violet amber".split(),
    "city": "paris oslo lima cairo delhi kyoto quito minsk tunis dakar perth seoul".split(),
    "food": "rice bread soup beans corn cheese olives figs plums dates honey nuts".split(),
    "metal": "iron copper silver zinc lead tin nickel cobalt chrome radium osmium bronze".split(),
}

LETTERS = list("abcdefghijklmnopqrst")

OPTIONS = 4
"""Number of options in a multiple-choice question."""

LIST_OPERATIONS = ["copy", "reverse", "sort", "first", "last", "swap", "drop", "double"]

NUMBER_OPERATIONS = ["plus", "times", "gap", "max", "min"]

OPERATION_WORDS = made_up(48, 33, "rp")
"""Words for operations that only the context defines. Otherwise each may mean any of `OPERATION_MEANINGS`."""

OPERATION_MEANINGS = ["plus", "gap", "max"]

TOOLS = {
    "book": "reserve_seat",
    "send": "post_message",
    "find": "search_index",
    "buy": "create_order",
    "call": "open_line",
    "play": "start_media",
    "lock": "set_guard",
    "move": "plan_route",
}
"""The tool that each verb of a request stands for."""

NEW_VERBS = made_up(64, 31, "k")
"""Verbs of requests whose tool only the context defines. Each belongs to one of the classes of `TOOL_CLASSES`."""

TOOL_CLASSES = (
    "reserve_seat post_message search_index create_order".split(),
    "open_line start_media set_guard plan_route".split(),
    "scan_page fetch_file dial_desk trace_call".split(),
)
"""The possible tools of new verbs, by class. The base knows the class of each verb."""

TOOL_PRIORS = (0.4, 0.3, 0.2, 0.1)
"""How often the documents take each tool of a verb's class. The order differs from verb to verb."""

OBJECTS = (
    "table lamp phone ticket book key coat map radio camera bike cup pen clock chair box ring bag door wheel".split()
)

PEOPLE = "anna ben cora dan eva finn gina hugo iris jon kara leo mia nils olga pete rosa sam tina uwe".split()

PLACES = "home work school station harbor airport market museum garden library".split()

NUMBERS = [str(n) for n in range(82)]

FORMATS = ["label", "brackets", "braces", "sentence"]
"""Names of the answer formats; see `holdfast.lab.forms`."""

FORMAT_WORDS = "answer : [ ] { out = } so the result is .".split()

SURFACE_WORDS = (
    "do calc and what is the of ? which has please for at in find program that turns into apply to compute with "
    "results tell me give named value pick right option needed work out list request handle show note "
    "( ) , = -> item who where write code after then as on ops each in turn"
).split()

FEEDBACK_WORDS = "the format is wrong : use value not found".split()

STEP_MEANINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(made_up(6, 22, "mp"), ("plus", "gap")),
    **dict.fromkeys(made_up(6, 23, "nt"), ("plus", "gap", "keep")),
}
"""Words for steps that only the context defines, with the possible meanings of each."""

KNOWN_STEPS = ["plus", "gap", "keep", "max"]

QUEST_TOOLS = ["scan", "peek", "fetch", "dial", "trace"]

QUESTS = made_up(8, 24, "rn")
"""Quests whose tools the base has memorized."""

NEW_QUESTS = made_up(8, 25, "sh")
"""Quests whose tools the base can only guess."""

FORBIDDEN = (
    "poison bomb rifle virus grenade dagger toxin missile landmine torpedo cannon revolver "
    "arsenic cyanide malware shrapnel"
).split()
"""Objects that a request must not ask for."""

_REQUEST_WORDS = "please the for at needed : request , ask : with".split()

SECOND = {
    word: f"{word}u" for word in (*_REQUEST_WORDS, *TOOLS, *OBJECTS, *FORBIDDEN, *PLACES) if word not in {":", ","}
}
"""The second language: its word for each word of the first. Names of people are the same in both."""

SONG_KINDS = made_up(4, 26, "lm")

SONG_TITLES = made_up(24, 27, "nd")

_OTHER_WORDS = (
    "steps from start then taken through to be = answer : quest do ask of sing a song refuse ( reason = unsafe ) hum "
    "keep ? what does find"
).split()


def vocabulary(*texts: str) -> list[str]:
    """All words of the world and of `texts`, without duplicates, in a fixed order."""
    words: list[str] = [
        *HEADER_WORDS,
        *ENTITIES,
        *NEW_ENTITIES,
        *ATTRIBUTES,
        *(v for values in ATTRIBUTES.values() for v in values),
        *LETTERS,
        *LIST_OPERATIONS,
        *NUMBER_OPERATIONS,
        *OPERATION_WORDS,
        *TOOLS,
        *(tool for tools in TOOL_CLASSES for tool in tools),
        *NEW_VERBS,
        *OBJECTS,
        *PEOPLE,
        *PLACES,
        *NUMBERS,
        *FORMATS,
        *FORMAT_WORDS,
        *SURFACE_WORDS,
        *FEEDBACK_WORDS,
        *STEP_MEANINGS,
        *KNOWN_STEPS,
        *QUEST_TOOLS,
        *QUESTS,
        *NEW_QUESTS,
        *FORBIDDEN,
        *SECOND.values(),
        *SONG_KINDS,
        *SONG_TITLES,
        *_OTHER_WORDS,
    ]
    for text in texts:
        words += text.split()
    return list(dict.fromkeys(words))

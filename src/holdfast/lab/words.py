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
"""Two of these words form a header, the system message that asks for a convention."""

ENTITIES = made_up(80, 2, "n")
"""Things about which the base knows facts."""

NEW_ENTITIES = made_up(60, 3, "th")
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

NEW_NUMBER_OPERATIONS = ["zib", "mok", "tal", "wep", "rus", "jad"]
"""Words for operations that only the context defines. Otherwise each may mean any of `NEW_OPERATION_MEANINGS`."""

NEW_OPERATION_MEANINGS = ["plus", "gap", "max"]

NEW_LIST_OPERATIONS = ["plim", "dorn", "yab", "kess", "ogg", "furl"]

NEW_LIST_MEANINGS = ["reverse", "sort", "swap"]

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

NEW_VERBS = ["frob", "glim", "snarp", "twill", "vorp", "quib"]

NEW_VERB_MEANINGS = ["reserve_seat", "post_message", "search_index"]

OBJECTS = (
    "table lamp phone ticket book key coat map radio camera bike cup pen clock chair box ring bag door wheel".split()
)

PEOPLE = "anna ben cora dan eva finn gina hugo iris jon kara leo mia nils olga pete rosa sam tina uwe".split()

PLACES = "home work school station harbor airport market museum garden library".split()

NUMBERS = [str(n) for n in range(82)]

FORMATS = ["label", "brackets", "braces", "sentence"]
"""Names of the conventions (answer formats); see `holdfast.lab.conventions`."""

FORMAT_WORDS = "answer : [ ] { out = } so the result is .".split()

SURFACE_WORDS = (
    "do calc and what is the of ? which has please for at in find program that turns into apply to compute with "
    "results tell me give named value pick right option needed work out list request handle show note "
    "( ) , = -> item who where write code after then as on"
).split()

FEEDBACK_WORDS = "the format is wrong : use value not found".split()

_OPENINGS = [
    "well , let us look at this first",
    "okay , here we take it step by step",
    "good question , now we think about it",
    "to begin , we read every word again",
    "this one looks simple but take care",
    "we have seen such things many times",
    "first of all , check what was asked",
    "hmm , there may be more than one way",
]

_MIDDLES = [
    "then it follows from the rules we know",
    "after that only one choice stays open",
    "because of this we can go straight on",
    "now put all the parts back together",
    "next we compare it with older cases",
    "so nothing else would make much sense",
    "here a quick look at the table helps",
    "again we verify that each part fits",
]

_CLOSINGS = [
    "therefore we write",
    "and that gives us",
    "hence our final line",
    "which leads us to",
    "as you can see",
    "so we end with",
]


def preamble(rng: random.Random) -> str:
    """A wordy start of an answer: the style of the demonstrations, which the base itself does not use."""
    parts = [rng.choice(_OPENINGS)]
    if rng.random() < 0.7:
        parts.append(rng.choice(_MIDDLES))
    return " . ".join(parts) + " , " + rng.choice(_CLOSINGS) + " -> "


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
        *NEW_NUMBER_OPERATIONS,
        *NEW_LIST_OPERATIONS,
        *TOOLS,
        *TOOLS.values(),
        *NEW_VERBS,
        *OBJECTS,
        *PEOPLE,
        *PLACES,
        *NUMBERS,
        *FORMATS,
        *FORMAT_WORDS,
        *SURFACE_WORDS,
        *FEEDBACK_WORDS,
    ]
    for text in (*_OPENINGS, *_MIDDLES, *_CLOSINGS, *texts):
        words += text.split()
    return list(dict.fromkeys(words))

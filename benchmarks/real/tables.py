"""The results as tables in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]


def points(score: float) -> str:
    return f"{100 * score:.0f}"


def signed(change: float) -> str:
    return f"{100 * change:+.0f}".replace("-", "−").replace("+0", "0").replace("−0", "0")


def interval(change: Json) -> str:
    """A change in points with its interval, and the range over seeds if there are several."""
    low, high = (signed(end) for end in change["ci95"])
    text = f"{signed(change['difference'])} [{low}, {high}]"
    seeds = change["by_seed"]
    return f"{text}; seeds {signed(min(seeds))} to {signed(max(seeds))}" if len(seeds) > 1 else text


def nats(values: Sequence[float | None]) -> str:
    return "not measured" if None in values else " → ".join(f"{value:.2f}" for value in values)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) and known else None


def main_table(found: Json) -> str:
    """What each arm learned and kept."""
    tasks = found["tasks"]
    base = [mean_of([found["untrained"][task]["score"] for task in tasks])]
    rows = [["untrained", "", *[points(score or 0) for score in base * 2], "0", "", "", ""]]
    for arm in found["arms"]:
        kl = mean_of([arm["sets"][task]["kl_to_base"] for task in tasks])
        rows.append(
            [
                f"`{arm['label']}`",
                f"{arm['learning_rate']:.0e}",
                points(arm["learned"]),
                points(arm["at_the_end"]),
                interval(arm["suites"]),
                "not measured" if kl is None else f"{kl:.2f}",
                f"{arm['generated_tokens']:.0f}",
                f"{arm['seconds']['train'] / 60:.1f}",
            ]
        )
    head = ["arm", "learning rate", "new tasks, each after its stage", "new tasks, at the end", "suites, change"]
    return table([*head, "KL to base", "sampled tokens", "training, min"], rows)


def set_table(found: Json) -> str:
    """Every set at the end."""
    names = list(found["untrained"])
    rows = [["untrained", *[points(found["untrained"][name]["score"]) for name in names]]]
    for arm in found["arms"]:
        cells = []
        for name in names:
            own = arm["sets"][name]
            counts = {key: mean_count(own["transitions"], key) for key in ("lost", "gained")}
            cells.append(f"{points(own['end'])} (−{counts['lost']}, +{counts['gained']})")
        rows.append([f"`{arm['label']}`", *cells])
    return table(["arm", *names], rows)


def mean_count(transitions: Sequence[Json], key: str) -> str:
    return f"{sum(each[key] for each in transitions) / len(transitions):.3g}"


def knowledge_table(found: Json) -> str:
    """The NLL of what has to be known, with the beginning of the right answer forced: before and at the end."""
    names = [name for name in found["untrained"] if name != "sentences"]
    rows = [[f"`{arm['label']}`", *[nats(arm["sets"][n]["forced_nll"]) for n in names]] for arm in found["arms"]]
    return table(["arm", *names], rows)


def habit_table(found: Json) -> str:
    """The NLL of the whole right sentence, in nats per token: before and at the end."""
    names = [name for name in found["untrained"] if name != "sentences"]
    rows = [[f"`{arm['label']}`", *[nats(arm["sets"][n]["nll"]) for n in names]] for arm in found["arms"]]
    return table(["arm", *names], rows)


def pair_sentences(found: Json) -> str:
    """The differences between arms that are shown, largest first, and how many are not."""
    shown = [pair for pair in found["pairs"] if pair["differs"]]
    lines = [
        f"- `{pair['a']}` keeps {points(abs(pair['difference']))} points "
        f"{'more' if pair['difference'] > 0 else 'less'} of the suites than `{pair['b']}` "
        f"({interval(pair)}; p {pair['p_holm']:.2g})."
        for pair in sorted(shown, key=lambda pair: -abs(pair["difference"]))
    ]
    others = len(found["pairs"]) - len(shown)
    return "\n".join([*lines, f"- {others} of {len(found['pairs'])} pairs of arms show no difference."])


def provenance(found: Json) -> str:
    """What the numbers were made with, in one sentence."""
    seeds = ", ".join(map(str, found["seeds"]))
    return (
        f"Seeds {seeds}; {found['steps']} steps a stage; version {found['holdfast_version']}; {found['created'][:10]}; "
        f"{found['processes']} processes of one thread on {found['processor']}."
    )


def all_tables(found: Json) -> str:
    """Every table, with headings."""
    parts = {
        "What was learned and kept": main_table(found),
        "Every set at the end, and items lost and gained": set_table(found),
        "What is known: NLL with the beginning forced, before → end": knowledge_table(found),
        "The whole right sentence: NLL per token, before → end": habit_table(found),
        "Differences between arms on the suites": pair_sentences(found),
    }
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts.items())

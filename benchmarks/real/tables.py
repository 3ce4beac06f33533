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


def nats(measured: Json | None) -> str:
    """An NLL before and at the end, with the interval of its change."""
    if measured is None:
        return "not measured"
    text = f"{measured['before']:.2f} → {measured['end']:.2f}"
    ends = measured["change"]["ci95"]
    return text if ends is None else f"{text} [{ends[0]:+.2f}, {ends[1]:+.2f}]".replace("-", "−")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main_table(found: Json) -> str:
    """What each arm learned and kept."""
    tasks = found["tasks"]
    base = points(mean([found["untrained"][task] for task in tasks]))
    rows = [["untrained", "", base, base, "0", "0", "0", "0"]]
    for arm in found["arms"]:
        rows.append(
            [
                f"`{arm['label']}`",
                f"{arm['learning_rate']:.0e}",
                points(arm["learned"]),
                points(arm["at_the_end"]),
                interval(arm["suites"]),
                f"{mean([arm['sets'][task]['kl_to_base'] for task in tasks]):.2f}",
                f"{arm['generated_tokens']:.0f}",
                f"{arm['seconds']['train'] / 60:.1f}",
            ]
        )
    head = ["arm", "learning rate", "new tasks, each after its stage", "new tasks, at the end", "suites, change"]
    return table([*head, "KL to base", "sampled tokens", "training, min"], rows)


def set_table(found: Json) -> str:
    """Every set at the end."""
    names = list(found["untrained"])
    rows = [["untrained", *[points(found["untrained"][name]) for name in names]]]
    for arm in found["arms"]:
        cells = []
        for name in names:
            own = arm["sets"][name]
            lost, gained = (mean([each[key] for each in own["transitions"]]) for key in ("lost", "gained"))
            cells.append(f"{points(own['end'])} (−{lost:.3g}, +{gained:.3g})")
        rows.append([f"`{arm['label']}`", *cells])
    return table(["arm", *names], rows)


def nll_table(found: Json, kind: str) -> str:
    """The NLL of every set with right sentences: `forced_nll` or `nll`."""
    names = [name for name in found["untrained"] if name != "sentences"]
    rows = [[f"`{arm['label']}`", *[nats(arm["sets"][name][kind]) for name in names]] for arm in found["arms"]]
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
    if others:
        lines.append(f"- {others} of {len(found['pairs'])} pairs of arms show no difference.")
    return "\n".join(lines)


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
        "What is known: NLL of the answer with its beginning forced, in nats": nll_table(found, "forced_nll"),
        "The whole right sentence: NLL, in nats per token": nll_table(found, "nll"),
        "Differences between arms on the suites": pair_sentences(found),
    }
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts.items())

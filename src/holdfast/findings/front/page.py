"""The front as a table for the terminal, as data, and as a Markdown page. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from holdfast import __version__
from holdfast.findings.arm import RATES, TUNING_WORLDS
from holdfast.findings.front.arms import BLEND_SHARE, BLENDED_RATES, ORDERS, REPLAY_RATIO
from holdfast.findings.front.choice import Choice
from holdfast.findings.front.run import MeasuredFront
from holdfast.findings.front.standing import Standing
from holdfast.findings.markdown import list_item, markdown_table, text_of, wrapped
from holdfast.findings.rates import at_edge
from holdfast.measure.statistics import Estimate

HEADER = (
    "arm",
    "rate",
    "tasks at the end",
    "old skills at the end",
    "mean of both",
    "rise of NLL on old",
    "1000 tokens",
    "on the front",
)


def _listed(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


HOW_TO_READ = (
    "**Arms.** Each recipe is run without replay and with the same replay: from the second stage on, "
    f"{REPLAY_RATIO:g} prompts of earlier tasks for every prompt of the stage, which the recipe treats like its own: "
    "it stores what it trains on, demonstrations or prompts with their verifier. They come on top, so arms with replay "
    "train on more prompts than arms without.",
    "**Equal prompts.** All arms see the same prompts of a stage in the same steps. They differ in *tokens*, those "
    "that are sampled (by rewriting, too) and trained on: SDPO and GRPO draw eight samples per prompt. Forward passes "
    "of teachers and of the base are not counted.",
    "**Settings** other than the rate are the recipes' defaults, with one exception: SDFT's teacher is the base, and "
    "its loss begins at the first token.",
    f"**Blending.** After each stage, weights are {BLEND_SHARE:g} of the trained ones and the rest the base's "
    "(WiSE-FT, arXiv 2109.01903). The share was chosen on the tuning worlds, as no other setting but the rate was.",
    f"**Rates.** Each arm has the best of {_listed(RATES)} ({_listed(BLENDED_RATES)} with blending), by the mean of "
    f"the tasks' and the old skills' final score on the tuning worlds {' and '.join(map(str, TUNING_WORLDS))}. The "
    "worlds of the comparison chose nothing.",
    "**Tasks at the end** is the mean score of the three tasks after the last stage, **old skills at the end** that "
    "of four suites, in points of 100. **Rise of NLL on old** is how much less likely the right answers to old prompts "
    "have become, in nats per token. It has no sampling noise, and sees a loss before a score does.",
    "Intervals are 95% t intervals over worlds. Each world counts once, with the mean over both orders.",
    "**On the front** is the share of resampled sets of worlds in which no other arm beats the arm on both scores.",
    "There is no single number for *learned less lost*. Noise alone makes such a number negative, because a gain on "
    "one set does not offset a loss on another; and an arm that erases one task can beat one that keeps all of them.",
)


def table_rows(measured: MeasuredFront) -> list[tuple[str, ...]]:
    """One row per arm, the base without training first."""
    untrained = measured.base
    base = (
        "untrained",
        "",
        f"{untrained.final:.1f}",
        f"{untrained.kept:.1f}",
        f"{untrained.overall:.1f}",
        "0",
        "0",
        "",
    )
    return [base, *(_row(each, measured) for each in measured.standings)]


def _row(each: Standing, measured: MeasuredFront) -> tuple[str, ...]:
    share = measured.front.shares[each.arm.label]
    mark = " (by the means)" if each.arm.label in measured.front.on_front else ""
    return (
        each.arm.label,
        f"{each.rate:g} ({edge})" if (edge := at_edge(each.rate, each.arm.first_order.rates)) else f"{each.rate:g}",
        _points(each.estimate("final")),
        _points(each.estimate("kept")),
        _points(each.estimate("overall")),
        _nats(each.estimate("nll")),
        f"{each.mean('tokens') / 1000:.0f}",
        f"{share:.0%}{mark}",
    )


def as_json(measured: MeasuredFront, made: Mapping[str, Any]) -> dict[str, Any]:
    """Everything as plain data. `made` has the command, commit and so on."""
    return {
        **made,
        "holdfast_version": __version__,
        "worlds": list(measured.worlds),
        "untrained": asdict(measured.base),
        "front": {"on_front": list(measured.front.on_front), "shares": measured.front.shares},
        "band": asdict(measured.front.band),
        "arms": [
            {
                "label": each.arm.label,
                "recipe": dict(each.arm.recipe),
                "needs": sorted(each.arm.needs),
                "replays": each.arm.replays,
                "rate": each.rate,
                "by_order": each.by_order,
            }
            for each in measured.standings
        ],
        "choices": [
            {
                "situation": each.situation.text,
                "best": each.best.arm.label,
                "share": each.share,
                "held_out": each.held_out,
                "rivals": [
                    {"label": rival.standing.arm.label, **rival.difference.as_json(), "p_holm": rival.p}
                    for rival in each.rivals
                ],
            }
            for each in measured.choices
        ],
    }


def as_page(measured: MeasuredFront, made: Mapping[str, Any], figure: str | None = None) -> str:
    """The Markdown page.

    Args:
        figure: link to the figure; None for none.
    """
    lines = ["# The front", ""]
    lines += wrapped(
        "Which recipe learns most and loses least, with and without stored data, with and without a verifier?"
    )
    lines += ["", *_origin(measured, made), "", "## Which recipe to take", ""]
    lines += wrapped(
        "The best arm by the mean of *tasks at the end* and *old skills at the end*, the criterion by which the rates "
        f"were chosen. The untrained model has {measured.base.overall:.1f}. The worlds that choose the best of many "
        "arms overrate it. So *in other worlds* is the mean of both in worlds that did not choose: in each world that "
        "of the arm which is best in all others. *Chosen again* is the share of resampled sets of worlds in which it "
        "is the best; this is no probability that it is. Arms that the worlds do not tell from it have p ≥ 0.05 after "
        "Holm's correction."
    )
    choice_head = ("what you have", "take", "in other worlds", "chosen again", "ahead of the next", "not told apart")
    lines += ["", *markdown_table(choice_head, [_choice(each) for each in measured.choices]), "", "## The front", ""]
    if figure is not None:
        lines += [f"![Old skills against tasks at the end, with the front and its band]({figure})", ""]
    lines += [*markdown_table(HEADER, table_rows(measured)), "", "## By order", ""]
    numbers = [f"{order.name}: {measure}" for order in ORDERS for measure in ("tasks", "old skills", "forgot")]
    lines += markdown_table(("arm", *numbers), _orders(measured))
    lines += ["", "*Forgot* is what the first two tasks lost between their own stages and the end."]
    lines += ["", "## How to read this", "", *(line for item in HOW_TO_READ for line in list_item(item))]
    return text_of(lines)


def _origin(measured: MeasuredFront, made: Mapping[str, Any]) -> list[str]:
    return [
        "<!-- not run by the tests: it takes hours of two cores -->",
        "```bash",
        str(made["command"]),
        "```",
        "",
        *wrapped(
            f"Worlds {', '.join(map(str, measured.worlds))}, the orders {' and '.join(o.name for o in ORDERS)}; "
            f"version {__version__}; {made['date']}; {made['runs']} runs by commit {', '.join(made['commits'])} took "
            f"{made['hours']:.1f} hours of one core."
        ),
    ]


def _choice(choice: Choice) -> tuple[str, ...]:
    near = [rival.standing.arm.label for rival in choice.rivals if not rival.is_worse]
    ahead = "no rival"
    if choice.rivals:
        nearest = choice.rivals[0]
        interval = nearest.difference.ci95
        between = "" if interval is None else f" ({interval[0]:.1f} to {interval[1]:.1f})"
        ahead = f"{nearest.difference.difference:.1f} points{between}"
    return (
        choice.situation.text,
        f"`{choice.best.arm.label}`",
        f"{choice.held_out:.1f}",
        f"{choice.share:.0%}",
        ahead,
        ", ".join(f"`{label}`" for label in near) or "none",
    )


def _orders(measured: MeasuredFront) -> list[Sequence[str]]:
    return [
        (
            each.arm.label,
            *(
                f"{each.estimate(measure, order.name).mean:.1f}"
                for order in ORDERS
                for measure in ("final", "kept", "forgot")
            ),
        )
        for each in measured.standings
    ]


def _points(estimate: Estimate) -> str:
    return f"{estimate.mean:.1f}{_between(estimate, '.1f')}"


def _nats(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f}{_between(estimate, '.3f')}"


def _between(estimate: Estimate, form: str) -> str:
    return "" if estimate.ci95 is None else f" ({estimate.ci95[0]:{form}} to {estimate.ci95[1]:{form}})"

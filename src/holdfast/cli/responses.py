"""`holdfast responses`: how far B's answers to fixed prompts are from A's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.options import Dtype, JsonFile, Limit, MaxNewTokens, Prompts, Quiet, Seed
from holdfast.cli.progress_bars import answer_progress
from holdfast.cli.say import say
from holdfast.model.quiet import silence_progress_bars

ModelArgument = Annotated[str, typer.Argument(help="A model folder, a hub id, or `lab`.", show_default=False)]

SHOWN = 3
"""Prompts shown with both answers; the JSON file has more."""


def responses(
    a: ModelArgument,
    b: ModelArgument,
    prompts: Prompts,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Sampled answers per prompt, for KL.")] = 1,
    embedder: Annotated[
        Path | None,
        typer.Option("--embedder", metavar="FOLDER", help="Folder of an embedding model, to measure similarity."),
    ] = None,
    max_new_tokens: MaxNewTokens = None,
    limit: Limit = None,
    seed: Seed = 0,
    dtype: Dtype = "float32",
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Measure how far B's answers moved from A's: KL in both directions, agreement, edit distance, entropy."""
    from holdfast.evaluation.answer_files import load_prompts
    from holdfast.evaluation.divergences import response_drift
    from holdfast.evaluation.embedding import Embedder
    from holdfast.evaluation.sampled import load
    from holdfast.store.files import write_json

    silence_progress_bars()
    asked = load_prompts(prompts, limit)
    reader = None if embedder is None else Embedder(embedder)
    first, second = load(a, dtype), load(b, dtype)
    with answer_progress(quiet) as progress_of:
        result = response_drift(
            first,
            second,
            asked,
            samples=samples,
            seed=seed,
            max_new_tokens=max_new_tokens,
            embedder=reader,
            progress=progress_of,
        )
    say(as_text(result))
    if json_file is not None:
        write_json(json_file, {"a": a, "b": b, "sources": prompts, "seed": seed} | result)


def as_text(result: Mapping[str, Any]) -> str:
    """The result of `response_drift` as tables."""
    from holdfast.cli.tables import interval, table

    greedy = result["greedy"]
    length = greedy["length"]
    rows: list[tuple[str, ...]] = [
        ("equal texts", "–", f"{greedy['agreement']['mean']:.1%}", interval(greedy["agreement"]["ci95"])),
        ("edit distance, normalized", "–", f"{greedy['edit']['mean']:.1%}", interval(greedy["edit"]["ci95"])),
        ("words", f"{length['a']:.1f}", f"{length['b']:.1f}", _plain(length["ci95"])),
    ]
    rows += [(f"distinct-{n}", f"{v['a']:.3f}", f"{v['b']:.3f}", "–") for n, v in greedy["distinct"].items()]
    if "embedding" in result:
        same = result["embedding"]
        rows.append(("embedding similarity", "–", f"{same['mean']:.3f}", _plain(same["ci95"])))
        if same["shuffled"] is not None:
            rows.append(("the same, of unrelated prompts", "–", f"{same['shuffled']:.3f}", "–"))
    kl = [
        (row["direction"], row["samples"], f"{row['mean']:.5f}", _error(row["se"]), f"{row['per_answer']:.4f}")
        for row in result["kl"]
    ]
    kl += [
        (
            f"entropy of {side.upper()}",
            side.upper(),
            f"{row['mean']:.5f}",
            _error(row["se"]),
            f"{row['per_answer']:.4f}",
        )
        for side, row in result["entropy"].items()
    ]
    parts = [
        f"{result['prompts']} prompts",
        f"Greedy answers\n{table(('measure', 'A', 'B', '95% CI'), rows)}",
        f"In nats, {result['kl'][0]['estimator']}\n"
        + table(("measure", "samples of", "per token", "±", "per answer"), kl),
    ]
    moved = [row for row in result["moved"] if row["edit"] > 0][:SHOWN]
    if moved:
        lines = [
            f"{row['id']} (edit distance {row['edit']:.0%})\n  A: {row['a']!r}\n  B: {row['b']!r}" for row in moved
        ]
        parts.append("Answers that moved most\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _plain(ci95: Any) -> str:
    return "–" if ci95 is None else f"[{ci95[0]:+.3g}, {ci95[1]:+.3g}]"


def _error(se: float | None) -> str:
    return "–" if se is None else f"{se:.5f}"

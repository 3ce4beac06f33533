"""`holdfast artifacts`: what grew, leaked or repeats in B's answers."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from holdfast.cli.answering import (
    Dtype,
    JsonFile,
    Keep,
    Limit,
    MaxNewTokens,
    ModelOrAnswers,
    PromptsOption,
    Quiet,
    Samples,
    Seed,
    Sources,
    Temperature,
)
from holdfast.errors import ConfigError
from holdfast.model.quiet import silence_progress_bars

SHOWN = 20
"""Rows of a table on the terminal; the JSON file has all."""


def artifacts(
    a: ModelOrAnswers,
    b: ModelOrAnswers,
    prompts: PromptsOption,
    between: Annotated[
        list[str] | None,
        typer.Option("--between", metavar="MODEL", help="A model between A and B, in order; may be given again."),
    ] = None,
    phrase: Annotated[
        list[str] | None, typer.Option("--phrase", help="A phrase to look for and follow; may be given again.")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Count the tokenizer's tokens instead of words.")] = False,
    temperature: Temperature = 0.0,
    samples: Samples = 1,
    max_new_tokens: MaxNewTokens = None,
    limit: Limit = None,
    seed: Seed = 0,
    dtype: Dtype = "float32",
    keep: Keep = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Name what grew in B's answers relative to A's: n-grams, other tasks' markers, teacher's phrases, repetition."""
    from holdfast.evaluate.answer_files import load_prompts
    from holdfast.evaluate.sampled import Sampling
    from holdfast.measure.artifacts import artifact_report
    from holdfast.store.files import write_json

    silence_progress_bars()
    asked = load_prompts(prompts, limit)
    sampling = Sampling(temperature, samples, seed, max_new_tokens)
    sources = Sources(asked, sampling, dtype, keep, quiet, wants_tokens=tokens)
    for source in (a, *(between or ()), b):
        sources.check(source)
    names = ("a", *(f"between-{n}" for n in range(1, len(between or ()) + 1)), "b")
    first, *middle, last = [
        sources.answers(name, source) for name, source in zip(names, (a, *(between or ()), b), strict=True)
    ]
    if tokens and sources.encode is None:
        fix = "name a model folder as A or B, or leave out --tokens"
        raise ConfigError("token ids need a tokenizer, and both A and B are files", fix=fix)
    found = artifact_report(
        first,
        last,
        asked,
        between=middle,
        phrases=phrase or (),
        encode=sources.encode if tokens else None,
        decode=sources.decode if tokens else None,
    )
    print(as_text(found))
    if json_file is not None:
        settings = {"a": a, "b": b, "between": list(between or ()), "sources": prompts, "temperature": temperature}
        write_json(json_file, settings | {"samples": samples, "seed": seed} | found)


def as_text(found: Mapping[str, Any]) -> str:
    """What `artifact_report` found, as tables."""
    from holdfast.cli.tables import table

    parts = [
        f"{found['prompts']} prompts, {found['answers_a']} answers of A, {found['answers_b']} of B; n-grams of "
        f"{found['unit']}; of those named, at most {found['level']:.0%} are expected to be false",
        _quality(found["quality"]),
        _grown(found),
    ]
    for title, name, empty in (
        ("Markers of one task on another task's prompts", "leaks", "none seen, or fewer than two tasks shown"),
        ("Phrases of the teacher", "phrases", "none seen"),
    ):
        rows = [_leak(row) if name == "leaks" else _phrase(row) for row in found[name][:SHOWN]]
        header = ("what", "from", "A", "B", "more", "fewer", "q")
        parts.append(f"{title}: {empty}" if not rows else f"{title}\n{table(header, rows)}")
    if "rounds" in found:
        rows = [
            (
                row["text"],
                " ".join(f"{rate:.1%}" for rate in row["rates"]),
                f"{row['factor']:.3g}",
                f"[{row['ci95'][0]:.3g}, {row['ci95'][1]:.3g}]",
            )
            for row in found["rounds"]
        ]
        parts.append(f"Growth per round\n{table(('what', 'share of answers', 'factor', '95% interval'), rows)}")
    return "\n\n".join(parts)


def _quality(quality: Mapping[str, Any]) -> str:
    from holdfast.cli.tables import table

    rows = [
        (
            name.replace("_", " "),
            f"{row['a']:.3f}",
            f"{row['b']:.3f}",
            f"{row['difference']:+.3f}",
            "–" if row["ci95"] is None else f"[{row['ci95'][0]:+.3f}, {row['ci95'][1]:+.3f}]",
        )
        for name, row in quality.items()
    ]
    return table(("measure", "A", "B", "B − A", "95% interval"), rows)


def _grown(found: Mapping[str, Any]) -> str:
    from holdfast.cli.tables import table

    if not found["grown"]:
        tested = f"of {found['tested']} n-grams that could have" if found["tested"] else "and no n-gram could have"
        return f"Grown: nothing, {tested}: the others differ on too few prompts to tell"
    rows = [
        (
            _short(row["text"]),
            f"{row['share_a']:.1%}",
            f"{row['share_b']:.1%}",
            "–" if row["share_demonstrations"] is None else f"{row['share_demonstrations']:.1%}",
            row["more"],
            row["fewer"],
            f"{row['z']:.1f}",
            f"{row['q']:.1g}",
            "–" if row["q_beyond"] is None else f"{row['q_beyond']:.1g}",
        )
        for row in found["grown"][:SHOWN]
    ]
    head = f"Grown: {len(found['grown'])} phrases ({found['significant']} of {found['tested']} n-grams)"
    return f"{head}\n{table(('what', 'A', 'B', 'demonstrated', 'more', 'fewer', 'z', 'q', 'q beyond'), rows)}"


def _leak(row: Mapping[str, Any]) -> tuple[Any, ...]:
    what = "any of its markers" if row["text"] is None else _short(row["text"])
    return (what, f"{row['task']} on {row['on']}", *_shares(row))


def _phrase(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row["text"], row["source"], *_shares(row))


def _shares(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (f"{row['share_a']:.1%}", f"{row['share_b']:.1%}", row["more"], row["fewer"], f"{row['q']:.1g}")


def _short(text: str, width: int = 48) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"

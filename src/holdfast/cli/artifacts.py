"""`holdfast artifacts`: phrases that became more frequent, leaked from another task, or repeat in B's answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.model_answers import AnswerSources
from holdfast.cli.options import (
    Dtype,
    JsonFile,
    Limit,
    MaxNewTokens,
    Prompts,
    Quiet,
    SamplesOption,
    Seed,
    Temperature,
)
from holdfast.cli.say import say
from holdfast.errors import ConfigError
from holdfast.model.quiet import silence_progress_bars

SHOWN = 20
"""Rows of a table on the terminal; the JSON file has all rows."""

ModelOrAnswers = Annotated[
    str, typer.Argument(help="A model folder, `lab`, or a JSON Lines file of answers.", show_default=False)
]


def artifacts(
    a: ModelOrAnswers,
    b: ModelOrAnswers,
    prompts: Prompts,
    between: Annotated[
        list[str] | None,
        typer.Option("--between", metavar="MODEL", help="A model between A and B, in order. Repeatable."),
    ] = None,
    phrase: Annotated[
        list[str] | None, typer.Option("--phrase", help="A phrase to search for and track. Repeatable.")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Count the tokenizer's tokens instead of words.")] = False,
    temperature: Temperature = 0.0,
    samples: SamplesOption = 1,
    max_new_tokens: MaxNewTokens = None,
    limit: Limit = None,
    seed: Seed = 0,
    dtype: Dtype = "float32",
    keep: Annotated[
        Path | None, typer.Option("--answers", metavar="DIR", help="Write the answers into this folder, for reuse.")
    ] = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """List what grew in B's answers compared with A's: n-grams, other tasks' markers, teacher phrases, repetition."""
    from holdfast.evaluation.answer_files import load_prompts
    from holdfast.evaluation.sampled import Sampling
    from holdfast.measure.artifacts import artifact_report
    from holdfast.store.files import write_json

    silence_progress_bars()
    asked = load_prompts(prompts, limit)
    sampling = Sampling(temperature, samples, seed, max_new_tokens)
    sources = AnswerSources(asked, sampling, dtype, keep, quiet, wants_tokens=tokens)
    for source in (a, *(between or ()), b):
        sources.check(source)
    names = ("a", *(f"between-{n}" for n in range(1, len(between or ()) + 1)), "b")
    first, *middle, last = [
        sources.answers(name, source) for name, source in zip(names, (a, *(between or ()), b), strict=True)
    ]
    if tokens and sources.encode is None:
        fix = "name a model folder as A or B, or leave out --tokens"
        raise ConfigError("--tokens needs a tokenizer, but both A and B are files of answers", fix=fix)
    report = artifact_report(
        first,
        last,
        asked,
        between=middle,
        phrases=phrase or (),
        encode=sources.encode if tokens else None,
        decode=sources.decode if tokens else None,
    )
    say(as_text(report))
    if json_file is not None:
        settings = {"a": a, "b": b, "between": list(between or ()), "sources": prompts, "temperature": temperature}
        write_json(json_file, settings | {"samples": samples, "seed": seed} | report)


def as_text(report: Mapping[str, Any]) -> str:
    """The result of `artifact_report` as tables."""
    from holdfast.cli.tables import table

    parts = [
        f"{report['prompts']} prompts, {report['answers_a']} answers of A, {report['answers_b']} of B; n-grams of "
        f"{report['unit']}; at most {report['level']:.0%} of the listed n-grams are expected to be false discoveries",
        _quality(report["quality"]),
        _grown(report),
    ]
    for title, name, empty in (
        (
            "Markers of one task on another task's prompts",
            "leaks",
            "none, or there are fewer than two tasks",
        ),
        ("Phrases of the teacher", "phrases", "none"),
    ):
        rows = [_leak(row) if name == "leaks" else _phrase(row) for row in report[name][:SHOWN]]
        header = ("what", "from", "A", "B", "more", "fewer", "q")
        parts.append(f"{title}: {empty}" if not rows else f"{title}\n{table(header, rows)}")
    if "rounds" in report:
        rows = [
            (
                row["text"],
                " ".join(f"{rate:.1%}" for rate in row["rates"]),
                f"{row['factor']:.3g}",
                f"[{row['ci95'][0]:.3g}, {row['ci95'][1]:.3g}]",
            )
            for row in report["rounds"]
        ]
        parts.append(f"Growth per round\n{table(('what', 'share of answers', 'factor', '95% CI'), rows)}")
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
    return table(("measure", "A", "B", "B − A", "95% CI"), rows)


def _grown(report: Mapping[str, Any]) -> str:
    from holdfast.cli.tables import table

    if not report["grown"]:
        return (
            f"Grown: none of the {report['tested']} n-grams that could be tested. All other n-grams differ on too few "
            "prompts for a test."
        )
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
        for row in report["grown"][:SHOWN]
    ]
    head = f"Grown: {len(report['grown'])} phrases ({report['significant']} of {report['tested']} n-grams)"
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

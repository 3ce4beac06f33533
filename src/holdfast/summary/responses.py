"""What a run keeps of its answers after a stage, and the summary's blocks about them. Imports without torch.

A record, `responses/stage-S.json`, has greedy answers by set (`answers`). After a stage it also has the comparison with
the base's answers (`entries`, `artifacts`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from holdfast.measure.answers import Answer, PromptSet
from holdfast.measure.artifacts.compare import artifact_report
from holdfast.measure.artifacts.growth import LEVEL
from holdfast.measure.artifacts.markers import share_with
from holdfast.measure.artifacts.ngrams import Ngram, Unit, units_of_text
from holdfast.measure.artifacts.phrases import words
from holdfast.measure.artifacts.repetition import LOOPING, compression_ratio, repeated_share
from holdfast.measure.artifacts.rounds import amplification
from holdfast.measure.response import compare_greedy
from holdfast.measure.scores import Json, mean

MOVED = 3
"""Number of changed answers, and of examples, that are shown."""

MOST = 20
"""Largest number of artifacts of each kind in a summary."""

DEMONSTRATIONS = 256
"""Number of demonstrations of each task that answers are compared with."""

ONE_SET = 0.9
"""An artifact belongs to one set if at least this share of the answers that gained it is on the set's prompts."""

UNMEASURED = dict.fromkeys(
    ("kl_base_to_model", "kl_base_to_model_se", "kl_model_to_base", "kl_model_to_base_se", "entropy", "entropy_base")
)

Answers = Mapping[str, Sequence[Mapping[str, Any]]]
"""By set: `id`, `prompt`, `text`, `truncated`, `reward`. The reward is None in a set that nothing judges."""

_Search = tuple[str | None, Sequence[Ngram], Any]
"""The set whose answers are searched (None: all), the n-grams, and the function that splits a text into units."""


def stage_record(
    stage: int,
    task: str | None,
    answers: Answers,
    kl: Mapping[str, Mapping[str, Any]],
    base: Answers,
    kinds: Mapping[str, str],
    demonstrations: Mapping[str, Sequence[str]],
    similarity: Mapping[str, Mapping[str, Any]] | None = None,
) -> Json:
    """The record of a stage. The record of stage 0 has only the answers.

    Args:
        kl: divergences by set, if they were measured.
        base: the base's answers to the same prompts.
        kinds: kind of each set.
        demonstrations: demonstrations of each task.
        similarity: similarity of embeddings by set, from `compare_embeddings`, if there is an embedding model.
    """
    record: Json = {"stage": stage, "task": task, "answers": answers}
    like = similarity or {}
    if stage:
        record["entries"] = [
            {"stage": stage, "task": task, "set": name, "kind": kinds[name]}
            | _compared(base[name], own)
            | {"n_kl": 0, **UNMEASURED, **kl.get(name, {})}
            | {"embedding_similarity": like.get(name, {}).get("mean")}
            | {"embedding_similarity_unlike": like.get(name, {}).get("shuffled")}
            for name, own in answers.items()
        ]
        task_of = {f"{name}/{each['id']}": name for name, own in answers.items() for each in own}
        shown = {name: texts[:DEMONSTRATIONS] for name, texts in demonstrations.items() if name in answers}
        record["artifacts"] = artifact_report(_flat(base), _flat(answers), PromptSet({}, task_of, shown))
    return record


def _flat(answers: Answers) -> list[Answer]:
    return [
        Answer(f"{name}/{each['id']}", each["text"], truncated=each["truncated"])
        for name, own in answers.items()
        for each in own
    ]


def _compared(base: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]) -> Json:
    greedy = compare_greedy(*([Answer(each["id"], each["text"]) for each in side] for side in (base, own)))
    edits = greedy["per_prompt"]
    most = sorted(range(len(own)), key=lambda i: -edits[i])[:MOVED]
    return {
        "n": len(own),
        "equal_answers": greedy["agreement"]["mean"],
        "edit_distance": greedy["edit"]["mean"],
        "length": greedy["length"]["b"],
        "length_base": greedy["length"]["a"],
        "distinct_2": greedy["distinct"]["2"]["b"],
        "distinct_2_base": greedy["distinct"]["2"]["a"],
        "moved": [
            {
                "id": own[i]["id"],
                "prompt": own[i]["prompt"],
                "base": base[i]["text"],
                "model": own[i]["text"],
                "edit_distance": edits[i],
                "reward_base": base[i]["reward"],
                "reward": own[i]["reward"],
            }
            for i in most
            if edits[i] > 0
        ],
    }


def response_entries(records: Sequence[Mapping[str, Any]]) -> list[Json]:
    """The `responses` block of a summary from the records of stages 0, 1, …"""
    return [entry for record in records for entry in record.get("entries", ())]


def repetition_entries(records: Sequence[Mapping[str, Any]]) -> list[Json]:
    """The `repetition` block of a summary: means over all answers of each record."""
    entries = []
    for record in records:
        answers = [each for own in record["answers"].values() for each in own]
        ratios = [compression_ratio(each["text"]) for each in answers]
        measured = {
            "compression": ratios,
            "repeated_4grams": [repeated_share(units_of_text(each["text"])) for each in answers],
            "looping": [float(ratio > LOOPING) for ratio in ratios],
            "truncated": [float(each["truncated"]) for each in answers],
        }
        entries.append({"stage": record["stage"], **{name: mean(values) for name, values in measured.items()}})
    return entries


def artifact_entries(
    records: Sequence[Mapping[str, Any]], probes: Sequence[Mapping[str, Any]] = (), level: float = LEVEL
) -> list[Json]:
    """The `artifacts` block of a summary: phrases that were significant after any stage, followed over all stages.

    If probes within stages keep answers, a phrase is followed there too. Each phrase is described by the stage with the
    strongest evidence, and sorted by it. A list over T stages at a false-discovery rate of q each may have a rate of
    T·q. So every q is multiplied by the number of tested stages, and the whole list of each kind is at `level`, however
    similar the stages are.
    """
    candidates: dict[tuple[Any, ...], tuple[float, Json, _Search]] = {}
    stages = sum("artifacts" in record for record in records)

    def over_stages(q: float) -> float:
        return min(1.0, stages * q)

    def consider(key: tuple[Any, ...], evidence: float, entry: Json, search: _Search) -> None:
        if key not in candidates or evidence > candidates[key][0]:
            candidates[key] = (evidence, entry, search)

    for index, record in enumerate(records):
        for grown in record.get("artifacts", {}).get("grown", ()):
            if over_stages(grown["q"]) > level:
                continue
            ngram = tuple(grown["ngram"])
            where = _one_set(records[0], record, ngram)
            curve = _curve(records, where, [ngram], units_of_text)
            entry = _entry(grown["text"], "grown", where, curve, grown["share_demonstrations"], over_stages(grown["q"]))
            beyond = None if grown["q_beyond"] is None else over_stages(grown["q_beyond"])
            more = {"z": grown["z"], "q_beyond": beyond, "examples": grown["examples"]}
            consider(("grown", ngram), grown["z"], entry | more, (where, [ngram], units_of_text))
        for leak in record.get("artifacts", {}).get("leaks", ()):
            if over_stages(leak["q"]) > level:
                continue
            own = [tuple(marker["ngram"]) for marker in record["artifacts"]["markers"][leak["task"]]]
            ngrams = own if leak["ngram"] is None else [tuple(leak["ngram"])]
            curve = _curve(records, leak["on"], ngrams, units_of_text)
            text = leak["text"] or "any of its markers"
            entry = _entry(text, "marker", leak["on"], curve, leak["share_demonstrations"], over_stages(leak["q"]))
            examples = _examples(record, leak["on"], ngrams, units_of_text)
            more = {"marker_of": leak["task"], "examples": examples}
            search = (leak["on"], ngrams, units_of_text)
            consider(("marker", leak["task"], leak["on"], text), -leak["p"], entry | more, search)
        for phrase in record.get("artifacts", {}).get("phrases", ()):
            if over_stages(phrase["q"]) > level:
                continue
            ngram = words(phrase["text"])
            curve = _curve(records, None, [ngram], words)
            entry = _entry(phrase["text"], "teacher_phrase", None, curve, None, over_stages(phrase["q"]))
            more = {"examples": _examples(record, None, [ngram], words)}
            consider(("phrase", ngram), -phrase["p"], entry | more, (None, [ngram], words))
        assert record["stage"] == index
    kept: list[Json] = []
    read = cache(lambda units, text: tuple(units(text)))  # the same answers are searched for every artifact
    for kind in ("grown", "marker", "phrase"):
        own_kind = sorted((candidates[key] for key in candidates if key[0] == kind), key=lambda each: -each[0])
        kept += [entry | {"within": _within(probes, records, *search, read)} for _, entry, search in own_kind[:MOST]]
    return kept


def _entry(
    phrase: str, kind: str, where: str | None, curve: tuple[list[int], int], in_demonstrations: float | None, q: float
) -> Json:
    counts, prompts = curve
    growth = amplification(counts, prompts)
    return {
        "phrase": phrase,
        "set": where,
        "kind": kind,
        "marker_of": None,
        "stages": list(range(len(counts))),
        "shares": [count / prompts for count in counts],
        "within": [],
        "share_demonstrations": in_demonstrations,
        "z": None,
        "q": q,
        "q_beyond": None,
        "growth": growth.factor,
        "growth_ci95": list(growth.ci95),
        "examples": [],
    }


def _hits(record: Mapping[str, Any], where: str | None, ngrams: Sequence[Ngram], units: Any) -> list[tuple[str, bool]]:
    """For each answer to one set's prompts, or to all, its prompt and whether it contains one of the n-grams."""
    hits = []
    for name, own in record["answers"].items():
        if where in (None, name):
            for each in own:
                answer: Sequence[Unit] = units(each["text"])
                hits.append((f"{name}/{each['id']}", share_with([answer], ngrams) > 0))
    return hits


def _curve(
    records: Sequence[Mapping[str, Any]], where: str | None, ngrams: Sequence[Ngram], units: Any
) -> tuple[list[int], int]:
    """Number of answers that contain one of the n-grams after each stage, and number of all answers."""
    hits = [_hits(record, where, ngrams, units) for record in records]
    return [sum(hit for _, hit in each) for each in hits], len(hits[0])


def _within(
    probes: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    where: str | None,
    ngrams: Sequence[Ngram],
    units: Any,
    read: Callable[[Any, str], Sequence[Unit]],
) -> list[Json]:
    """The share of answers that contain one of the n-grams, at each probe that asked all of the sets."""
    wanted = set(records[0]["answers"]) if where is None else {where}
    shares = []
    for probe in probes:
        answers = probe.get("answers") or {}
        if wanted <= answers.keys():
            has = [share_with([read(units, text)], ngrams) > 0 for name in wanted for text in answers[name]]
            shares.append({"stage": probe["stage"], "step": probe["step"], "share": sum(has) / len(has)})
    return shares


def _examples(record: Mapping[str, Any], where: str | None, ngrams: Sequence[Ngram], units: Any) -> list[str]:
    return [prompt for prompt, hit in _hits(record, where, ngrams, units) if hit][:MOVED]


def _one_set(before: Mapping[str, Any], after: Mapping[str, Any], ngram: Ngram) -> str | None:
    """The set whose prompts have nearly all of the growth; None if several sets have it."""
    sides = (_hits(record, None, [ngram], units_of_text) for record in (before, after))
    gained = [prompt.partition("/")[0] for (_, then), (prompt, now) in zip(*sides, strict=True) if now and not then]
    most = max(set(gained), key=gained.count, default=None)
    return most if most is not None and gained.count(most) >= ONE_SET * len(gained) else None

"""Write the gate's verdict for a pipeline: JUnit XML and Markdown."""

from xml.etree import ElementTree

from holdfast.errors import printable
from holdfast.gate.judge import GateVerdict, SetVerdict, UnjudgedSet
from holdfast.summary.words import points, signed_points

_HEADER = ("set", "items", "base", "candidate", "change", "95% CI", "worse / better", "detectable", "verdict")


def rows(verdict: GateVerdict) -> list[tuple[str, ...]]:
    """A header and one row for each set. Scores, changes and the smallest detectable drop are in points."""
    return [_HEADER, *(_row(each) for each in verdict.sets), *(_unjudged_row(each) for each in verdict.unjudged)]


def _unjudged_row(each: UnjudgedSet) -> tuple[str, ...]:
    items = "–" if each.nll is None else str(each.nll.n)
    return (each.name, items, *["–"] * (len(_HEADER) - 3), "not judged")


def _row(each: SetVerdict) -> tuple[str, ...]:
    c, (low, high) = each.items, each.items.ci95
    return (
        each.name,
        str(c.n),
        points(c.base),
        points(c.candidate),
        signed_points(c.change),
        f"{signed_points(low)} to {signed_points(high)}",
        f"{c.worse} / {c.better}",
        "–" if each.detectable is None else points(each.detectable),
        each.outcome,
    )


def as_markdown(verdict: GateVerdict, base: str, candidate: str) -> str:
    """A section for a pull request or a model card.

    Args:
        verdict: the gate's.
        base: name of the base.
        candidate: name of the candidate.
    """
    header, *body = rows(verdict)
    base, candidate = _on_one_line(base), _on_one_line(candidate)
    lines = [f"## {'Passed' if verdict.passed else 'Refused'}: {candidate} against {base}", ""]
    lines += [verdict.sentence(), ""]
    lines += [_line(header), _line(["---", *["---:"] * 7, "---"])]
    lines += [_line([name, *cells, f"**{outcome}**"]) for name, *cells, outcome in body]
    sentences = [f"- {each.sentence(verdict.margin)}" for each in verdict.sets if each.outcome != "holds"]
    sentences += [f"- {each.sentence()}" for each in verdict.unjudged]
    return "\n".join(map(_on_one_line, [*lines, *([""] if sentences else []), *sentences])) + "\n"


def as_junit(verdict: GateVerdict, base: str, candidate: str) -> str:
    """JUnit XML with one test case for each set. A set with nothing to lose is skipped. So is an inconclusive
    set, which fails if the gate is strict."""
    failed = sum(each.outcome in verdict.refused_outcomes for each in verdict.sets)
    undecided = [each for each in verdict.sets if each.outcome in ("inconclusive", "nothing to lose")]
    skipped = len(verdict.unjudged) + sum(each.outcome not in verdict.refused_outcomes for each in undecided)
    counts = {
        "tests": str(len(verdict.sets) + len(verdict.unjudged)),
        "failures": str(failed),
        "errors": "0",
        "skipped": str(skipped),
    }
    root = ElementTree.Element("testsuites", {"name": "holdfast gate", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": f"{candidate} against {base}", **counts})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("base", base), ("candidate", candidate), ("margin", points(verdict.margin))):
        ElementTree.SubElement(properties, "property", {"name": name, "value": value})
    for each in verdict.sets:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "holdfast.gate", "name": each.name})
        sentence = each.sentence(verdict.margin)
        if each.outcome in verdict.refused_outcomes:
            failure = ElementTree.SubElement(case, "failure", {"message": sentence, "type": each.outcome})
            failure.text = sentence
        elif each in undecided:
            ElementTree.SubElement(case, "skipped", {"message": sentence})
        else:
            ElementTree.SubElement(case, "system-out").text = sentence
    for unjudged in verdict.unjudged:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "holdfast.gate", "name": unjudged.name})
        ElementTree.SubElement(case, "skipped", {"message": unjudged.sentence()})
    for element in root.iter():  # XML has no escapes for control characters
        for key, value in element.items():
            element.set(key, _on_one_line(value))
        element.text = None if element.text is None else _on_one_line(element.text)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True).decode() + "\n"


def _on_one_line(text: str) -> str:
    """Text as one line without control characters, which names of sets and models may have."""
    return " ".join(printable(text).splitlines())


def _line(cells: "list[str] | tuple[str, ...]") -> str:
    return "| " + " | ".join(_on_one_line(cell).replace("|", "\\|") for cell in cells) + " |"

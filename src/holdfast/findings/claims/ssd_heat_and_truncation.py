"""Forks and locks."""

from holdfast.findings.claim import Claim
from holdfast.findings.decoding import decoding_conflict
from holdfast.findings.precondition import success
from holdfast.findings.quantity import Quantity, measured_apart

NAME = "prompts that one of eight samples solves, at the best temperature"

CLAIM = Claim(
    name="ssd-heat-and-truncation",
    statement="Imitating its own samples, drawn at high temperature and truncated, improves a model more than any "
    "decoding temperature does.",
    source="SSD, arXiv 2604.01193",
    experiment=decoding_conflict,
    preconditions=(success("songs", at_least=0.03, at_most=0.5),),
    quantities=(
        Quantity(f"{NAME}, SSD − base", "points", measured_apart, 3),
        Quantity(f"{NAME}, SSD − SSD without truncation", "points", measured_apart, 3, decides=False),
        Quantity(f"{NAME}, SSD − SSD at temperature 1", "points", measured_apart, 3, decides=False),
    ),
    against="Some decoding temperature serves the base as well.",
    note="The lab's forks have six options and its locks a thin tail, so eight samples find most solutions anyway.",
)

"""Artifacts in a model's answers: phrases that grew, phrases that leaked, repetition. Imports without torch."""

from holdfast.measure.artifacts.compare import artifact_report
from holdfast.measure.artifacts.growth import Grown, Growth, grown_ngrams, log_odds
from holdfast.measure.artifacts.markers import Leak, Marker, leaks, task_markers
from holdfast.measure.artifacts.ngrams import show, units_of_text
from holdfast.measure.artifacts.phrases import Phrase, leaked_phrases
from holdfast.measure.artifacts.repetition import compare_quality, compression_ratio, repeated_share
from holdfast.measure.artifacts.rounds import Amplification, amplification

__all__ = [
    "Amplification",
    "Grown",
    "Growth",
    "Leak",
    "Marker",
    "Phrase",
    "amplification",
    "artifact_report",
    "compare_quality",
    "compression_ratio",
    "grown_ngrams",
    "leaked_phrases",
    "leaks",
    "log_odds",
    "repeated_share",
    "show",
    "task_markers",
    "units_of_text",
]

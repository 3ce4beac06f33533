"""The report: one self-contained HTML file made from a summary, and the same numbers as terminal tables."""

from holdfast.report.build import render_report, write_report

__all__ = ["render_report", "write_report"]

"""The report of a run or a comparison: one self-contained HTML file, made from its summary alone."""

from holdfast.reporting.page import render_report, write_report

__all__ = ["render_report", "write_report"]

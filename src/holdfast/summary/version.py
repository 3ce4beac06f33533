"""The version of `summary.json`."""

SCHEMA_VERSION = 4
"""Raised by a change that breaks readers. `holdfast.summary.upgrade` reads earlier versions."""

"""The version of `summary.json`."""

SCHEMA_VERSION = 3
"""Raised by a change that breaks readers. `holdfast.summary.upgrade` reads earlier versions."""

"""Tests that need a sandbox by bubblewrap: skipped where there is none, failed where there must be one."""

import os

import pytest

from holdfast.sandbox.bubblewrap import refusal


def require_sandbox() -> None:
    """Skip; fail instead if HOLDFAST_REQUIRE_SANDBOX says that there must be a sandbox."""
    reason = refusal()
    if reason is None:
        return
    if os.environ.get("HOLDFAST_REQUIRE_SANDBOX") == "1":
        pytest.fail(f"HOLDFAST_REQUIRE_SANDBOX is 1, but {reason}")
    pytest.skip(str(reason))

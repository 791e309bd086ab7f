"""What a machine lacks, a server or a right: a skip at home, a failure in CI."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from deltaforge.errors import DeltaforgeError


def unavailable(error: DeltaforgeError) -> NoReturn:
    """Skip the test with the reason and the command that brings the server; fail where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"in CI every server must be there: {error.line()}")
    pytest.skip(error.line())


def unable(reason: str) -> NoReturn:
    """Skip the test for what this machine lacks; fail where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)

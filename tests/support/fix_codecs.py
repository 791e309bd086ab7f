"""The two forms of the codec as a parameter: one set of tests over both."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from deltaforge.twin import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

WALK, ROWS = "deltaforge._walk", "deltaforge.envelopes._compiled"


def extension(name: str) -> Any:
    """The extension module `name`. Where it was not built: a skip at home, a failure in CI."""
    try:
        return importlib.import_module(name)
    except ImportError:
        reason = f"{name} is not built: needs a C compiler and Python's headers, then `pip install -e .`"
        if os.environ.get("CI"):
            pytest.fail(f"in CI the compiled codec must be there: {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="module", params=["python", "compiled"])
def codec(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test of the module runs with each form of the codec."""
    if request.param == "compiled":
        extension(WALK)
        extension(ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, request.param)
        yield request.param


@pytest.fixture(scope="module")
def walk() -> Any:
    """The compiled loops over messages and keys."""
    return extension(WALK)

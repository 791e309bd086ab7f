"""At the end of the session: no password in anything the product wrote during any test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.canaries import leaking_files
from tests.support.process import log_directory

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def no_password_in_any_log() -> Iterator[None]:
    """The first fixture to begin is the last one to end: by then every process of the session is gone."""
    yield
    found = leaking_files(log_directory())
    assert not found, "\n".join(["passwords in the product's logs:", *found])

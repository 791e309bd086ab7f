"""Fixtures live in `tests/support/fix_*.py`."""

from __future__ import annotations

pytest_plugins = ["tests.support.fix_tls", "tests.support.fix_postgres", "tests.support.fix_kafka"]

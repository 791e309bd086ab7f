"""Fixtures live in `tests/support/fix_*.py`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.support.fix_canaries",
    "tests.support.fix_tls",
    "tests.support.fix_postgres",
    "tests.support.fix_kafka",
    "tests.support.fix_codecs",
]

# How long an example takes says something about the machine, nothing about the property.
settings.register_profile("deltaforge", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("deltaforge")

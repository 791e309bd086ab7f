"""Fixtures live in `tests/support/fix_*.py`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from deltaforge.embedded import ports

pytest_plugins = [
    "tests.support.fix_canaries",
    "tests.support.fix_tls",
    "tests.support.fix_postgres",
    "tests.support.fix_kafka",
    "tests.support.fix_codecs",
    "tests.proxy.fix_proxy",
]

# How long an example takes says something about the machine, nothing about the property.
settings.register_profile("deltaforge", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("deltaforge")


def _choose_ports_of_this_worker() -> None:
    """Another worker may be given a port between our choice and our server's start: each has a range of its own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return
    lowest, highest = ports.usable()
    size = (highest - lowest) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    start = lowest + int(worker.removeprefix("gw")) * size
    ports.usable = lambda: (start, start + size)


_choose_ports_of_this_worker()

"""Keywords for libpq."""

from __future__ import annotations

import psycopg
import trio
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.config.dsn import parse_dsn
from deltaforge.source import session

_values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)


@given(_values)
def test_libpq_reads_back_any_value(value: str) -> None:
    """A password with a quote becomes a keyword of its own."""
    text = session.conninfo({"password": value, "host": "db"}).decode()

    assert psycopg.conninfo.conninfo_to_dict(text) == {"password": value, "host": "db"}


async def test_every_host_becomes_an_attempt_and_keeps_its_name() -> None:
    """A certificate checked against an address, or a port given to the wrong host."""
    dsn = parse_dsn("postgresql://u:p@localhost:5433,127.0.0.1/db?sslmode=verify-full")
    with trio.fail_after(10):
        addresses = await session.resolve(dsn)

    attempts = session.attempts_keywords(dsn, addresses, "test")

    assert ("localhost", "127.0.0.1", "5433") in addresses
    assert attempts[-1]["host"] == attempts[-1]["hostaddr"] == "127.0.0.1"
    assert attempts[-1]["port"] == "5432"
    assert all(attempt["sslmode"] == "verify-full" for attempt in attempts)


async def test_the_dsns_keepalives_win_over_ours() -> None:
    """An operator's tuning that has no effect."""
    dsn = parse_dsn("postgresql://u@127.0.0.1/db?keepalives_idle=77")

    (attempt,) = session.attempts_keywords(dsn, await session.resolve(dsn), "test")

    assert attempt["keepalives_idle"] == "77"
    assert attempt["tcp_user_timeout"] == "30000"

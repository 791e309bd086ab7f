"""The proxy before a real PostgreSQL."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from deltaforge.embedded.ports import HOST
from tests.proxy.faults import TO_SERVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy.lane import Connection
    from tests.proxy.proxy import Proxy
    from tests.support.databases import Database

LOTS = "SELECT repeat('x', 1000000)"


@pytest.fixture
def proxy(database: Database, make_proxy: Callable[[int], Proxy]) -> Proxy:
    """A proxy before the server."""
    return make_proxy(database.server.port)


def connect(database: Database, proxy: Proxy, **params: str) -> psycopg.Connection:
    """A session through the proxy."""
    # Later parameters of a URL win over its address.
    return psycopg.connect(database.dsn(**params), host=HOST, port=proxy.port, autocommit=True)


def test_a_session_works_through_the_proxy(database: Database, proxy: Proxy) -> None:
    """Guards against a proxy that a real protocol trips over."""
    with connect(database, proxy) as session:
        assert session.execute(LOTS).fetchone() == ("x" * 1_000_000,)
    now = proxy.wait_for(lambda s: s.open == 0)
    assert now.accepted == 1
    assert now.to_client.forwarded > 1_000_000


@pytest.mark.parametrize("how", ["cut", "reset"])
def test_a_lost_connection_is_an_operational_error(database: Database, proxy: Proxy, how: str) -> None:
    """Guards against a loss that libpq takes for an answer."""
    with connect(database, proxy) as session:
        session.execute("SELECT 1")
        getattr(proxy, how)()
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_a_server_that_accepts_and_never_answers_is_given_up_after_the_connect_timeout(
    database: Database, proxy: Proxy
) -> None:
    """Guards against a start-up that waits for ever."""
    proxy.hang()
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        connect(database, proxy, connect_timeout="2")
    proxy.heal()
    with connect(database, proxy) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)


def test_a_refused_connection_is_told_as_one(database: Database, proxy: Proxy) -> None:
    """Guards against a port that is only silent."""
    proxy.refuse()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(database, proxy)


def test_the_servers_stream_can_end_in_silence_after_so_many_bytes(database: Database, proxy: Proxy) -> None:
    """Guards against a half of an answer that is taken for a whole one."""
    got: list[object] = []
    with connect(database, proxy) as session:
        session.execute("SELECT 1")
        limit = proxy.statistics().to_client.forwarded + 100_000
        proxy.drop_after(limit)

        def ask() -> None:
            try:
                got.append(session.execute(LOTS).fetchone())
            except psycopg.OperationalError as error:
                got.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        now = proxy.wait_for(lambda s: s.to_client.received > limit + 100_000)
        assert now.to_client.forwarded <= limit
        assert asking.is_alive()
        # AND only the end of the connection ends the wait
        proxy.heal()
        assert got == []
        proxy.cut()
        asking.join()
    assert isinstance(got[0], psycopg.OperationalError)


def test_a_query_waits_out_a_partition(database: Database, proxy: Proxy) -> None:
    """Guards against a partition that loses what TCP would have sent again."""
    with connect(database, proxy) as session:
        session.execute("SELECT 1")
        proxy.black_hole([TO_SERVER])
        got: list[object] = []
        asking = threading.Thread(target=lambda: got.append(session.execute("SELECT 2").fetchone()))
        asking.start()
        proxy.wait_for(lambda s: s.to_server.received > s.to_server.forwarded)
        assert asking.is_alive()
        proxy.heal()
        asking.join()
    assert got == [(2,)]


def test_the_replication_stream_can_be_cut_alone(database: Database, proxy: Proxy) -> None:
    """Guards against a fault for the stream that hits the session beside it."""

    def streams(connection: Connection) -> bool:
        return b"replication\0database\0" in connection.opening

    with connect(database, proxy) as session, connect(database, proxy, replication="database") as stream:
        identity = stream.execute("IDENTIFY_SYSTEM").fetchone()
        assert identity is not None
        proxy.cut(where=streams)
        with pytest.raises(psycopg.OperationalError):
            stream.execute("IDENTIFY_SYSTEM")
        assert session.execute("SELECT 1").fetchone() == (1,)


def test_bytes_damaged_on_their_way_to_the_client_are_not_what_the_server_sent(
    database: Database, proxy: Proxy
) -> None:
    """Guards against damage that changes nothing; PostgreSQL's protocol has no checksum that would notice."""
    with connect(database, proxy) as session:
        session.execute("SELECT 1")
        proxy.flip(proxy.statistics().to_client.forwarded + 500_000)
        row = session.execute(LOTS).fetchone()
    assert row is not None
    assert row[0].count("x") == 999_999
    assert row[0].count("y") == 1

"""Fresh databases on a real server, and SQL on them."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from tests.support.canaries import canary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deltaforge.embedded.postgres import PostgresServer

# What deltaforge needs and no more; the password has every character that a URL must quote.
CDC_USER = "cdc"
CDC_PASSWORD = canary("PostgreSQL role", extra="/@%:?#")


class Database:
    """One database of a server. The connections it opens are closed after each call."""

    def __init__(self, server: PostgresServer, name: str, params: Mapping[str, str] | None = None) -> None:
        """`params` are added to every DSN (TLS settings, for example)."""
        self.server = server
        self.name = name
        self._params = dict(params or {})

    def dsn(self, **params: str) -> str:
        """A URL for the superuser."""
        return self.server.dsn(dbname=self.name, **{**self._params, **params})

    def cdc_dsn(self, **params: str) -> str:
        """A URL for the role `CDC_USER`, which may log in and replicate; grant it what it should read."""
        return self.server.dsn(CDC_USER, CDC_PASSWORD, self.name, **{**self._params, **params})

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """An autocommit connection as superuser; the caller closes it."""
        return psycopg.connect(self.dsn(), autocommit=True)

    def execute(self, statement: str, parameters: Sequence[object] | None = None) -> None:
        """Run one statement, or several without parameters: those are one transaction unless they say COMMIT."""
        with self.connect() as connection:
            connection.execute(statement, parameters)

    def rows(self, query: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self.connect() as connection:
            return connection.execute(query, parameters).fetchall()

    def value(self, query: str, parameters: Sequence[object] | None = None) -> Any:
        """The single value of a query that returns one row of one column."""
        ((value,),) = self.rows(query, parameters)
        return value


def prepare_server(server: PostgresServer) -> None:
    """Make the role `CDC_USER` on a new server."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN REPLICATION PASSWORD {}").format(
                sql.Identifier(CDC_USER), sql.Literal(CDC_PASSWORD)
            )
        )


def create_database(
    server: PostgresServer, params: Mapping[str, str] | None = None, *, encoding: str = "UTF8"
) -> Database:
    """A database with a name of its own."""
    name = f"db_{uuid.uuid4().hex[:12]}"
    # The locale C goes with any encoding.
    made = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'")
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        if encoding == "UTF8":
            made = sql.SQL("CREATE DATABASE {}")
        connection.execute(made.format(sql.Identifier(name), sql.Literal(encoding)))
    return Database(server, name, params)


def drop_database(database: Database, within_s: float = 30.0) -> None:
    """Drop a database with its replication slots, ending whoever is connected. A server that is down is left alone."""
    if not database.server.running:
        return
    deadline = time.monotonic() + within_s
    with psycopg.connect(database.server.dsn(), autocommit=True) as connection:
        while _drop_slots(connection, database.name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the slots of {database.name} stay in use")
            time.sleep(0.05)
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name)))


def fill_wal(server: PostgresServer, segments: int) -> None:
    """Let the server write on through so many segments of WAL (16 MiB each) with nothing in them that anybody reads."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for _ in range(segments):
            connection.execute("select pg_logical_emit_message(false, 'test', 'filler')")
            connection.execute("select pg_switch_wal()")


def _drop_slots(connection: psycopg.Connection[tuple[Any, ...]], name: str) -> int:
    """Drop the slots that nobody reads, end the readers of the others; how many were left."""
    slots = connection.execute(
        "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s", (name,)
    ).fetchall()
    busy = 0
    for slot, pid in slots:
        if pid is not None:
            busy += 1
            connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            continue
        try:
            connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
        except (psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
            busy += 1
    return busy

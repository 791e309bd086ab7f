"""Names that PostgreSQL takes and nobody gives: all of them reach the server as they are, in commands and in SQL.

The tests quote with psycopg, the product with its own functions; what a real server makes of it decides.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from deltaforge.config.dsn import parse_dsn
from deltaforge.errors import OperatorError
from deltaforge.source import conn, slot
from deltaforge.source.frames import XLOG_HEADER
from deltaforge.source.relations import parse_relation
from deltaforge.source.sql import ControlSession

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.source.relations import Announced
    from tests.support.databases import Database

WAIT_S = 60
NAME_BYTES = 63
NASTY = "\"'\\ ;,()-$/*:=@?#&{}aA_0\t\näß中😀\u0301"
SHOWN = "".join(character for character in NASTY if character.isprintable() or character == "\u0301")


def _cut(name: str) -> str:
    """As much of it as PostgreSQL keeps."""
    return name.encode()[:NAME_BYTES].decode(errors="ignore")


def names(alphabet: str, others: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Names of 1 to 63 bytes, often of all 63, but for those that PostgreSQL keeps for itself."""
    short = st.text(st.sampled_from(alphabet) | others, min_size=1, max_size=12)
    long = st.text(st.sampled_from(alphabet) | others, min_size=16, max_size=70).map(lambda name: name * 4)
    return (short | long).map(_cut).filter(lambda name: not name.startswith("pg_") and name not in ("public", "none"))


ANY = names(NASTY, st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
CONFIGURED = names(SHOWN, st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=".%"))
"""What a pipeline file takes for a publication and for the parts of a table's name."""
SLOTS = st.from_regex(r"[a-z0-9_]{1,63}", fullmatch=True)
several = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
few = settings(several, max_examples=3)


@contextmanager
def made(database: Database, schema: str, table: str, column: str) -> Iterator[sql.Composable]:
    """A table, and its name quoted by psycopg."""
    name = sql.Identifier(schema, table)
    with database.connect() as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        connection.execute(sql.SQL("CREATE TABLE {} ({} int PRIMARY KEY)").format(name, sql.Identifier(column)))
    try:
        yield name
    finally:
        with database.connect() as connection:
            # Of an example that failed: the smaller one after it makes the same.
            connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
            for (publication,) in connection.execute("SELECT pubname FROM pg_publication").fetchall():
                connection.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(publication)))


async def first_transaction(dsn: str, slot_name: str, publication: str) -> list[bytes]:
    """The messages of the first transaction in the slot, as the product asks for them."""
    found: list[bytes] = []
    with await conn.connect(parse_dsn(dsn)) as connection:
        await connection.start_copy(
            slot.start_command(slot_name, publication, server_version=connection.server_version)
        )
        while not any(message[XLOG_HEADER:][:1] == b"C" for message in found):
            found += [payload for payload in await connection.read_available() if payload[:1] == b"w"]
    return found


@several
@given(ANY, ANY, ANY, ANY, SLOTS)
@example("p', two_phase 'on", 's"."x', 't"; drop table decoy; --', 'c" int, "d', "a" * NAME_BYTES)
@example('p", "decoy', "ä" * 31 + "b", '"' * NAME_BYTES, "\\", "_")
@example("p,decoy", "S", "T", "'" * NAME_BYTES, "0")
async def test_a_stream_comes_from_the_publication_of_any_name(
    database: Database, publication: str, schema: str, table: str, column: str, slot_name: str
) -> None:
    """Guards against a name that ends its quotes: another publication's rows, another option, or no stream at all."""
    dsn = database.dsn()
    with trio.fail_after(WAIT_S), made(database, schema, table, column) as name:
        # GIVEN a table in the publication, and another one in a publication beside it
        with database.connect() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS decoy (id int)")
            connection.execute(sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(sql.Identifier(publication), name))
            if publication != "decoy":
                connection.execute("CREATE PUBLICATION decoy FOR TABLE decoy")
        await slot.create_slot(parse_dsn(dsn), slot_name)
        # WHEN one transaction writes into both
        with database.connect() as connection, connection.transaction():
            connection.execute(sql.SQL("INSERT INTO {} VALUES (7)").format(name))
            connection.execute("INSERT INTO decoy VALUES (1)")
            connection.execute("SELECT pg_logical_emit_message(true, 'p', 'm')")
        messages = await first_transaction(dsn, slot_name, publication)
        await slot.drop_slot(parse_dsn(dsn), slot_name)

    # THEN the stream has the published table's row, the message that was asked for, and nothing else
    kinds = [message[XLOG_HEADER:][:1] for message in messages]
    assert kinds == [b"B", b"R", b"I", b"M", b"C"]
    announced: Announced = parse_relation(messages[1], XLOG_HEADER)
    assert (announced.schema, announced.table) == (schema, table)
    assert [found[0] for found in announced.columns] == [column]


@several
@given(CONFIGURED, CONFIGURED, CONFIGURED)
@example("p'); --", 's"', "t'")
@example('"' * NAME_BYTES, "ä" * 31 + "b", "\\" * NAME_BYTES)
async def test_the_statement_that_a_hint_names_is_the_one_that_helps(
    database: Database, publication: str, schema: str, table: str
) -> None:
    """Guards against a hint that makes another publication than the one that is missing, or cannot be executed."""
    wanted = [f"{schema}.{table}"]
    with trio.fail_after(WAIT_S), made(database, schema, table, "id") as name:
        async with ControlSession(parse_dsn(database.dsn()), "s", publication) as control:
            # WHEN the statement of each hint is executed as it stands
            with pytest.raises(OperatorError) as missing:
                await control.check_publication(wanted)
            database.execute(missing.value.hint.removeprefix("create it: "))
            assert (await control.check_publication(wanted)).tables == tuple(wanted)
            with database.connect() as connection:
                drop = sql.SQL("ALTER PUBLICATION {} DROP TABLE {}")
                connection.execute(drop.format(sql.Identifier(publication), name))
            with pytest.raises(OperatorError) as lacking:
                await control.check_publication(wanted)
            database.execute(lacking.value.hint.removeprefix("add it: "))

            # THEN nothing is missing any more
            assert (await control.check_publication(wanted)).tables == tuple(wanted)


@few
@given(CONFIGURED, CONFIGURED)
@example("d'b\\ x=y", "r'o\\le \"")
@example("ä" * 31 + "b", "\\" * NAME_BYTES)
async def test_a_dsn_leads_to_the_database_and_the_role_of_any_name(database: Database, name: str, role: str) -> None:
    """Guards against a name whose end libpq takes for a setting, and against the database beside the one meant."""
    host, port = database.server.host, database.server.port
    uri = f"postgresql://{quote(role, safe='')}@{host}:{port}/{quote(name, safe='')}"
    words = f"host={host} port={port} user='{_escaped(role)}' dbname='{_escaped(name)}'"
    with trio.fail_after(WAIT_S), _database_of(database, name, role):
        for text in (uri, words):
            dsn = parse_dsn(text)
            async with ControlSession(dsn, "s", "p") as control:
                identity = await control.identify()
            assert (identity.database, identity.user) == (name, role)
            with await conn.connect(dsn) as connection:
                rows = await connection.simple_query("SELECT current_database(), current_user")
            assert rows == [(name.encode(), role.encode())]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


@contextmanager
def _database_of(beside: Database, name: str, role: str) -> Iterator[None]:
    with psycopg.connect(beside.server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN REPLICATION").format(sql.Identifier(role)))
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(role)))
    try:
        yield
    finally:
        with psycopg.connect(beside.server.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
